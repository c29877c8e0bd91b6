"""The fixture that most storage tests need: a lake with its tables."""

from __future__ import annotations

import pytest

from storage.lake.store import Store
from storage.workspace import Workspace


@pytest.fixture
def store(workspace: Workspace) -> Store:
    """An empty lake with its tables."""
    return workspace.store()
