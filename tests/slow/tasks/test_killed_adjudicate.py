"""An adjudication that is killed, or drawn twice at once, is published once."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from projects import project_of
from test_adjudicate import first, ids_of

from storage.lake.batches import open_batches
from storage.records import Purpose
from storage.workspace import Workspace
from tasks.ask_again import draw_disputed
from tasks.config.settings import BatchConfig
from tasks.sample import publish_batches


def assert_published_once(workspace: Workspace, purpose: Purpose, item_ids: Sequence[str]) -> None:
    """One batch of a purpose, with these items, and its files as its manifest says."""
    (batch_id,) = [
        row[0] for row in workspace.store().rows("SELECT batch_id FROM lake.batches WHERE purpose = ?", [purpose.value])
    ]
    assert ids_of(workspace, batch_id) == list(item_ids)
    folder = workspace.batches / batch_id
    assert [path.name for path in workspace.batches.iterdir()] == [batch_id]
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} == {*manifest["files"], "manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_two_at_once_publish_one_batch(
    workspace: Workspace, first: str, run_at_once: Callable[[str, Path], None]
) -> None:
    run_at_once("adjudicate", workspace.root)
    assert_published_once(workspace, Purpose.ADJUDICATION, ["i3", "i1", "i0"])


def test_a_kill_at_any_line_and_another_run_publish_one_batch_whole(
    workspace: Workspace,
    first: str,
    kill_at_lines: Callable[[str, list[Path]], None],
    tmp_path: Path,
) -> None:
    roots = [Path(shutil.copytree(workspace.root, tmp_path / f"copy{k}")) for k in range(11)]
    kill_at_lines("adjudicate", roots)
    reserved = published = 0
    for root in roots:
        copy = Workspace(root)
        opened = open_batches(copy.store())
        reserved += len(opened)
        published += sum((copy.batches / each.batch.batch_id / "manifest.json").is_file() for each in opened)
        project = project_of(copy, batch=BatchConfig(formats=("csv",)))
        draw_disputed(project)
        publish_batches(project)
        assert_published_once(copy, Purpose.ADJUDICATION, ["i3", "i1", "i0"])
    assert 1 <= published < reserved < len(roots), "killed before the draw, between, and after"
