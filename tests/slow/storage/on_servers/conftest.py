"""The lake of these tests is on servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage.workspace import Workspace


@pytest.fixture
def workspace(cluster: tuple[str, str], tmp_path: Path) -> Workspace:
    """An empty workspace with its folders, and its lake on PostgreSQL and S3."""
    made = Workspace(tmp_path / "workspace", *cluster)
    made.make()
    return made
