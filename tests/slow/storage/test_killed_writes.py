"""An import, an ingest or a draw that is killed at any line and begun again ends as an undisturbed one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drafts import draft, publish
from kill_at_line import killed_at, lines_of
from lake_rows import add_rows, contents
from test_annotations import ANSWERS
from test_importing import take, write_files

from storage.lake.annotations import ingest
from storage.lake.batches import reserve
from storage.records import Assignment
from storage.workspace import Workspace

PARTS = (0.3, 0.5, 0.7, 0.85, 0.95, 1.0)


def import_files(root: Path, directory: Path) -> None:
    take(Workspace(root), directory)


def ingest_answers(root: Path, batch_id: str) -> None:
    ingest(Workspace(root).store(), batch_id, ANSWERS, "a.csv")


def reserve_batch(root: Path) -> None:
    made = draft("i1", "i2", "i3", overlap=2, assignments=[Assignment("i1", "anna"), Assignment("i2", "ben")])
    reserve(Workspace(root).store(), made, beside_open=False)


def files(workspace: Workspace) -> tuple[Path]:
    return (write_files(workspace.root.parent / "original"),)


def batch(workspace: Workspace) -> tuple[str]:
    pool(workspace)
    return (publish(workspace.store(), "i1", "i2", "i3"),)


def pool(workspace: Workspace) -> tuple[()]:
    add_rows(workspace.store(), [(f"i{k}", f"text {k}") for k in range(30)])
    return ()


def held(workspace: Workspace) -> list[Any]:
    """All that the lake holds, and who is asked."""
    asked = workspace.store().rows("SELECT item_id, annotator FROM lake.assignments ORDER BY ALL")
    return [contents(workspace.store()), asked]


@pytest.mark.parametrize(
    ("function", "prepare"), [(import_files, files), (ingest_answers, batch), (reserve_batch, pool)]
)
def test_done_again_after_kill_9_at_any_line_nothing_is_lost_or_doubled(
    function: Callable[..., None],
    prepare: Callable[[Workspace], tuple[Any, ...]],
    empty_workspace: Path,
    tmp_path: Path,
) -> None:
    def begun(name: str) -> tuple[Workspace, tuple[Any, ...]]:
        workspace = Workspace(Path(shutil.copytree(empty_workspace, tmp_path / name / "workspace")))
        return workspace, prepare(workspace)

    undisturbed, arguments = begun("undisturbed")
    before = held(undisturbed)
    lines = lines_of(function, undisturbed.root, *arguments)
    wanted = held(undisturbed)
    assert wanted != before
    for part in PARTS:
        workspace, arguments = begun(str(part))
        killed_at(round(part * lines), function, workspace.root, *arguments)
        for _ in range(2):
            function(workspace.root, *arguments)
            assert held(workspace) == wanted
