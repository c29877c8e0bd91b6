"""A changed name holds everywhere: in the lake, and in files that come back with the earlier one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.errors import BatchError
from storage.lake.annotations import FileAnswers, HandIn, annotator_spellings, ingest, ingest_files
from storage.lake.annotators import list_annotators, rename_annotator
from storage.lake.batches import answerers_in
from storage.lake.history import history_of
from storage.lake.schema import current_labels
from storage.lake.store import Store
from storage.records import UNNAMED, Answer, Batch
from storage.workspace import Workspace

TEXTS = {"i1": "Floods", "i2": "Cats", "i3": "Fire"}


@pytest.fixture
def batch(workspace: Workspace, reserve_batch: Callable[..., Batch]) -> str:
    """Of three items; Ann answered the first two, Ben the last two, otherwise."""
    batch_id = reserve_batch(workspace, TEXTS).batch_id
    ingest(workspace.store(), batch_id, [Answer(name, "related", "Ann") for name in ("i1", "i2")], "ann.csv")
    ingest(workspace.store(), batch_id, [Answer(name, "not_related", "Ben") for name in ("i2", "i3")], "ben.csv")
    return batch_id


def labels(store: Store) -> dict[str, str | None]:
    return dict(store.rows(f"SELECT item_id, label FROM ({current_labels()}) ORDER BY 1"))


def test_files_with_earlier_names_count_for_the_name_of_now(workspace: Workspace, batch: str) -> None:
    store, before = workspace.store(), labels(workspace.store())
    assert rename_annotator(store, "ANN", " Anna  Lee") == 0
    assert rename_annotator(store, "Anna Lee", "Anna B") == 0
    assert labels(store) == before
    assert [(each.annotator, each.n_answers, each.earlier_names) for each in list_annotators(store)] == [
        ("Anna B", 2, "Ann, Anna Lee"),
        ("Ben", 2, ""),
    ]
    assert {annotator_spellings(store)[name] for name in ("ann", "anna lee", "anna b")} == {"Anna B"}
    version = store.version()
    assert ingest(store, batch, [Answer("i1", "related", "ann")], "ann.csv").n_new == 0, "the same file as it was"
    assert store.version() == version
    sent = FileAnswers("late.csv", batch, [Answer("i3", "related", "anna LEE")], HandIn("hash", stays=False))
    assert ingest_files(store, [sent])[0].n_new == 1
    assert answerers_in(store, batch)["i3"] == {"Anna B", "Ben"}
    rename_annotator(store, "anna b", "Ann")
    assert next((each.annotator, each.earlier_names) for each in list_annotators(store)) == ("Ann", "Anna B, Anna Lee")
    rename_annotator(store, "Ann", "ANN")
    assert annotator_spellings(store)["ann"] == "ANN"


def test_of_two_who_become_one_the_answer_ingested_last_counts(workspace: Workspace, batch: str) -> None:
    store = workspace.store()
    assert labels(store) == {"i1": "related", "i2": None, "i3": "not_related"}
    assert rename_annotator(store, "ann", "ben", merge=True) == 1
    assert labels(store) == {"i1": "related", "i2": "not_related", "i3": "not_related"}
    assert [(each.answer, each.counts) for each in history_of(store, "i2").answers] == [
        ("related", False),
        ("not_related", True),
    ]
    assert ingest(store, batch, [Answer("i2", "related", "Ann")], "ann.csv").n_new == 0


@pytest.mark.usefixtures("batch")
def test_what_cannot_be_is_refused(workspace: Workspace) -> None:
    version = workspace.store().version()
    for name, new in (("zoe", "x"), ("ann", "BEN"), ("ann", UNNAMED), ("ann", "Imported")):
        with pytest.raises(BatchError):
            rename_annotator(workspace.store(), name, new)
    for new in ("zoe", "ANN"):
        with pytest.raises(BatchError):
            rename_annotator(workspace.store(), "ann", new, merge=True)
    assert workspace.store().version() == version
