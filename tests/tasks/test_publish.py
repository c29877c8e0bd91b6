"""Stage `publish`: every open batch has its files, whatever happened before."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from projects import project_of

from annotation.label_set import LabelSet
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


def test_the_manifest_has_what_the_lake_knows(
    workspace: Workspace, label_set: LabelSet, reserve_batch: Reserve
) -> None:
    batch = reserve_batch(workspace, TEXTS)
    (folder,) = publish_batches(project_of(workspace))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["batch_id"], manifest["purpose"], manifest["n"]) == ("b0001-training", "training", 3)
    assert (manifest["seed"], manifest["lake_version"]) == (batch.seed, batch.lake_version)
    assert (manifest["label_set"], manifest["mix"]) == (label_set.digest, {"random": 3})
    assert [item["proposals"] for item in manifest["items"]] == [
        [{"strategy": "entropy", "score": 0.25, "rank": 1}, {"strategy": "random", "score": None, "rank": 1}],
        [{"strategy": "random", "score": None, "rank": 2}],
        [{"strategy": "random", "score": None, "rank": 3}],
    ]


def test_a_folder_that_was_lost_is_written_again_bit_for_bit(workspace: Workspace, reserve_batch: Reserve) -> None:
    reserve_batch(workspace, TEXTS)
    (folder,) = publish_batches(project_of(workspace))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    assert publish_batches(project_of(workspace)) == [folder]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_closed_batch_is_not_published(workspace: Workspace, reserve_batch: Reserve) -> None:
    close_batch(workspace.store(), reserve_batch(workspace, TEXTS).batch_id)
    assert publish_batches(project_of(workspace)) == []
    assert list(workspace.batches.iterdir()) == []
