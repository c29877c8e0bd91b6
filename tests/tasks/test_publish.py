"""Stage `publish`: every open batch has its files, whatever happened before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from projects import project_of

from annotation.batch import published_labels, read_manifest
from flows.cli.annotating import history_text, publish_formats
from storage.errors import BatchError
from storage.lake.annotations import ingest
from storage.lake.batches import close_batch
from storage.lake.history import history_of
from storage.records import Answer, Batch, Split
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


def test_a_folder_of_another_batch_with_the_same_id_is_not_used_for_a_batch(
    workspace: Workspace, reserve_batch: Reserve
) -> None:
    batch = reserve_batch(workspace, TEXTS)
    (folder,) = publish_batches(project_of(workspace))
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"created_at": "2026-01-01T00:00:00+00:00"}), encoding="utf-8")
    with pytest.raises(BatchError, match=batch.batch_id):
        publish_batches(project_of(workspace))
    folder.rename(workspace.root / "aside")
    assert publish_batches(project_of(workspace)) == [folder]


def test_a_batch_keeps_the_guideline_that_it_showed(workspace: Workspace, reserve_batch: Reserve) -> None:
    first = project_of(workspace).label_set
    described = tuple(replace(label, description=f"all of {label.name}") for label in first.labels)
    later = project_of(workspace, replace(first, question="New?", definition="Newer.", labels=described))
    batch = reserve_batch(workspace, {"i0": "Floods"})
    publish_batches(project_of(workspace))
    folder = workspace.batches / batch.batch_id
    assert published_labels(folder, later.label_set) == first
    (page,) = publish_formats(later, batch.batch_id, ["html"])
    assert "Newer." not in page.read_text(encoding="utf-8")
    ingest(workspace.store(), batch.batch_id, [Answer("i0", "related", "anna")], "a.csv")
    found = history_of(workspace.store(), "i0")
    assert [each.guideline for each in found.answers] == [first.digest] == [read_manifest(folder)["label_set"]]
    assert f"{first.digest}: batches/{batch.batch_id}" in history_text(found)


def test_a_closed_batch_is_not_published(workspace: Workspace, reserve_batch: Reserve) -> None:
    close_batch(workspace.store(), reserve_batch(workspace, TEXTS).batch_id)
    assert publish_batches(project_of(workspace)) == []
    assert list(workspace.batches.iterdir()) == []
