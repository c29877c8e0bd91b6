"""A batch whose drawing is killed at any line and begun again is published once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kill_at_line import killed_at, lines_of
from lake_rows import add_rows, contents
from test_batches import draft, pool

from storage.lake.batches import reserve
from storage.lake.store import Store
from storage.records import Assignment
from storage.workspace import Workspace


def reserve_once(root: Path) -> None:
    made = draft("i1", "i2", "i3", overlap=2, assignments=[Assignment("i1", "anna"), Assignment("i2", "ben")])
    reserve(Workspace(root).store(), made, beside_open=False)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, list[tuple[Any, ...]]]]:
    """The lines that `reserve_once` executes, and the lake that it leaves."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"))
    workspace.make()
    add_rows(workspace.store(), [(f"i{k}", f"text {k}") for k in range(30)])
    lines = lines_of(reserve_once, workspace.root)
    return lines, contents(workspace.store())


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0])
def test_reserving_again_after_kill_9_at_any_line_publishes_one_batch(
    pool: Store, workspace: Workspace, undisturbed: tuple[int, dict[str, list[tuple[Any, ...]]]], part: float
) -> None:
    lines, wanted = undisturbed
    killed_at(round(part * lines), reserve_once, workspace.root)
    reserve_once(workspace.root)
    assert contents(pool) == wanted
    assert pool.rows("SELECT item_id, annotator FROM lake.assignments ORDER BY 1") == [("i1", "anna"), ("i2", "ben")]
