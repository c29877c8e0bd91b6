"""A corrected text: its answers give no label any more, old files come back as stale, and it is asked again."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from lake_rows import add_rows
from projects import project_of

from annotation.formats.journal import Journal
from storage.errors import BatchError, SourceError
from storage.lake.annotations import label_counts, labelled_texts
from storage.lake.batches import find_batch, items_of
from storage.lake.history import disputed_items, history_of
from storage.lake.items import count_without_features
from storage.readers.spellings import text_hash
from storage.records import Answer, Batch, Purpose, Split
from storage.upkeep.check import check_workspace
from storage.workspace import Workspace
from tasks.change_items import ItemEdit, edit_item, erase_items, plan_of
from tasks.collect import collect_answers
from tasks.config.settings import BatchConfig
from tasks.prepare import make_features
from tasks.sample import publish_batches

TEXTS = {"i1": "Floods hit Zurich", "i2": "Cats", "i3": "Fire"}
Reserve = Callable[..., Batch]


def edited(workspace: Workspace, item_id: str, text: str) -> ItemEdit:
    return edit_item(project_of(workspace), item_id, text)


def fill(workspace: Workspace, batch_id: str, labels: dict[str, str], to: Path | None = None) -> Path:
    path = workspace.batches / batch_id / "batch.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with (to or path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "label": labels.get(row["item_id"], "")} for row in rows)
    return to or path


def text_in(workspace: Workspace, batch_id: str, item_id: str) -> str:
    with (workspace.batches / batch_id / "batch.csv").open(encoding="utf-8-sig", newline="") as file:
        return next(row["text"] for row in csv.DictReader(file) if row["item_id"] == item_id)


def test_a_labelled_item_is_asked_again_and_keeps_its_split_its_history_and_its_past(
    workspace: Workspace, reserve_batch: Reserve
) -> None:
    store, project = workspace.store(), project_of(workspace)
    first = reserve_batch(workspace, TEXTS, Split.EVALUATION).batch_id
    publish_batches(project)
    fill(workspace, first, dict.fromkeys(TEXTS, "related"))
    collect_answers(project)
    encoder_id = make_features(project)
    before = store.version()
    done = edited(workspace, "i1", "Floods hit Zürich")
    assert (done.edited.is_new, done.edited.n_outdated, done.edited.open_batches) == (True, 1, ())
    assert label_counts(store)[Split.EVALUATION] == {"related": 2}
    assert labelled_texts(store, Split.EVALUATION, before)["text"].to_pylist() == list(TEXTS.values()), "the past stays"
    assert len(history_of(store, "i1").answers) == 1
    assert not history_of(store, "i1").answers[0].counts
    assert count_without_features(store, encoder_id) == 1
    assert disputed_items(store) == []
    assert [item.text for item in items_of(store, str(done.batch_id))] == ["Floods hit Zürich"]
    assert find_batch(store, str(done.batch_id)).batch.purpose is Purpose.REVIEW
    assert edited(workspace, "i1", "Floods hit Zürich").batch_id is None, "once"
    assert not check_workspace(workspace).damaged, "the files of the first batch are of their time"
    fill(workspace, str(done.batch_id), {"i1": "not_related"})
    collect_answers(project)
    assert label_counts(store)[Split.EVALUATION] == {"related": 2, "not_related": 1}
    assert edited(workspace, "i1", "floods hit  ZÜRICH").batch_id is None, "the same text by the rule of spellings"
    assert label_counts(store)[Split.EVALUATION] == {"related": 2, "not_related": 1}


def test_files_with_the_earlier_text_come_back_as_stale_but_for_what_was_ingested_before(
    workspace: Workspace, reserve_batch: Reserve
) -> None:
    store, project = workspace.store(), project_of(workspace)
    batch_id = reserve_batch(workspace, TEXTS).batch_id
    publish_batches(project)
    copy = fill(workspace, batch_id, {"i1": "related", "i2": "related"}, workspace.root / "copy.csv")
    done = edited(workspace, "i1", "Floods hit Bern")
    assert (done.edited.open_batches, done.batch_id) == ((batch_id,), None)
    assert text_in(workspace, batch_id, "i1") == "Floods hit Bern", "nobody had filled that file in"
    copy.rename(workspace.inbox / "copy.csv")
    (report,) = collect_answers(project)
    assert (report.n_new, len(report.errors)) == (1, 1)
    with Journal(workspace.batches / batch_id / "answers-anna.jsonl") as journal:
        journal.append(batch_id, text_hash(TEXTS["i1"]), Answer("i1", "related", "anna"))
        assert len(collect_answers(project)[0].errors) == 1
        journal.append(batch_id, text_hash("Floods hit Bern"), Answer("i1", "not_related", "anna"))
        (report,) = collect_answers(project)
        assert (report.n_new, len(report.errors)) == (1, 1)
        assert label_counts(store)[Split.TRAINING] == {"related": 1, "not_related": 1}
        again = edited(workspace, "i1", "Floods hit Basel")
        assert again.batch_id is not None
        journal.append(batch_id, text_hash("Fire"), Answer("i3", "related", "anna"))
        (report,) = collect_answers(project)
        assert (report.n_new, len(report.errors)) == (1, 1), "what was ingested is no news, the first error is"
    assert label_counts(store)[Split.TRAINING] == {"related": 2}


def test_files_written_again_keep_the_columns_that_annotators_see(workspace: Workspace, reserve_batch: Reserve) -> None:
    batch_id = reserve_batch(workspace, {"i1": "Flood", "i2": "Cats"}).batch_id
    context = '{"url": "here: Floods\\nhit, \\"the TOWN\\""}'
    workspace.store().write(lambda c: c.execute(f"UPDATE lake.items SET context = '{context}'"), "context")
    project = project_of(workspace, batch=BatchConfig(context=("url",)))
    publish_batches(project)
    path = workspace.batches / batch_id / "batch.csv"
    edit_item(project, "i1", "Floods hit the town")
    assert path.read_text(encoding="utf-8").count("here") == 2
    workspace.config_file.touch()
    erased = erase_items(project, plan_of(project, ["i1"]))
    assert path.read_text(encoding="utf-8").count("here") == 1
    assert ["i2" in place for place in erased.left] == [True], "its own context holds the text"
    with pytest.raises(BatchError):  # it would come back
        edit_item(project, "i2", "FLOODS hit the town")


def test_what_cannot_be_is_refused_and_the_earlier_text_is_not_imported_again(
    workspace: Workspace, reserve_batch: Reserve
) -> None:
    store = workspace.store()
    reserve_batch(workspace, TEXTS)
    for item_id, text, error in (
        ("i9", "x", BatchError),
        ("i1", " \n", SourceError),
        ("i1", "a\0", SourceError),
        ("i1", "CATS", BatchError),
    ):
        version = store.version()
        with pytest.raises(error):
            edited(workspace, item_id, text)
        assert store.version() == version
    edited(workspace, "i1", "Floods hit Bern")
    found = add_rows(store, [("i1", TEXTS["i1"]), (None, "FLOODS hit Zurich"), ("n", "New"), ("i1", "Other")])
    assert (found.n_new, found.n_duplicates) == (1, 2)
    assert [row["text"] for row in found.conflicts.to_pylist()] == ["Other"]
    edited(workspace, "i1", TEXTS["i1"])
    assert add_rows(store, [(None, text) for text in ("Floods hit Bern", "Floods hit Zurich")]).n_new == 0
