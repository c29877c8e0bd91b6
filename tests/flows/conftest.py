"""A real Prefect server for the flows' tests: a temporary one, with a home of its own, once per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.config import open_project
from flows.engine import SETTINGS
from flows.presets import DISASTER, config_text
from tasks.plan import Minimums
from tasks.project import Project

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


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A disaster-headlines workspace with small minimums: 60 evaluation, 30 training items."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pal.toml").write_text(config_text(DISASTER, Minimums(60, 0, 30)), encoding="utf-8")
    return open_project(root)
