"""A real Prefect server for the flows' tests: a temporary one, with a home of its own, once per session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from flows.engine import SETTINGS

ENVIRONMENT = {**SETTINGS, "PREFECT_LOGGING_LEVEL": "CRITICAL"}


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
