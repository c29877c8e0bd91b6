"""Real servers for the slow tests: PostgreSQL, an S3 server, a Prefect server; each with a home of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from servers import S3, Postgres, postgres_server, s3_server

from flows.server.command_runs import SETTINGS

ENVIRONMENT = {**SETTINGS, "PREFECT_LOGGING_LEVEL": "CRITICAL"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a server and a worker of their own take minutes: they go first, beside all others."""
    slow = {item.path for item in items if {"live", "up"} & set(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; make a database of your own in it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server; take a folder of your own in its bucket."""
    with s3_server() as server:
        yield server


@pytest.fixture
def shared_root(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of one's own on the S3 server, as in `[files] root`; where it is and who asks is in the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"{s3.root}/{uuid.uuid4().hex}"


@pytest.fixture
def cluster(postgres: Postgres, s3: S3, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """`[lake]` catalog and data of a lake that is not there yet, on servers; secrets are in the environment."""
    for name, value in {**s3.environment, "PGPASSWORD": "secret-word"}.items():
        monkeypatch.setenv(name, value)
    name = f"lake_{uuid.uuid4().hex}"
    postgres.create(name)
    return postgres.catalog(name), f"{s3.root}/{name}"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Flows called in this process run against a temporary server."""
    os.environ.update(ENVIRONMENT)
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect-home"))
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield
