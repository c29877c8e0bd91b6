"""Stage `publish`: every open batch has its files, whatever happened before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from projects import project_of

from storage.lake.batches import close_batch
from storage.records import Batch, Split
from storage.workspace import Workspace
from tasks.sample import publish_batches

TEXTS = {"i1": "Floods in Zürich", "i2": "=1+1", "i3": "Fire, and\nsmoke"}
Reserve = Callable[..., Batch]


def assert_whole(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {path.name for path in folder.iterdir()} == {"batch.csv", "definition.txt", "manifest.json"}
    assert [item["item_id"] for item in manifest["items"]] == list(TEXTS)
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_every_open_batch_is_published_once(workspace: Workspace, reserve_batch: Reserve) -> None:
    first = reserve_batch(workspace, TEXTS)
    second = reserve_batch(workspace, {"j1": "Cats", "j2": "Dogs"}, Split.EVALUATION)
    folders = [workspace.batches / batch.batch_id for batch in (first, second)]
    assert publish_batches(project_of(workspace)) == folders
    before = {path: path.read_bytes() for path in workspace.batches.rglob("*.*") if path.is_file()}
    assert publish_batches(project_of(workspace)) == []
    assert {path: path.read_bytes() for path in workspace.batches.rglob("*.*") if path.is_file()} == before
    assert_whole(folders[0])


def test_a_closed_batch_is_not_published(workspace: Workspace, reserve_batch: Reserve) -> None:
    close_batch(workspace.store(), reserve_batch(workspace, TEXTS).batch_id)
    assert publish_batches(project_of(workspace)) == []
    assert list(workspace.batches.iterdir()) == []
