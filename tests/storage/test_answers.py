"""What is disputed, what an adjudicator decides for good, whose answers are independent, and an item's history."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from drafts import labels, publish

from storage.errors import BatchError
from storage.lake.annotations import LabelledItem, answered_items, import_labelled, ingest
from storage.lake.annotators import people
from storage.lake.batches import close_batch, find_batch
from storage.lake.history import (
    annotators_of,
    answers_before,
    count_disputed,
    disputed_items,
    gold_items,
    history_of,
    independent_answers,
    reviewed_items,
    settled_labels,
)
from storage.lake.schema import current_labels
from storage.lake.store import Store
from storage.records import ORIGINAL, UNNAMED, Answer, Assignment, Purpose, Split
from storage.workspace import Workspace

START = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def pool(pool_of_30: Path, tmp_path: Path) -> Store:
    """A lake with 30 items, i0 to i29, in the pool."""
    return Workspace(shutil.copytree(pool_of_30, tmp_path / "workspace")).store()


def give(store: Store, batch_id: str, item_id: str, answers: str, at: int = 0) -> None:
    """Ingest answers as in "anna:yes ben:no", the first `at` minutes after the start, each a minute after the last."""
    pairs = [pair.split(":") for pair in answers.split()]
    given = [
        Answer(item_id, answer, who, annotated_at=START + timedelta(minutes=at + k))
        for k, (who, answer) in enumerate(pairs)
    ]
    ingest(store, batch_id, given, f"{batch_id}.csv")


def adjudicate(store: Store, item_id: str, answers: str, at: int = 0) -> str:
    """Have items that are disputed, or anything else, adjudicated; the batch is closed afterwards."""
    batch_id = publish(store, item_id, purpose=Purpose.ADJUDICATION)
    give(store, batch_id, item_id, answers, at)
    close_batch(store, batch_id)
    return batch_id


# Disputed


def test_disputed_is_what_is_level_or_mostly_unsure_but_not_what_all_skipped(pool: Store) -> None:
    cases = {
        "anna:yes ben:no": True,
        "anna:unsure ben:unsure": True,
        "anna:yes ben:unsure": True,
        "anna:unsure ben:unsure cleo:yes": True,
        "anna:skip ben:skip": False,
        "anna:yes ben:skip": False,
        "anna:yes ben:yes": False,
        "anna:yes ben:no cleo:no": False,
        "anna:unsure ben:yes anna:skip": False,
    }
    items = {f"i{k}": answers for k, answers in enumerate(cases)}
    batch_id = publish(pool, *items, overlap=2)
    for item_id, answers in items.items():
        give(pool, batch_id, item_id, answers)
    assert {items[item_id] for item_id in disputed_items(pool)} == {answers for answers in cases if cases[answers]}
    assert count_disputed(pool, answered_items(pool)[1]) == sum(cases.values())


def test_what_an_open_batch_still_waits_for_is_not_disputed_yet(pool: Store) -> None:
    batch_id = publish(pool, "i1", "i2", "i3", overlap=2)
    give(pool, batch_id, "i1", "anna:unsure anna:yes anna:unsure")
    give(pool, batch_id, "i2", "anna:unsure ben:yes")
    assert disputed_items(pool) == ["i2"], "it has its two answers, though the batch is open"
    close_batch(pool, batch_id)
    assert disputed_items(pool) == ["i2", "i1"], "no answer is to come"


def test_answers_to_one_open_batch_do_not_stand_for_those_to_another(pool: Store) -> None:
    give(pool, publish(pool, "i1", overlap=2), "i1", "anna:yes ben:no")
    review = publish(pool, "i1", purpose=Purpose.REVIEW)
    assert disputed_items(pool) == []
    give(pool, review, "i1", "cleo:unsure", at=9)
    assert disputed_items(pool) == ["i1"]


def test_the_disputes_answered_longest_ago_come_first(pool: Store) -> None:
    batch_id = publish(pool, "i1", "i2", "i3", "i4", overlap=2)
    for item_id, at in (("i1", 30), ("i2", 10), ("i3", 20), ("i4", 20)):
        give(pool, batch_id, item_id, "anna:yes ben:no", at)
    assert disputed_items(pool) == ["i2", "i3", "i4", "i1"]


def test_a_dispute_is_asked_again_until_an_adjudicator_answered_it_in_any_way(pool: Store) -> None:
    first = publish(pool, "i1", "i2", overlap=2)
    for item_id in ("i1", "i2"):
        give(pool, first, item_id, "anna:yes ben:no")
    again = publish(pool, "i1", purpose=Purpose.ADJUDICATION)
    assert disputed_items(pool) == ["i2"], "the other is out"
    close_batch(pool, again)
    assert disputed_items(pool) == ["i1", "i2"], "it came back without an answer"
    adjudicate(pool, "i1", "zoe:unsure", at=9)
    adjudicate(pool, "i2", "zoe:skip", at=9)
    assert disputed_items(pool) == []
    give(pool, first, "i1", "cleo:maybe", at=20)
    assert disputed_items(pool) == [], "more answers do not bring it back"
    assert labels(pool)["i1"] is None


# Settled


def test_what_an_adjudicator_says_stands_against_later_and_late_answers_of_any_number(pool: Store) -> None:
    first = publish(pool, "i1", overlap=2)
    give(pool, first, "i1", "anna:yes ben:no")
    adjudicate(pool, "i1", "zoe:no", at=5)
    assert settled_labels(pool) == {"i1": "no"}
    give(pool, first, "i1", "anna:yes ben:yes cleo:yes zoe:yes unnamed:yes", at=50)
    gold = publish(pool, "i2", assignments=[Assignment("i2", "dora"), Assignment("i1", "dora", gold=True)])
    give(pool, gold, "i1", "dora:yes", at=60)
    give(pool, publish(pool, "i1", purpose=Purpose.REVIEW), "i1", "erik:yes", at=70)
    assert (labels(pool)["i1"], settled_labels(pool)) == ("no", {"i1": "no"})
    assert pool.rows(f"SELECT split FROM ({current_labels()}) WHERE item_id = 'i1'") == [("training",)]


@pytest.mark.parametrize(("newest", "label"), [("yes", "yes"), ("unsure", None), ("skip", None)])
def test_a_later_adjudication_replaces_the_one_before_whoever_gives_it_and_whatever_the_clocks_say(
    pool: Store, newest: str, label: str | None
) -> None:
    give(pool, publish(pool, "i1", overlap=2), "i1", "anna:yes ben:no")
    adjudicate(pool, "i1", "yann:no", at=9)
    adjudicate(pool, "i1", f"zoe:{newest}", at=-5)  # by a clock that was set back
    assert labels(pool)["i1"] == label
    assert settled_labels(pool) == ({"i1": label} if label else {})


@pytest.mark.parametrize("order", [1, -1])
def test_two_adjudicators_in_one_file_without_times_give_one_label_and_history_says_whose(
    pool: Store, order: int
) -> None:
    give(pool, publish(pool, "i1", overlap=2), "i1", "anna:yes ben:no")
    again = publish(pool, "i1", purpose=Purpose.ADJUDICATION)
    ingest(pool, again, [Answer("i1", "no", "zoe"), Answer("i1", "yes", "yann")][::order], "z.csv")
    assert labels(pool)["i1"] == "no"
    assert [each.annotator for each in history_of(pool, "i1").answers if each.counts] == ["zoe"]


def test_an_item_that_nobody_disputes_can_be_adjudicated_too(pool: Store) -> None:
    give(pool, publish(pool, "i1", overlap=2), "i1", "anna:yes ben:yes")
    adjudicate(pool, "i1", "zoe:no", at=-9)
    assert labels(pool)["i1"] == "no", "even by an answer that is older than all the others"


def test_labels_of_a_version_before_the_adjudication_are_those_of_the_annotators(pool: Store) -> None:
    give(pool, publish(pool, "i1"), "i1", "anna:yes ben:yes")
    version = pool.version()
    adjudicate(pool, "i1", "zoe:no", at=9)
    assert pool.rows(f"SELECT label FROM ({current_labels(version)})") == [("yes",)]


def test_an_adjudicator_is_shown_the_answers_that_stood_when_the_batch_was_drawn(pool: Store) -> None:
    first = publish(pool, "i1", "i2", "i3", overlap=2)
    give(pool, first, "i1", "anna:yes ben:yes anna:no")
    give(pool, first, "i2", "ben:unsure anna:unsure")
    give(pool, first, "i3", "ben:yes anna:no")
    ingest(pool, first, [Answer("i2", "unsure", "cleo", "which town?", annotated_at=START)], "c.csv")
    again = publish(pool, "i1", "i2", purpose=Purpose.ADJUDICATION)
    give(pool, first, "i1", "anna:yes cleo:yes", at=20)
    give(pool, again, "i1", "zoe:yes", at=30)
    assert answers_before(pool, find_batch(pool, again).batch) == {
        "i1": [("anna", "no", ""), ("ben", "yes", "")],
        "i2": [("anna", "unsure", ""), ("ben", "unsure", ""), ("cleo", "unsure", "which town?")],
    }


# Gold and review


def test_gold_items_are_the_settled_ones_that_an_annotator_was_asked_unmarked(pool: Store) -> None:
    for k, answer in enumerate(("yes", "no", "unsure", "yes"), start=1):
        own = [Assignment(f"i{k}", who) for who in ("anna", "ben")]
        give(pool, publish(pool, f"i{k}", overlap=2, assignments=own), f"i{k}", "anna:yes ben:no")
        adjudicate(pool, f"i{k}", f"zoe:{answer}", at=9)
    assert gold_items(pool) == {}, "annotators who answered an item before it was settled were not tested"
    asked = (("i5", "cleo"), ("i1", "cleo"), ("i3", "cleo"), ("i6", "dora"), ("i2", "dora"), ("i1", "dora"))
    own = [Assignment(item_id, who, gold=item_id not in ("i5", "i6")) for item_id, who in asked]
    batch_id = publish(pool, "i5", "i6", assignments=own)
    assert gold_items(pool) == {"cleo": {"i1": "yes"}, "dora": {"i1": "yes", "i2": "no"}}
    give(pool, batch_id, "i1", "cleo:yes dora:no")
    give(pool, batch_id, "i2", "dora:no")
    tested = {each.annotator: (each.n_gold, each.n_right) for each in people(pool) if each.n_gold}
    assert tested == {"cleo": (1, 1), "dora": (2, 1)}


def test_reviewed_are_the_items_answered_in_a_review_or_adjudicated(pool: Store) -> None:
    for k in range(1, 5):
        give(pool, publish(pool, f"i{k}"), f"i{k}", "anna:yes")
    assert reviewed_items(pool) == set()
    review = publish(pool, "i1", "i2", purpose=Purpose.REVIEW)
    give(pool, review, "i1", "ben:yes", at=5)
    close_batch(pool, review)
    adjudicate(pool, "i3", "zoe:unsure", at=5)
    assert reviewed_items(pool) == {"i1", "i3"}, "not one that a closed review gave back unanswered"


def test_who_answered_or_is_being_asked_is_told_of_each_item(pool: Store) -> None:
    batch_id = publish(pool, "i1", "i2", overlap=2, assignments=[Assignment("i1", "anna"), Assignment("i1", "ben")])
    give(pool, batch_id, "i1", "cleo:yes anna:no")
    give(pool, batch_id, "i2", "dora:yes")
    assert annotators_of(pool, ["i1", "i3"]) == {"i1": {"anna", "ben", "cleo"}}
    assert annotators_of(pool, []) == {}


# Independent answers


def test_independent_answers_are_the_newest_of_each_named_annotator_who_saw_no_others(pool: Store) -> None:
    labelled = [LabelledItem("i1", "no", "random", None)]
    import_labelled(pool, "start", Split.TRAINING, labelled, "d", "dir")
    batch_id = publish(pool, "i2", overlap=3)
    give(pool, batch_id, "i2", f"ben:no anna:no {UNNAMED}:yes {ORIGINAL}:yes anna:yes")
    give(pool, publish(pool, "i1", purpose=Purpose.REVIEW), "i1", "cleo:yes", at=1_000_000)
    adjudicate(pool, "i2", "zoe:yes anna:no", at=9)
    assert [tuple(row.values()) for row in independent_answers(pool).to_pylist()] == [
        ("i1", "cleo", "yes", None, "yes"),
        ("i2", "anna", "yes", None, "no"),
        ("i2", "ben", "no", None, "no"),
    ]


def test_an_independent_answer_comes_with_its_own_time_and_the_label_of_now(pool: Store) -> None:
    batch_id = publish(pool, "i1", overlap=2)
    for k, (seconds, answer) in enumerate(((9.0, "yes"), (0.5, "yes"), (1.5, "no"))):
        given = [Answer("i1", answer, "anna", seconds=seconds, annotated_at=START + timedelta(minutes=k))]
        ingest(pool, batch_id, given, "a.jsonl")
    assert independent_answers(pool).to_pylist() == [
        {"item_id": "i1", "annotator": "anna", "answer": "no", "seconds": 1.5, "label": "no"}
    ]
    give(pool, batch_id, "i1", "ben:yes")
    assert independent_answers(pool)["label"].to_pylist() == [None, None], "they are level"


# History


def told(store: Store, item_id: str) -> Sequence[tuple[str, str, bool]]:
    return [(each.annotator, each.answer, each.counts) for each in history_of(store, item_id).answers]


def test_history_has_every_answer_the_oldest_first_with_all_that_is_known_of_it(pool: Store) -> None:
    batch_id = publish(pool, "i1", purpose=Purpose.EVALUATION, overlap=2)
    given = Answer("i1", "yes", "ben", "sure", 2.5, START + timedelta(minutes=1))
    ingest(pool, batch_id, [given], "ben.jsonl")
    give(pool, batch_id, "i1", "anna:no")
    found = history_of(pool, "i1")
    assert (found.item_id, found.text, found.split, found.label) == ("i1", "text 1", Split.EVALUATION, None)
    assert told(pool, "i1") == [("ben", "yes", True), ("anna", "no", True)]
    last = found.answers[0]
    assert (last.item_id, last.note, last.seconds, last.source_file) == ("i1", "sure", 2.5, "ben.jsonl")
    assert (last.batch_id, last.purpose) == (batch_id, "evaluation")
    assert last.annotated_at == datetime(2026, 1, 2, 0, 1)
    assert last.ingested_at > last.annotated_at


def test_only_the_newest_answer_of_each_counts_and_a_nameless_one_alone_until_the_next(pool: Store) -> None:
    batch_id = publish(pool, "i1", "i2", overlap=2)
    give(pool, batch_id, "i1", "anna:yes ben:no anna:no")
    give(pool, batch_id, "i2", f"anna:yes {UNNAMED}:no")
    assert told(pool, "i1") == [("anna", "yes", False), ("ben", "no", True), ("anna", "no", True)]
    assert [counts for *_, counts in told(pool, "i2")] == [False, True]
    give(pool, batch_id, "i2", "ben:yes", at=9)
    assert [counts for *_, counts in told(pool, "i2")] == [False, False, True]


def test_of_an_adjudicated_item_the_adjudication_counts_and_nothing_else(pool: Store) -> None:
    first = publish(pool, "i1", overlap=2)
    give(pool, first, "i1", "anna:yes ben:no")
    adjudicate(pool, "i1", "anna:no", at=5)
    give(pool, first, "i1", "anna:yes cleo:yes", at=20)
    adjudicate(pool, "i1", "zoe:unsure", at=3)
    assert told(pool, "i1") == [
        ("anna", "yes", False),
        ("ben", "no", False),
        ("anna", "no", False),
        ("anna", "yes", False),
        ("cleo", "yes", False),
        ("zoe", "unsure", True),
    ]
    assert history_of(pool, "i1").label is None


def test_an_item_without_answers_has_a_text_and_neither_split_nor_label(pool: Store) -> None:
    publish(pool, "i1")
    found = history_of(pool, "i1")
    assert (found.text, found.split, found.label, found.answers) == ("text 1", None, None, [])


def test_an_item_that_is_not_there_is_an_error_that_names_those_that_begin_so(pool: Store) -> None:
    with pytest.raises(BatchError) as caught:
        history_of(pool, "i")
    assert "'i'" in caught.value.what
    assert all(value in caught.value.hint for value in ("i0", "i1", "i10"))
    with pytest.raises(BatchError, match="'%'") as caught:
        history_of(pool, "%")
    assert "i0" not in caught.value.hint
