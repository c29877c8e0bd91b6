"""The contract that every registered strategy keeps; a new one is held to it by being registered."""

from __future__ import annotations

import dataclasses
import operator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pools import in_shards, pool_of_texts, random_pool, tokens_of

from storage.errors import SamplingError
from tasks.learning.vectors import TokenVectors
from tasks.sampling.catalogue import find_strategy, strategy_names
from tasks.sampling.strategy import NEEDS, Head, Labelled, Pool, Ranking, Strategy, runnable


@pytest.fixture(params=strategy_names())
def any_strategy(request: pytest.FixtureRequest) -> Strategy:
    """Each registered strategy in turn."""
    return find_strategy(request.param)


def without_model(pool: Pool) -> Pool:
    """The same pool before there is a model."""
    none = np.zeros((len(pool), 0), np.float32)
    labelled = {
        name: dataclasses.replace(part, logits=np.zeros((len(part), 0), np.float32))
        for name, part in (("training", pool.training), ("validation", pool.validation))
    }
    return dataclasses.replace(pool, probabilities=none, logits=none, hidden=None, head=None, **labelled)


def permuted(pool: Pool, order: npt.NDArray[np.int64]) -> Pool:
    """The same items in another order of rows."""
    return pool.take(order)


def assert_sound(pool: Pool, ranking: Ranking, n: int, *, adaptive: bool = False) -> None:
    """Exactly n different pool ids with defined scores, which never rise along a ranking that is not adaptive."""
    assert len(ranking.item_ids) == len(set(ranking.item_ids)) == len(ranking.scores) == n
    assert set(ranking.item_ids) <= set(pool.item_ids.to_pylist())
    assert not np.isnan(ranking.scores).any()
    assert len(ranking.details) in (0, n)
    assert adaptive or (ranking.scores[:-1] >= ranking.scores[1:]).all()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 60), st.integers(0, 10_000), st.sampled_from([2, 3, 5]), st.data())
def test_gives_exactly_n_different_pool_ids_with_scores_that_never_rise(
    any_strategy: Strategy, size: int, seed: int, n_labels: int, data: st.DataObject
) -> None:
    pool = random_pool(size, seed, n_labels)
    n = data.draw(st.integers(0, size))
    assert_sound(pool, any_strategy.propose(pool, n, np.random.default_rng(seed)), n, adaptive=any_strategy.adaptive)


def test_the_same_generator_gives_the_same_answer(any_strategy: Strategy) -> None:
    first, again = (any_strategy.propose(random_pool(50), 20, np.random.default_rng(3)) for _ in range(2))
    assert first.item_ids == again.item_ids
    np.testing.assert_array_equal(first.scores, again.scores)


def test_it_draws_from_no_generator_but_the_one_it_is_given(any_strategy: Strategy) -> None:
    pool = random_pool(50)
    np.random.seed(1)
    before = repr(np.random.get_state())
    first = any_strategy.propose(pool, 20, np.random.default_rng(3)).item_ids
    assert repr(np.random.get_state()) == before
    np.random.seed(2)
    assert any_strategy.propose(pool, 20, np.random.default_rng(3)).item_ids == first


def test_the_order_of_rows_does_not_matter(any_strategy: Strategy) -> None:
    pool = random_pool(30)
    expected = any_strategy.propose(pool, 12, np.random.default_rng(0))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(30)
        found = any_strategy.propose(permuted(pool, order), 12, np.random.default_rng(0))
        assert found.item_ids == expected.item_ids
        np.testing.assert_array_equal(found.scores, expected.scores)


ARRAYS = [
    *("tokens.ids", "tokens.offsets", "vectors.norms", "vectors._table", "probabilities", "logits", "token_counts"),
    *("head.weight", "head.bias", "training.tokens.ids", "training.labels", "training.logits"),
    *("validation.tokens.ids", "validation.labels", "validation.logits", "keywords.ids"),
]


@pytest.mark.parametrize("few", [0, 10, 1_000], ids=["all-stay-there", "few-are-brought", "all-are-brought"])
@pytest.mark.parametrize("bounds", [[0, 80], [0, 16, 80], [0, 8, 8, 40, 72, 80]], ids=["one", "two", "five"])
def test_of_a_pool_in_shards_it_asks_the_same_to_the_last_bit(
    any_strategy: Strategy, bounds: list[int], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"vectors.SLICE_TEXTS": 4, "vectors.BLOCK_SLICES": 2, "sharded.FEW": few}.items():
        monkeypatch.setattr(f"tasks.learning.{name}", value)
    pool = random_pool(80, 5, 3)
    expected = any_strategy.propose(pool, 30, np.random.default_rng(1))
    found = any_strategy.propose(in_shards(pool, bounds), 30, np.random.default_rng(1))
    assert found.item_ids == expected.item_ids
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.details == expected.details


def test_what_it_is_given_is_left_as_it_was(any_strategy: Strategy) -> None:
    pool, same = random_pool(40), random_pool(40)
    any_strategy.propose(pool, 40, np.random.default_rng(0))
    assert pool.item_ids.equals(same.item_ids)
    for path in ARRAYS:
        read = operator.attrgetter(path)
        np.testing.assert_array_equal(read(pool), read(same), err_msg=path)


def test_asked_for_the_whole_pool_it_gives_each_item_once(any_strategy: Strategy) -> None:
    pool = random_pool(33)
    ranking = any_strategy.propose(pool, 33, np.random.default_rng(0))
    assert sorted(ranking.item_ids) == pool.item_ids.to_pylist()
    assert_sound(pool, ranking, 33, adaptive=any_strategy.adaptive)


@pytest.mark.parametrize("size", [0, 5])
def test_asked_for_none_it_gives_none(any_strategy: Strategy, size: int) -> None:
    ranking = any_strategy.propose(random_pool(size), 0, np.random.default_rng(0))
    assert ranking.item_ids == ()
    assert len(ranking.scores) == 0


def test_one_item_is_found(any_strategy: Strategy) -> None:
    assert any_strategy.propose(random_pool(1), 1, np.random.default_rng(0)).item_ids == ("item-0000",)


@pytest.mark.parametrize("size", [0, 7])
def test_asked_for_too_many_it_names_both_numbers_and_what_to_type(any_strategy: Strategy, size: int) -> None:
    with pytest.raises(SamplingError) as caught:
        any_strategy.propose(random_pool(size), size + 1, np.random.default_rng(0))
    assert caught.value.what == f"{size} available / {size + 1} requested by {any_strategy.name}."
    assert ("-n 7" in caught.value.hint) == (size == 7)
    assert "pal import FILE" in caught.value.hint


LACKING = {
    "model": without_model,
    "training items": lambda pool: dataclasses.replace(pool, training=Labelled()),
    "validation items": lambda pool: dataclasses.replace(pool, validation=Labelled()),
    "right and wrong validation items": lambda pool: dataclasses.replace(
        pool, validation=dataclasses.replace(pool.validation, labels=pool.validation.logits.argmax(axis=1))
    ),
    "logits that can all be low": lambda pool: dataclasses.replace(
        pool, head=dataclasses.replace(pool.head, weight=np.stack([pool.head.weight[0], -pool.head.weight[0]]))
    ),
    "positive label": lambda pool: dataclasses.replace(pool, positive=None),
    "keywords": lambda pool: dataclasses.replace(pool, keywords=Labelled().tokens),
}


def test_every_need_that_is_named_can_be_lacking() -> None:
    assert set(LACKING) == set(NEEDS)


@pytest.mark.parametrize("need", LACKING)
def test_without_what_it_needs_it_says_so_and_its_substitute_runs_and_without_the_rest_it_runs(
    any_strategy: Strategy, need: str
) -> None:
    pool = LACKING[need](random_pool(9))
    needs_it = any_strategy.missing(pool) is not None
    assert needs_it or need not in any_strategy.needs
    if not needs_it:
        assert_sound(pool, any_strategy.propose(pool, 4, np.random.default_rng(0)), 4, adaptive=any_strategy.adaptive)
        return
    with pytest.raises(SamplingError) as caught:
        any_strategy.propose(pool, 4, np.random.default_rng(0))
    assert caught.value.what == f"{any_strategy.name} needs {any_strategy.missing(pool)}."
    assert caught.value.hint == f"use {runnable(any_strategy.name, pool)[0].name} for now"
    stands_in, missing = runnable(any_strategy.name, pool)
    assert missing == any_strategy.missing(pool)
    assert_sound(pool, stands_in.propose(pool, 4, np.random.default_rng(0)), 4, adaptive=stands_in.adaptive)


ROWS = {
    "all surely one label": [[1.0, 0.0]] * 8,
    "no idea of any": [[0.5, 0.5]] * 8,
    "three labels, all level": [[1 / 3, 1 / 3, 1 / 3]] * 8,
    "two values only": [[0.9, 0.1], [0.6, 0.4]] * 4,
    "one nan": [[np.nan, 0.5], *[[0.7, 0.3]] * 7],
    "all nan": [[np.nan, np.nan]] * 8,
    "infinities": [[np.inf, 0.0], [0.0, -np.inf], [np.inf, np.inf], [-np.inf, np.inf], *[[0.7, 0.3]] * 4],
}


def whole_pool_of(texts: list[list[int]], probabilities: npt.ArrayLike) -> Pool:
    """A pool of texts with everything that any strategy needs."""
    given = random_pool(1)
    vectors = TokenVectors(tokens_of(texts), 40, given.vectors._table)
    found = pool_of_texts(
        texts,
        probabilities,
        table=given.vectors._table,
        training=given.training,
        validation=given.validation,
        positive=0,
        keywords=given.keywords,
        head=given.head,
    )
    return dataclasses.replace(found, vectors=vectors, hidden=vectors)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("n", [3, 8])
def test_ties_and_probabilities_that_are_none_are_defined(
    any_strategy: Strategy, rows: list[list[float]], n: int
) -> None:
    n_labels = len(rows[0])
    given = random_pool(1, n_labels=n_labels)
    pool = dataclasses.replace(
        whole_pool_of([[k] for k in range(8)], rows),
        head=given.head,
        training=given.training,
        validation=given.validation,
    )
    ranking = any_strategy.propose(pool, n, np.random.default_rng(0))
    assert_sound(pool, ranking, n, adaptive=any_strategy.adaptive)


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_only_among_the_labelled_items_is_defined(any_strategy: Strategy, label: int) -> None:
    pool = random_pool(12)
    same = {
        name: dataclasses.replace(part, labels=np.full(len(part), label))
        for name, part in (("training", pool.training), ("validation", pool.validation))
    }
    pool = dataclasses.replace(pool, **same)
    found, _ = runnable(any_strategy.name, pool)
    assert_sound(pool, found.propose(pool, 5, np.random.default_rng(0)), 5, adaptive=found.adaptive)


def test_under_word_counts_it_runs_as_well(any_strategy: Strategy) -> None:
    pool = random_pool(25)
    counts = TokenVectors(pool.tokens, 40, None)
    head = Head(np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32), np.zeros(2, np.float32))
    pool = dataclasses.replace(pool, vectors=counts, hidden=counts, head=head)
    for n in (4, 25):
        assert_sound(pool, any_strategy.propose(pool, n, np.random.default_rng(0)), n, adaptive=any_strategy.adaptive)


@pytest.mark.parametrize("texts", [[[]] * 6, [[], [1], [], [1, 2], [], [3]]], ids=["no tokens at all", "some empty"])
def test_items_without_tokens_are_items(any_strategy: Strategy, texts: list[list[int]]) -> None:
    pool = whole_pool_of(texts, random_pool(6).probabilities)
    for n in (2, 6):
        assert_sound(pool, any_strategy.propose(pool, n, np.random.default_rng(0)), n, adaptive=any_strategy.adaptive)


def test_copies_of_one_text_are_different_items(any_strategy: Strategy) -> None:
    pool = whole_pool_of([[1, 2, 2]] * 6, [[0.7, 0.3]] * 6)
    ranking = any_strategy.propose(pool, 6, np.random.default_rng(0))
    assert_sound(pool, ranking, 6, adaptive=any_strategy.adaptive)


def test_ids_travel_not_positions(any_strategy: Strategy) -> None:
    pool = random_pool(12)
    named = dataclasses.replace(pool, item_ids=pa.array([f"z{k}" for k in range(12, 24)], pa.string()))
    ranking = any_strategy.propose(pool, 6, np.random.default_rng(0))
    renamed = any_strategy.propose(named, 6, np.random.default_rng(0))
    assert renamed.item_ids == tuple(f"z{int(item_id[-4:]) + 12}" for item_id in ranking.item_ids)
