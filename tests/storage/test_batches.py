"""Batches: out of the pool in one transaction, once, and back again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from drafts import draft, publish
from lake_rows import add_rows, contents
from together import together

from storage.errors import BatchError
from storage.lake import batches
from storage.lake.annotations import ingest
from storage.lake.batches import OvertakenError, close_batch, find_batch, reserve
from storage.lake.items import count_pool
from storage.lake.store import Store
from storage.readers.spellings import text_hash
from storage.records import Answer, Assignment, BatchItem, BatchStatus, Proposal, Purpose, Share, Split, StopSign
from storage.workspace import Workspace


@pytest.fixture
def workspace(pool_of_30: Path, tmp_path: Path) -> Workspace:
    """A workspace with 30 items, i0 to i29, in the pool."""
    return Workspace(shutil.copytree(pool_of_30, tmp_path / "workspace"))


@pytest.fixture
def pool(store: Store) -> Store:
    """Its lake; tests on servers, which import this fixture, have an empty one."""
    if not count_pool(store):
        add_rows(store, [(f"i{k}", f"text {k}") for k in range(30)])
    return store


SHARES = (
    Share("anchor", 2, "anchor", None, {"size": 1000, "share": 0.5, "whole": True, "score": 'it\'s "entropy"'}),
    Share("keyword", 1, "random", '[sampling] keywords, it\'s said, and there are "none"', {}),
)
SIGNS = (
    StopSign("kappa", None, None, None, 'at least "0.99"', False, "it's undefined"),
    StopSign("left", 0.1 + 0.2, 0.0, 1.0, "for information", None, "Zürich\n\\"),
    StopSign("barren", 3, None, None, "", True, ""),
)


def test_a_batch_is_kept_with_all_that_was_drafted(pool: Store) -> None:
    made = draft("i2", "i1", model_id="m1", mix={"it's": 1, 'a "b"': 2}, shares=SHARES, stop_signs=SIGNS)
    batch, new = reserve(pool, made, beside_open=False)
    assert new
    kept = (batch.batch_id, batch.purpose, batch.status, batch.n)
    assert kept == ("b0001-training", Split.TRAINING, BatchStatus.PUBLISHED, 2)
    assert (batch.seed, batch.lake_version, batch.label_set, batch.model_id) == (7, 3, "digest", "m1")
    assert (batch.mix, batch.shares, batch.stop_signs) == ({"it's": 1, 'a "b"': 2}, SHARES, SIGNS)
    assert find_batch(pool, "b0001-training") == batches.Progress(batch, 0, 0)
    assert count_pool(pool) == 28
    bare = find_batch(pool, publish(pool, "i3")).batch
    assert (bare.shares, bare.stop_signs) == ((), ())


def test_an_open_batch_comes_back_in_place_of_a_second_one(pool: Store) -> None:
    first, _ = reserve(pool, draft("i1"), beside_open=False)
    again, new = reserve(pool, draft("i2"), beside_open=False)
    assert (again, new) == (first, False)
    assert count_pool(pool) == 29
    close_batch(pool, first.batch_id)
    assert reserve(pool, draft("i2"), beside_open=False)[1] is True


@pytest.mark.parametrize("state", ["published", "annotated", "closed after an answer"])
def test_an_item_that_left_the_pool_cannot_be_reserved_and_nothing_is_written(pool: Store, state: str) -> None:
    batch_id = publish(pool, "i1", "i2")
    if state != "published":
        ingest(pool, batch_id, [Answer("i1", "skip", "anna"), Answer("i2", "yes", "anna")], "f")
    if state == "closed after an answer":
        close_batch(pool, batch_id)
    before = contents(pool)
    with pytest.raises(OvertakenError) as caught:
        reserve(pool, draft("i0", "i2", "i1", "i3"), beside_open=True)
    assert "2 of 4" in caught.value.what
    assert contents(pool) == before


def test_ids_ascend_over_every_purpose_and_are_never_used_again(pool: Store) -> None:
    made = [publish(pool, "i0"), publish(pool, "i1", purpose=Split.EVALUATION)]
    close_batch(pool, made[-1])
    made += [publish(pool, "i1", purpose=Split.VALIDATION)]
    pool.write(
        lambda c: c.execute("UPDATE lake.batches SET batch_id = 'b9999-training' WHERE batch_id = ?", made[:1]), ""
    )
    pool.write(lambda c: c.execute("UPDATE lake.batches SET batch_id = 'original-7' WHERE batch_id = ?", made[1:2]), "")
    made += [publish(pool, "i2"), publish(pool, "i3")]
    assert made == ["b0001-training", "b0002-evaluation", "b0003-validation", "b10000-training", "b10001-training"]


def test_an_item_is_in_its_batch_once_and_every_strategy_that_proposed_it_is_kept(pool: Store) -> None:
    proposals = [
        Proposal("i1", "entropy", 0.25, 2),
        Proposal("i2", "entropy", 0.5, 1),
        Proposal("i1", "random", None, 1),
    ]
    made = replace(draft("i2", "i1"), proposals=proposals)
    batch, _ = reserve(pool, made, beside_open=False)
    assert batches.items_of(pool, batch.batch_id) == [
        BatchItem("i2", "text 2", text_hash("text 2")),
        BatchItem("i1", "text 1", text_hash("text 1")),
    ]
    assert batches.proposals_of(pool, batch.batch_id) == [proposals[1], proposals[0], proposals[2]]


def test_open_batches_are_those_out_with_annotators_the_oldest_first(pool: Store) -> None:
    made = [publish(pool, f"i{k}") for k in range(4)]
    close_batch(pool, made[1])
    ingest(pool, made[2], [Answer("i2", "yes", "anna")], "f")
    assert [progress.batch.batch_id for progress in batches.open_batches(pool)] == [made[0], made[3]]
    assert batches.count_batches(pool) == 4
    statuses = [batches.find_batch(pool, batch_id).batch.status for batch_id in made]
    assert statuses == ["published", "closed", "ingested", "published"]


def test_closing_gives_the_unanswered_items_back_once(pool: Store) -> None:
    batch_id = publish(pool, "i1", "i2", "i3")
    ingest(pool, batch_id, [Answer("i2", "unsure", "anna")], "f")
    assert (close_batch(pool, batch_id), close_batch(pool, batch_id)) == (2, 0)
    assert find_batch(pool, batch_id).batch.status == BatchStatus.CLOSED
    assert count_pool(pool) == 29
    assert publish(pool, "i1") == "b0002-training"
    ingest(pool, "b0002-training", [Answer("i1", "yes", "anna")], "f")
    assert close_batch(pool, "b0002-training") == 0, "it is complete"
    assert find_batch(pool, "b0002-training").batch.status == BatchStatus.INGESTED
    assert counts(pool, ["random"]) == [(1, 0, 0, 0, 0), (1, 1, 1, 1, 1)], "what came back counts where it was answered"


def test_a_batch_that_is_not_there_is_an_error_that_names_the_open_ones(pool: Store) -> None:
    with pytest.raises(BatchError, match=r"'b9'(.|\n)*pal next"):
        find_batch(pool, "b9")
    publish(pool, "i1")
    publish(pool, "i2")
    for ask in (find_batch, close_batch):
        with pytest.raises(BatchError, match=r"'b9'(.|\n)*b0001-training, b0002-training"):
            ask(pool, "b9")


# Several annotators


ASSIGNMENTS = (
    Assignment("i9", "ben", gold=True),
    Assignment("i2", "ben"),
    Assignment("i1", "ben"),
    Assignment("i9", 'Zoë "Z"', gold=True),
    Assignment("i1", 'Zoë "Z"'),
    Assignment("i2", 'Zoë "Z"'),
)


def test_who_is_asked_is_kept_in_order_and_gold_items_are_none_of_the_batchs_own(pool: Store) -> None:
    ingest(pool, publish(pool, "i9"), [Answer("i9", "yes", "anna")], "f")
    made = draft("i2", "i1", overlap=2, formats=("csv", "html"), assignments=ASSIGNMENTS)
    batch, _ = reserve(pool, made, beside_open=False)
    assert (batch.n, batch.overlap, batch.formats) == (2, 2, ("csv", "html"))
    assert batches.assignments_of(pool, batch.batch_id) == list(ASSIGNMENTS)
    assert [item.item_id for item in batches.items_of(pool, batch.batch_id)] == ["i2", "i1", "i9"]
    assert {proposal.item_id for proposal in batches.proposals_of(pool, batch.batch_id)} == {"i1", "i2"}
    assert batches.assignments_of(pool, publish(pool, "i3")) == []


def test_progress_counts_the_answers_that_are_needed_and_no_more(pool: Store) -> None:
    batch_id = publish(pool, "i1", "i2", "i3", overlap=2, assignments=[Assignment("i9", "anna", gold=True)])

    def now(*answers: Answer) -> tuple[int, int]:
        ingest(pool, batch_id, answers, "f")
        found = find_batch(pool, batch_id)
        return found.n_answered, found.n_answers

    assert now() == (0, 0)
    assert now(Answer("i9", "yes", "anna")) == (0, 0), "gold"
    assert now(Answer("i1", "yes", "anna")) == (1, 1)
    assert now(Answer("i1", "no", "anna")) == (1, 1), "the same annotator again"
    assert now(Answer("i1", "no", "ben"), Answer("i1", "no", "cleo")) == (1, 2), "one more than it needs"
    assert now(Answer("i2", "skip", "cleo")) == (2, 3)
    assert batches.answerers_in(pool, batch_id) == {"i1": {"anna", "ben", "cleo"}, "i2": {"cleo"}}
    assert batches.answered_in(pool, batch_id)["i2"] == "skip"
    assert batches.answered_in(pool, batch_id, "anna") == {"i1": "no", "i9": "yes"}
    assert batches.answered_in(pool, batch_id, "dora") == {}
    assert close_batch(pool, batch_id) == 1, "what has one of two answers is not given back"
    assert count_pool(pool) == 30 - 3, "i1, i2 and i9 are answered"


# Batches that ask again


ADJUDICATION, REVIEW = Purpose.ADJUDICATION, Purpose.REVIEW


@pytest.fixture
def answered_items(pool: Store) -> Store:
    """Items i0 to i4 have an answer each."""
    ids = [f"i{k}" for k in range(5)]
    ingest(pool, publish(pool, *ids), [Answer(item_id, "yes", "anna") for item_id in ids], "f")
    return pool


def test_what_asks_again_neither_stops_the_next_batch_nor_is_stopped_by_it(answered_items: Store) -> None:
    made = [
        reserve(answered_items, each, beside_open=False)
        for each in (
            draft("i0", purpose=ADJUDICATION),
            draft("i5"),
            draft("i0", "i1", purpose=REVIEW),
            draft("i2", purpose=ADJUDICATION),
            draft("i6", purpose=Split.EVALUATION),
            draft("i3", purpose=REVIEW),
        )
    ]
    names = ["b0002-adjudication", "b0003-training", "b0004-review"]
    assert [batch.batch_id for batch, _ in made] == [*names, *[names[0], names[1], names[2]]]
    assert [new for _, new in made] == [True] * 3 + [False] * 3

    def opened(again: bool | None) -> list[str]:
        return [batch.batch_id for batch in batches.published_batches(answered_items, again=again)]

    assert (opened(None), opened(True), opened(False)) == (names, [names[0], names[2]], [names[1]])


def test_answered_items_can_be_asked_again_but_not_twice_at_once_for_the_same(answered_items: Store) -> None:
    publish(answered_items, "i0", "i1", purpose=REVIEW)
    before = contents(answered_items)
    with pytest.raises(OvertakenError) as caught:
        publish(answered_items, "i1", "i2", purpose=REVIEW)
    assert "1 of 2" in caught.value.what
    assert contents(answered_items) == before
    assert publish(answered_items, "i1", "i2", purpose=ADJUDICATION) == "b0003-adjudication"
    close_batch(answered_items, "b0002-review")
    assert publish(answered_items, "i1", purpose=REVIEW) == "b0004-review"


def test_asking_again_takes_nothing_out_of_the_pool_and_closing_puts_nothing_in(answered_items: Store) -> None:
    batch_id = publish(answered_items, "i0", "i1", purpose=ADJUDICATION)
    assert count_pool(answered_items) == 25
    ingest(answered_items, batch_id, [Answer("i0", "unsure", "zoe")], "z")
    assert close_batch(answered_items, batch_id) == 1
    assert count_pool(answered_items) == 25


def test_an_item_names_the_newest_batch_that_asked_about_it_an_open_one_first(pool: Store) -> None:
    first = publish(pool, "i1", "i2", "i3")
    close_batch(pool, first)
    second = publish(pool, "i1", "i2", assignments=[Assignment("i1", "anna"), Assignment("i7", "anna", gold=True)])
    third = publish(pool, "i4")
    close_batch(pool, second)
    fourth = publish(pool, "i1")
    hashes = {k: text_hash(f"text {k}") for k in range(9)}
    asked = batches.batches_of_items(pool, ["i1", "i2", "i8"], [hashes[3], hashes[4], hashes[7], "0"])
    assert asked == {
        "i1": fourth,
        "i2": second,
        "i3": first,
        "i4": third,
        "i7": second,
        **{hashes[k]: batch_id for k, batch_id in ((1, fourth), (2, second), (3, first), (4, third), (7, second))},
    }
    close_batch(pool, third)
    close_batch(pool, fourth)
    assert batches.batches_of_items(pool, ["i1"], [])["i1"] == fourth, "none is open: the newest"
    older = publish(pool, "i6")
    close_batch(pool, publish(pool, "i5", assignments=[Assignment("i6", "anna", gold=True)]))
    assert batches.batches_of_items(pool, ["i6"], [])["i6"] == older, "the newer one is closed"


def test_an_item_that_was_asked_about_again_names_no_batch(answered_items: Store) -> None:
    publish(answered_items, "i0", purpose=ADJUDICATION)
    close_batch(answered_items, publish(answered_items, "i1", purpose=REVIEW))
    assert batches.batches_of_items(answered_items, ["i0", "i1", "i2"], []).keys() == {"i2", text_hash("text 2")}


# What the batches brought


def answered(store: Store, answers: str, model_id: str | None = "m1", **more: Any) -> str:
    """A batch of items with answers as in "i1:yes i2:no", or not yet ("i3:")."""
    given = dict(pair.split(":") for pair in answers.split())
    made = draft(*given, model_id=model_id, **more)
    both = [*made.proposals, Proposal(next(iter(given)), "entropy", 0.5, 1)]
    batch_id = reserve(store, replace(made, proposals=both), beside_open=True)[0].batch_id
    ingest(store, batch_id, [Answer(item_id, answer, "anna") for item_id, answer in given.items() if answer], batch_id)
    return batch_id


def counts(pool: Store, random: list[str], positive: str = "yes") -> list[tuple[int, ...]]:
    """Of each batch: answered, labelled, positive, random, random and positive."""
    return [
        (r.n_answered, r.n_labelled, r.n_positive, r.n_random, r.n_random_positive)
        for r in batches.batch_results(pool, random, positive)
    ]


def test_what_each_batch_brought_is_counted_the_oldest_first(pool: Store) -> None:
    assert batches.batch_results(pool, ["random"], "yes") == []
    first = answered(pool, "i0:yes i1:no i2:yes i3:unsure i4:")  # all by random, i0 by entropy too
    answered(pool, "i5:yes i6:no", model_id=None)
    held_out = answered(pool, "i7:yes i8:no", purpose=Split.EVALUATION)
    answered(pool, "i9: i10:")  # no answer: no result
    assert counts(pool, ["random"]) == [(4, 3, 2, 3, 2), (2, 2, 1, 2, 1), (2, 2, 1, 2, 1)]
    assert counts(pool, ["random"], "no") == [(4, 3, 1, 3, 1), (2, 2, 1, 2, 1), (2, 2, 1, 2, 1)]
    assert counts(pool, ["entropy", "it's"]) == [(4, 3, 2, 1, 1), (2, 2, 1, 1, 1), (2, 2, 1, 2, 1)]  # held out: all
    found = batches.batch_results(pool, [], "yes")
    assert [r.batch_id for r in found][::2] == [first, held_out]
    assert [(r.purpose, r.active, r.n, r.status) for r in found] == [
        (Split.TRAINING, True, 5, BatchStatus.PUBLISHED),
        (Split.TRAINING, False, 2, BatchStatus.INGESTED),
        (Split.EVALUATION, True, 2, BatchStatus.INGESTED),
    ]


# Several processes, and kill -9


def reserve_there(workspace: Workspace, who: int) -> None:
    store = workspace.store()
    for k in range(5):
        wanted = [f"i{k}", f"i{5 + k}", f"i{10 + 5 * who + k}"]  # two that all want, one of its own
        try:
            reserve(store, draft(*wanted), beside_open=True)
        except OvertakenError:
            reserve(store, draft(wanted[-1]), beside_open=True)


def test_no_item_goes_to_two_of_three_racing_processes(pool: Store, workspace: Workspace) -> None:
    together(reserve_there, *((workspace, who) for who in range(3)))
    assert sorted(pool.rows("SELECT item_id FROM lake.batch_items")) == sorted((f"i{k}",) for k in range(25))
    ids = [row[0] for row in pool.rows("SELECT batch_id FROM lake.batches")]
    assert sorted(ids) == [f"b{k:04d}-training" for k in range(1, 16)]
