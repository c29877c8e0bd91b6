"""Maintenance that is killed at any line and begun again loses nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kill_at_line import killed_at, lines_of
from lake_histories import history
from test_maintenance import grow

from storage.upkeep.maintenance import maintain
from storage.workspace import Workspace


def tidy(root: Path) -> None:
    maintain(Workspace(root).store())


@pytest.mark.parametrize("share", [0.55, 0.8])
def test_maintaining_again_after_kill_9_at_any_line_loses_nothing(
    workspace: Workspace, tmp_path: Path, share: float
) -> None:
    store = workspace.store()
    grow(store)
    newest, wanted = store.version(), history(store)
    shutil.copytree(workspace.root, tmp_path / "undisturbed")
    lines = lines_of(tidy, tmp_path / "undisturbed")
    killed_at(int(share * lines), tidy, workspace.root)
    assert history(store, newest) == wanted
    maintain(store)
    assert history(store, newest) == wanted
    assert maintain(store).flushed_rows == 0
