"""A review that is killed, or drawn twice at once, is published once."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from test_review import draw, ids_of, truth, wrong

from storage.lake.batches import published_batches
from storage.workspace import Workspace
from tasks.config.settings import BatchConfig

# Several processes, and kill -9


def assert_published_once(workspace: Workspace, wanted: list[str]) -> None:
    ((batch_id,),) = workspace.store().rows("SELECT batch_id FROM lake.batches WHERE purpose = 'review'")
    assert ids_of(workspace, batch_id) == wanted
    folder = workspace.batches / batch_id
    assert [path.name for path in workspace.batches.iterdir()] == [batch_id]
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
    assert [item["item_id"] for item in manifest["items"]] == wanted
    assert sum(manifest["annotators"].values()) == len(wanted)


def test_two_at_once_publish_one_review(
    workspace: Workspace, wrong: set[str], run_at_once: Callable[[str, Path], None]
) -> None:
    run_at_once("review", workspace.root)
    ((batch_id,),) = workspace.store().rows("SELECT batch_id FROM lake.batches WHERE purpose = 'review'")
    asked = ids_of(workspace, batch_id)
    assert len(asked) == 6
    assert_published_once(workspace, asked)


def test_a_kill_at_any_line_and_another_run_publish_one_review_whole(
    workspace: Workspace,
    wrong: set[str],
    kill_at_lines: Callable[[str, list[Path]], None],
    tmp_path: Path,
) -> None:
    roots = [Path(shutil.copytree(workspace.root, tmp_path / f"copy{k}")) for k in range(8)]
    kill_at_lines("review", roots)
    wanted = ids_of(Workspace(roots[0]), "b0001-review")
    assert len(wanted) == 6
    reserved = published = 0
    for root in roots:
        copy = Workspace(root)
        opened = published_batches(copy.store(), again=True)
        reserved += len(opened)
        published += sum((copy.batches / batch.batch_id / "manifest.json").is_file() for batch in opened)
        draw(copy, 6, asking=BatchConfig(formats=("csv",), annotators=("anna", "ben", "cleo")))
        assert_published_once(copy, wanted)
    assert 1 <= published < reserved < len(roots), "killed before the draw, between, and after"
