"""An ingest that is killed at any line and begun again loses and doubles nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kill_at_line import killed_at, lines_of
from lake_rows import add_rows, contents
from test_annotations import ANSWERS, batch_id, publish

from storage.lake.annotations import ingest
from storage.lake.store import Store
from storage.workspace import Workspace


def ingest_once(root: Path, batch_id: str) -> None:
    ingest(Workspace(root).store(), batch_id, ANSWERS, "a.csv")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, list[tuple[Any, ...]]]]:
    """The lines that `ingest_once` executes, and the lake that it leaves."""
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"))
    workspace.make()
    store = workspace.store()
    add_rows(store, [(f"i{k}", f"text {k}") for k in range(9)])
    lines = lines_of(ingest_once, workspace.root, publish(store, "i1", "i2", "i3"))
    return lines, contents(store)


@pytest.mark.parametrize("part", [0.1, 0.4, 0.55, 0.7, 0.8, 0.9, 0.97, 1.0])
def test_ingesting_again_after_kill_9_at_any_line_loses_and_doubles_nothing(
    store: Store,
    workspace: Workspace,
    batch_id: str,
    undisturbed: tuple[int, dict[str, list[tuple[Any, ...]]]],
    part: float,
) -> None:
    lines, wanted = undisturbed
    killed_at(round(part * lines), ingest_once, workspace.root, batch_id)
    ingest_once(workspace.root, batch_id)
    assert contents(store) == wanted
    ingest_once(workspace.root, batch_id)
    assert contents(store) == wanted
