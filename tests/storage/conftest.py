"""The fixture that most storage tests need: a lake with its tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lake_rows import add_rows

from storage.lake.store import Store
from storage.workspace import Workspace


@pytest.fixture(scope="session")
def pool_of_30(empty_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with 30 items, i0 to i29, in the pool."""
    made = Workspace(shutil.copytree(empty_workspace, tmp_path_factory.mktemp("pool") / "workspace"))
    add_rows(made.store(), [(f"i{k}", f"text {k}") for k in range(30)])
    made.close()
    return made.root


@pytest.fixture
def store(workspace: Workspace) -> Store:
    """An empty lake with its tables."""
    return workspace.store()
