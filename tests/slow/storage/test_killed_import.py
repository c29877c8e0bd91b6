"""An import that is killed at any line and begun again ends as an undisturbed one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from kill_at_line import killed_at, lines_of
from lake_rows import contents
from test_importing import directory, labels, take, write_files

from storage.records import Split
from storage.workspace import Workspace

# kill -9


def take_once(root: Path, directory: Path) -> None:
    take(Workspace(root), directory)


@pytest.fixture(scope="module")
def undisturbed(
    empty_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, list[tuple[Any, ...]]]]:
    """The lines that an import executes, and the lake that it leaves."""
    root = tmp_path_factory.mktemp("undisturbed")
    workspace = Workspace(Path(shutil.copytree(empty_workspace, root / "workspace")))
    lines = lines_of(take_once, workspace.root, write_files(root / "original"))
    return lines, contents(workspace.store())


@pytest.mark.parametrize("part", [0.15, 0.4, 0.6, 0.75, 0.82, 0.88, 0.94, 1.0])
def test_importing_again_after_kill_9_at_any_line_ends_as_if_undisturbed(
    workspace: Workspace, directory: Path, undisturbed: tuple[int, dict[str, list[tuple[Any, ...]]]], part: float
) -> None:
    lines, wanted = undisturbed
    killed_at(round(part * lines), take_once, workspace.root, directory)
    take_once(workspace.root, directory)
    assert contents(workspace.store()) == wanted
    assert len(wanted["items"]) == 9
    assert {split for _, split, _ in labels(workspace.store())} == set(Split)
