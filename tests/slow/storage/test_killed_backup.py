"""A backup or restore that is killed leaves nothing half, and the next one is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kill_at_line import killed_at, lines_of
from lake_histories import history
from lake_rows import add_rows
from test_backup import at, lived

from storage.upkeep.backup import back_up, read_backup, restore
from storage.workspace import Workspace


def back_up_at(root: Path, folder: Path) -> None:
    back_up(Workspace(root), folder)


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_killed_backup_leaves_the_one_before_it_and_the_next_is_whole(
    lived: Workspace, tmp_path: Path, share: float
) -> None:
    first, _ = back_up(lived, tmp_path / "kept")
    before = history(lived.store())
    shutil.copytree(tmp_path / "kept", tmp_path / "undisturbed")
    add_rows(lived.store(), [("new", "a new text")])
    lines = lines_of(back_up_at, lived.root, tmp_path / "undisturbed")
    killed_at(int(share * lines), back_up_at, lived.root, tmp_path / "kept")
    assert read_backup(tmp_path / "kept") == first
    restore(tmp_path / "kept", tmp_path / "again")
    assert history(at(tmp_path / "again", lived).store()) == before
    back_up(lived, tmp_path / "kept")
    restore(tmp_path / "kept", tmp_path / "again2")
    assert history(at(tmp_path / "again2", lived).store()) == history(lived.store())


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_killed_restore_leaves_nothing_of_itself_and_the_next_is_whole(
    lived: Workspace, tmp_path: Path, share: float
) -> None:
    back_up(lived, tmp_path / "kept")
    lines = lines_of(restore, tmp_path / "kept", tmp_path / "undisturbed")
    killed_at(int(share * lines), restore, tmp_path / "kept", tmp_path / "again")
    assert not (tmp_path / "again").exists()
    restore(tmp_path / "kept", tmp_path / "again")
    assert history(at(tmp_path / "again", lived).store()) == history(lived.store())
    assert list(tmp_path.glob(".again*")) == []
