"""The fixtures that most storage tests need: a lake with its tables, and one with a history."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lake_histories import live

from storage.lake.store import Store
from storage.workspace import Workspace


@pytest.fixture
def store(workspace: Workspace) -> Store:
    """An empty lake with its tables."""
    return workspace.store()


@pytest.fixture(scope="session")
def lived_once(empty_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose lake has a history, to be copied."""
    made = Workspace(shutil.copytree(empty_workspace, tmp_path_factory.mktemp("lived") / "workspace"))
    live(made.store())
    made.close()
    return made.root
