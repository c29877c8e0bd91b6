"""A real Prefect server for tests that call Prefect in this process: with a home of its own, once per session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from flows.engine import SETTINGS


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server for the clients of this process."""
    os.environ.update({**SETTINGS, "PREFECT_LOGGING_LEVEL": "CRITICAL"})
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect-home"))
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
