"""Annotations: appended exactly once, never changed, whoever reads which copy of a file when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from drafts import labels, publish
from lake_rows import add_rows
from together import together

from storage.lake.annotations import (
    FileAnswers,
    HandIn,
    Ingested,
    LabelledItem,
    annotator_spellings,
    answered_items,
    import_labelled,
    ingest,
    ingest_files,
    label_counts,
    labelled_texts,
    read_files,
)
from storage.lake.batches import close_batch, find_batch, proposals_of
from storage.lake.schema import current_labels
from storage.lake.store import Store
from storage.records import Answer, Assignment, BatchStatus, Proposal, Split
from storage.workspace import Workspace

TIME = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def yes(item_id: str, annotator: str = "anna", **more: Any) -> Answer:
    return Answer(item_id, "yes", annotator, **more)


def no(item_id: str, annotator: str = "anna", **more: Any) -> Answer:
    return Answer(item_id, "no", annotator, **more)


def hand_in(
    store: Store, batch_id: str, answers: Sequence[Answer], name: str, sha256: str = "", *, again: bool = False
) -> Ingested:
    """Ingest a file that was put into the inbox."""
    came = HandIn(sha256, stays=False, again=again)
    return ingest_files(store, [FileAnswers(name, batch_id, answers, came)])[0]


@pytest.fixture
def batch_id(store: Store) -> str:
    """A batch of i1, i2, i3, published."""
    add_rows(store, [(f"i{k}", f"text {k}") for k in range(9)])
    return publish(store, "i1", "i2", "i3")


def test_an_answer_is_kept_with_all_it_says(store: Store, batch_id: str) -> None:
    local = TIME.astimezone(timezone(timedelta(hours=5, minutes=30)))
    answer = yes("i1", note='it\'s "odd"\n{\\}', seconds=1.25, annotated_at=local)
    before = datetime.now(UTC).replace(tzinfo=None)
    assert ingest(store, batch_id, [answer], "inbox/a.csv") == Ingested(1, 0, False)
    row = store.rows("SELECT * EXCLUDE ingested_at FROM lake.annotations")[0]
    utc = TIME.replace(tzinfo=None)
    assert row == ("i1", "anna", "yes", 'it\'s "odd"\n{\\}', batch_id, 1.25, utc, "inbox/a.csv", 1)
    ((ingested_at,),) = store.rows("SELECT ingested_at FROM lake.annotations")
    assert before <= ingested_at <= datetime.now(UTC).replace(tzinfo=None)


def test_each_ingest_has_the_next_number_whatever_the_clocks_say(store: Store, batch_id: str) -> None:
    ingest(store, batch_id, [yes("i1"), yes("i2", annotated_at=TIME + timedelta(days=36_500))], "a.csv")
    ingest(store, batch_id, [yes("i1", annotated_at=TIME - timedelta(days=36_500))], "b.csv")
    ingest(store, batch_id, [yes("i1", annotated_at=TIME - timedelta(days=36_500))], "b.csv")
    rows = store.rows("SELECT ingestion, source_file FROM lake.annotations ORDER BY ALL")
    assert rows == [(1, "a.csv"), (1, "a.csv"), (2, "b.csv")]


def test_an_answer_without_a_time_was_given_when_it_came_in(store: Store, batch_id: str) -> None:
    ingest(store, batch_id, [yes("i1")], "a.csv")
    assert store.rows("SELECT annotated_at = ingested_at, seconds FROM lake.annotations") == [(True, None)]


@pytest.mark.parametrize("at", [None, TIME])
def test_the_same_file_again_appends_nothing(store: Store, batch_id: str, at: datetime | None) -> None:
    answers = [yes("i1", annotated_at=at), no("i2", note="why", annotated_at=at), yes("i1", "bert", annotated_at=at)]
    assert ingest(store, batch_id, answers, "a.csv") == Ingested(3, 0, False)
    before = store.rows("FROM lake.annotations ORDER BY ALL")
    assert ingest(store, batch_id, answers, "a.csv") == Ingested(0, 3, False)
    assert hand_in(store, batch_id, answers, "inbox/copy of a.csv") == Ingested(0, 3, False)
    assert store.rows("FROM lake.annotations ORDER BY ALL") == before


def test_a_file_that_stays_does_not_take_back_a_correction_by_what_it_said_before(store: Store, batch_id: str) -> None:
    ingest(store, batch_id, [yes("i1")], "a.csv")
    hand_in(store, batch_id, [no("i1")], "corrected.csv", "2")
    assert ingest(store, batch_id, [yes("i1"), yes("i2")], "a.csv") == Ingested(1, 1, False)
    assert labels(store) == {"i1": "no", "i2": "yes"}


def test_files_handed_in_count_in_their_order_and_only_bytes_that_were_ingested_before_change_nothing(
    store: Store, batch_id: str
) -> None:
    later = TIME + timedelta(days=36_500)
    assert hand_in(store, batch_id, [yes("i1", annotated_at=later)], "a.csv", "1").n_new == 1
    assert hand_in(store, batch_id, [no("i1")], "b.csv", "2").n_corrected == 1
    again = hand_in(store, batch_id, [yes("i1", annotated_at=later)], "c.csv", "1")
    assert (again.n_new, again.n_known, again.known_since is not None) == (0, 1, True)
    assert labels(store) == {"i1": "no"}
    assert hand_in(store, batch_id, [yes("i1", annotated_at=TIME)], "a.csv", "3").n_corrected == 1
    assert labels(store) == {"i1": "yes"}
    assert hand_in(store, batch_id, [no("i1")], "b.csv", "2", again=True).n_corrected == 1
    assert labels(store) == {"i1": "no"}


def test_annotators_whose_names_are_the_same_are_one_annotator(store: Store, batch_id: str) -> None:
    for name in ("Zoe\u0301 Lee", "zo\u00e9  lee", "\uff3ao\u00c9 LEE\u200b"):
        ingest(store, batch_id, [yes("i1", name)], f"{name}.csv")
    assert {row[0] for row in store.rows("SELECT annotator FROM lake.annotations")} == {"Zoe\u0301 Lee"}
    assert annotator_spellings(store) == {"zo\u00e9 lee": "Zoe\u0301 Lee"}


def test_one_file_may_change_its_mind_and_change_it_back(store: Store, batch_id: str) -> None:
    for answer in (yes("i1"), no("i1"), yes("i1")):
        assert ingest(store, batch_id, [answer], "a.csv").n_new == 1
        assert ingest(store, batch_id, [answer], "a.csv").n_new == 0
    assert ingest(store, batch_id, [yes("i1", note="sure?")], "a.csv").n_new == 1, "a note is news too"
    rows = store.rows("SELECT answer FROM lake.annotations ORDER BY ingestion")
    assert (labels(store), rows) == ({"i1": "yes"}, [("yes",), ("no",), ("yes",), ("yes",)])


def test_a_journal_may_hold_a_change_of_mind_and_back(store: Store, batch_id: str) -> None:
    journal = [
        yes("i1", annotated_at=TIME),
        no("i1", annotated_at=TIME + timedelta(seconds=5)),
        yes("i1", annotated_at=TIME + timedelta(seconds=9)),
    ]
    assert [ingest(store, batch_id, journal[:n], "j.jsonl").n_new for n in (1, 2, 2, 3, 3)] == [1, 1, 0, 1, 0]
    assert labels(store) == {"i1": "yes"}
    assert store.rows("SELECT count(*) FROM lake.annotations") == [(3,)]


def test_the_same_answer_in_two_batches_is_two_annotations(store: Store, batch_id: str) -> None:
    ingest(store, batch_id, [yes("i2")], "a.csv")
    close_batch(store, batch_id)
    other = publish(store, "i1", "i4")
    assert ingest(store, batch_id, [yes("i1")], "a.csv").n_new == 1
    assert ingest(store, other, [yes("i1")], "a.csv").n_new == 1


def test_a_batch_is_complete_when_its_last_item_has_any_answer(store: Store, batch_id: str) -> None:
    assert not ingest(store, batch_id, [yes("i1"), yes("i1", "bert"), yes("i1", "cleo")], "a.csv").complete
    assert not ingest(store, batch_id, [Answer("i2", "skip", "anna")], "a.csv").complete
    assert find_batch(store, batch_id).batch.status == BatchStatus.PUBLISHED
    assert ingest(store, batch_id, [Answer("i3", "unsure", "anna")], "b.csv").complete
    assert find_batch(store, batch_id).batch.status == BatchStatus.INGESTED
    assert ingest(store, batch_id, [no("i3")], "b.csv") == Ingested(1, 0, True, n_corrected=1)


def test_a_batch_is_complete_at_the_moment_when_each_item_has_its_answers_of_different_annotators_in_any_order(
    store: Store,
) -> None:
    add_rows(store, [(f"i{k}", f"text {k}") for k in range(9)])
    ids = ("i1", "i2", "i3")
    batch_id = publish(store, *ids, overlap=2, assignments=[Assignment("i5", "anna", gold=True)])
    draw = random.Random(1)
    answers = [
        Answer(item_id, draw.choice(("yes", "skip")), who)
        for item_id in (*ids, "i5")
        for who in ("anna", "ben", "cleo")
    ]
    answered: dict[str, set[str]] = {item_id: set() for item_id in ids}
    for k, each in enumerate(draw.sample(answers, len(answers))):
        if each.item_id in answered:
            answered[each.item_id].add(each.annotator)
        complete = all(len(names) >= 2 for names in answered.values())
        assert ingest(store, batch_id, [each], f"{each.annotator}-{k % 2}.csv").complete is complete
        assert (find_batch(store, batch_id).batch.status == BatchStatus.INGESTED) is complete


def test_a_late_answer_to_a_closed_batch_counts_and_leaves_it_closed(store: Store, batch_id: str) -> None:
    close_batch(store, batch_id)
    answers = [yes(f"i{k}") for k in (1, 2, 3)]
    assert ingest(store, batch_id, answers, "late.csv") == Ingested(3, 0, False)
    assert find_batch(store, batch_id).batch.status == BatchStatus.CLOSED
    assert labels(store) == {"i1": "yes", "i2": "yes", "i3": "yes"}


# Labels given elsewhere


def test_labels_given_elsewhere_are_a_batch_that_is_done(store: Store) -> None:
    add_rows(store, [("a", "one"), ("b", "two")])
    labelled = [LabelledItem("b", "yes", "low confidence", 0.75), LabelledItem("a", "no", "original", None)]
    assert import_labelled(store, "original-evaluation", Split.EVALUATION, labelled, "digest", "dir") == 2
    batch = find_batch(store, "original-evaluation").batch
    assert (batch.purpose, batch.status, batch.n, batch.label_set) == ("evaluation", "ingested", 2, "digest")
    assert proposals_of(store, "original-evaluation") == [
        Proposal("b", "low confidence", 0.75, 1),
        Proposal("a", "original", None, 2),
    ]
    assert store.rows("SELECT item_id, annotator, answer, source_file FROM lake.annotations ORDER BY 1") == [
        ("a", "original", "no", "dir"),
        ("b", "original", "yes", "dir"),
    ]


def test_labels_taken_twice_are_taken_once_and_more_of_them_make_another_batch(store: Store) -> None:
    add_rows(store, [(name, name) for name in "abc"])
    one, two, three = (LabelledItem(name, "yes", "original", None) for name in "abc")
    taken = [import_labelled(store, "o", Split.TRAINING, items, "d", "f") for items in ([one], [one], [one, two], [])]
    assert taken == [1, 0, 1, 0]
    assert import_labelled(store, "o-b", Split.TRAINING, [three], "d", "f") == 1
    assert store.rows("SELECT batch_id, n FROM lake.batches ORDER BY 1") == [("o", 1), ("o-2", 1), ("o-b", 1)]


def test_an_item_with_any_answer_keeps_its_split_and_its_label(store: Store, batch_id: str) -> None:
    ingest(store, batch_id, [no("i1"), Answer("i2", "skip", "anna")], "a.csv")
    labelled = [LabelledItem(f"i{k}", "yes", "original", None) for k in (1, 2, 3)]
    assert import_labelled(store, "o", Split.EVALUATION, labelled, "d", "f") == 1
    assert store.rows(f"SELECT item_id, split, label FROM ({current_labels()}) ORDER BY 1") == [
        ("i1", "training", "no"),
        ("i2", "training", None),
        ("i3", "evaluation", "yes"),
    ]


# What follows from them


def test_the_labelled_texts_of_a_split_are_those_of_the_version_asked_for(store: Store, batch_id: str) -> None:
    ingest(store, batch_id, [yes("i2"), no("i1"), Answer("i3", "unsure", "anna")], "a.csv")
    version = store.version()
    evaluation = publish(store, "i5", purpose=Split.EVALUATION)
    ingest(store, evaluation, [yes("i5")], "e.csv")
    ingest(store, batch_id, [yes("i1"), yes("i3")], "a.csv")
    assert labelled_texts(store, Split.TRAINING, version).to_pylist() == [
        {"item_id": "i1", "text": "text 1", "label": "no"},
        {"item_id": "i2", "text": "text 2", "label": "yes"},
    ]
    assert labelled_texts(store, Split.EVALUATION, version).num_rows == 0
    now = store.version()
    assert labelled_texts(store, Split.TRAINING, now)["label"].to_pylist() == ["yes", "yes", "yes"]
    assert labelled_texts(store, Split.EVALUATION, now)["item_id"].to_pylist() == ["i5"]


def test_counts_are_of_items_by_split_and_label(store: Store, batch_id: str) -> None:
    assert label_counts(store) == {split: {} for split in Split}
    ingest(store, batch_id, [yes("i1"), yes("i2"), no("i2", "bert"), Answer("i3", "skip", "anna")], "a.csv")
    ingest(store, publish(store, "i5", "i6", purpose=Split.EVALUATION), [no("i5"), no("i6"), no("i6", "b")], "e.csv")
    assert label_counts(store) == {
        Split.TRAINING: {"yes": 1},
        Split.VALIDATION: {},
        Split.EVALUATION: {"no": 2},
    }
    counts, unlabelled = answered_items(store)
    assert (counts, sorted(unlabelled)) == (label_counts(store), ["i2", "i3"])


def test_what_was_read_last_of_a_file_is_remembered(store: Store) -> None:
    assert read_files(store) == {}
    for file, sha256 in (("a", "1"), ("b", "2"), ("a", "3")):
        assert ingest_files(store, [], {file: sha256}) == []
    assert read_files(store) == {"a": "3", "b": "2"}


# Several processes, and kill -9

ANSWERS = [yes(f"i{k}") for k in (1, 2, 3)] + [no("i1", "bert"), no("i2", "bert", annotated_at=TIME)]


def ingest_there(workspace: Workspace, batch_id: str) -> Ingested:
    return ingest(workspace.store(), batch_id, ANSWERS, "a.csv")


def test_two_processes_that_read_one_file_at_the_same_time_append_it_once(
    store: Store, workspace: Workspace, batch_id: str
) -> None:
    results = together(ingest_there, *[(workspace, batch_id)] * 2)
    assert sorted(result.n_new for result in results) == [0, 5]
    assert [result.complete for result in results] == [True, True]
    assert store.rows("SELECT count(*) FROM lake.annotations") == [(5,)]
