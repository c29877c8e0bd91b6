"""The contract that every registered strategy keeps; a new one is held to it by being registered.

Each claim is made of each strategy over a few pools, chosen for what strategies stumble over.
"""

from __future__ import annotations

import dataclasses
import operator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pools import in_shards, pool_of_texts, positions, propose, random_pool, tokens_of

from storage.errors import SamplingError
from tasks.learning.vectors import TokenVectors
from tasks.sampling.mixer import find_strategy, strategy_names
from tasks.sampling.strategy import NEEDS, Head, Labelled, Pool, Ranking, Strategy, runnable

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
    given = random_pool(1, n_labels=np.shape(probabilities)[1])
    vectors = TokenVectors(tokens_of(texts), 40, given.vectors._table)
    pool = pool_of_texts(
        texts,
        probabilities,
        table=given.vectors._table,
        training=given.training,
        validation=given.validation,
        positive=0,
        keywords=given.keywords,
        head=given.head,
    )
    return dataclasses.replace(pool, vectors=vectors, hidden=vectors)


def under_word_counts(pool: Pool) -> Pool:
    """The same items as counts of words, in place of token vectors."""
    counts = TokenVectors(pool.tokens, 40, None)
    head = Head(np.random.default_rng(0).standard_normal((2, 40)).astype(np.float32), np.zeros(2, np.float32))
    return dataclasses.replace(pool, vectors=counts, hidden=counts, head=head)


def labelled_alike(pool: Pool, label: int) -> Pool:
    """The same pool with one label only among the labelled items."""
    same = {
        name: dataclasses.replace(part, labels=np.full(len(part), label))
        for name, part in (("training", pool.training), ("validation", pool.validation))
    }
    return dataclasses.replace(pool, **same)


USUAL = {
    "two labels": random_pool(30),
    "five labels": random_pool(24, 5, 5),
    "one item": random_pool(1),
    "word counts": under_word_counts(random_pool(25)),
}
"""Pools as they are."""

TIED = {
    "no tokens at all": whole_pool_of([[]] * 6, random_pool(6).probabilities),
    "some texts without tokens": whole_pool_of([[], [1], [], [1, 2], [], [3]], random_pool(6).probabilities),
    "copies of one text": whole_pool_of([[1, 2, 2]] * 6, [[0.7, 0.3]] * 6),
    **{name: whole_pool_of([[k] for k in range(8)], rows) for name, rows in ROWS.items()},
}
"""Pools in which items tie, or have probabilities that are none."""

SHARDED = random_pool(80, 5, 3)


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


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 60), st.integers(0, 10_000), st.sampled_from([2, 3, 5]), st.data())
def test_gives_exactly_n_different_pool_ids_with_scores_that_never_rise(
    any_strategy: Strategy, size: int, seed: int, n_labels: int, data: st.DataObject
) -> None:
    pool = random_pool(size, seed, n_labels)
    n = data.draw(st.integers(0, size))
    assert_sound(pool, any_strategy.propose(pool, n, np.random.default_rng(seed)), n, adaptive=any_strategy.adaptive)


def test_in_any_pool_it_gives_none_a_part_or_each_item_once(any_strategy: Strategy) -> None:
    for name, pool in {**USUAL, **TIED, "empty": random_pool(0)}.items():
        for n in (0, len(pool) // 3, len(pool)):
            ranking = any_strategy.propose(pool, n, np.random.default_rng(0))
            assert_sound(pool, ranking, n, adaptive=any_strategy.adaptive)
        assert sorted(ranking.item_ids) == pool.item_ids.to_pylist(), name


LEVEL = ("outlier", "representative", "adaptive_representative", "least_confidence", "margin_confidence", "entropy")
BY_TEXTS = ("cluster", "clustered_uncertainty", "representative_cluster", "core_set", "typical_cluster")
BY_TEXTS += ("probability_cover", "representative", "adaptive_representative")
BY_PROBABILITIES = ("least_confidence", "margin_confidence", "ratio_confidence", "entropy", "clustered_uncertainty")
BY_PROBABILITIES += ("high_uncertainty_cluster", "bald", "drop_query", "contrastive", "badge", "per_label")


@pytest.mark.parametrize("name", LEVEL)
def test_copies_are_level_and_each_is_drawn_by_some_generator(name: str) -> None:
    drawn = {positions(propose(name, whole_pool_of([[1]] * 3, [[0.5, 0.5]] * 3), 1, seed))[0] for seed in range(40)}
    assert drawn == {0, 1, 2}


@pytest.mark.parametrize("name", BY_TEXTS)
def test_texts_without_tokens_come_last_and_training_items_without_any_change_nothing(name: str) -> None:
    texts = [[], [1, 2], [], [3], [4, 5], []]
    for training in ([[6]], [[]]):
        labelled = Labelled(tokens_of(training), np.zeros(1, np.int64), np.zeros((1, 2), np.float32))
        pool = dataclasses.replace(whole_pool_of(texts, [[0.5, 0.5]] * 6), training=labelled)
        ranking = propose(name, pool, 6)
        assert set(positions(ranking)[3:]) == {0, 2, 5}
        assert np.isfinite(ranking.scores).tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize("name", BY_PROBABILITIES)
def test_items_without_finite_probabilities_come_last_and_the_rest_is_not_touched_by_them(name: str) -> None:
    rows = [[np.nan, 0.5], [0.5, 0.5], [1, 0], [np.inf, 0.1], [0.7, 0.3], [0.6, 0.4], [-np.inf, 0.1]]
    ranking = propose(name, whole_pool_of([[k] for k in range(7)], rows), 7)
    assert set(positions(ranking)[4:]) == {0, 3, 6}
    assert np.isfinite(ranking.scores).tolist() == [True] * 4 + [False] * 3


def test_one_label_only_among_the_labelled_items_is_defined(any_strategy: Strategy) -> None:
    for label in (0, 1):
        pool = labelled_alike(random_pool(12), label)
        stands_in, _ = runnable(any_strategy.name, pool)
        assert_sound(pool, stands_in.propose(pool, 5, np.random.default_rng(0)), 5, adaptive=stands_in.adaptive)


def test_it_draws_from_no_generator_but_the_one_it_is_given(any_strategy: Strategy) -> None:
    for name, pool in USUAL.items():
        n = (len(pool) + 1) // 2
        np.random.seed(1)
        before = repr(np.random.get_state())
        first = any_strategy.propose(pool, n, np.random.default_rng(3))
        assert repr(np.random.get_state()) == before, name
        np.random.seed(2)
        again = any_strategy.propose(pool, n, np.random.default_rng(3))
        assert again.item_ids == first.item_ids, name
        np.testing.assert_array_equal(again.scores, first.scores, err_msg=name)


def test_the_order_of_rows_does_not_matter(any_strategy: Strategy) -> None:
    for name, pool in USUAL.items():
        n = (len(pool) + 1) // 2
        expected = any_strategy.propose(pool, n, np.random.default_rng(0))
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(len(pool))
            ranking = any_strategy.propose(permuted(pool, order), n, np.random.default_rng(0))
            assert ranking.item_ids == expected.item_ids, name
            np.testing.assert_array_equal(ranking.scores, expected.scores, err_msg=name)


@pytest.mark.parametrize("few", [0, 10, 1_000], ids=["all-stay-there", "few-are-brought", "all-are-brought"])
def test_of_a_pool_in_shards_it_asks_the_same_to_the_last_bit(
    any_strategy: Strategy, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"learning.vectors.SLICE_TEXTS": 4, "learning.vectors.BLOCK_SLICES": 2, "scale.shards.FEW": few}
    for name, value in sizes.items():
        monkeypatch.setattr(f"tasks.{name}", value)
    expected = any_strategy.propose(SHARDED, 30, np.random.default_rng(1))
    for bounds in ([0, 80], [0, 8, 8, 40, 72, 80]):
        ranking = any_strategy.propose(in_shards(SHARDED, bounds), 30, np.random.default_rng(1))
        assert ranking.item_ids == expected.item_ids, bounds
        np.testing.assert_array_equal(ranking.scores, expected.scores)
        assert ranking.details == expected.details, bounds


ARRAYS = [
    *("tokens.ids", "tokens.offsets", "vectors.norms", "vectors._table", "probabilities", "logits", "token_counts"),
    *("head.weight", "head.bias", "training.tokens.ids", "training.labels", "training.logits"),
    *("validation.tokens.ids", "validation.labels", "validation.logits", "keywords.ids"),
]


def test_what_it_is_given_is_left_as_it_was(any_strategy: Strategy) -> None:
    pool, same = random_pool(40), random_pool(40)
    any_strategy.propose(pool, 40, np.random.default_rng(0))
    assert pool.item_ids.equals(same.item_ids)
    for path in ARRAYS:
        read = operator.attrgetter(path)
        np.testing.assert_array_equal(read(pool), read(same), err_msg=path)


def test_asked_for_too_many_it_names_both_numbers_and_what_to_type(any_strategy: Strategy) -> None:
    for size in (0, 7):
        with pytest.raises(SamplingError) as caught:
            any_strategy.propose(random_pool(size), size + 1, np.random.default_rng(0))
        assert all(value in caught.value.what for value in (str(size), str(size + 1), any_strategy.name))
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


def test_without_what_it_needs_it_says_so_and_its_substitute_runs_and_without_the_rest_it_runs(
    any_strategy: Strategy,
) -> None:
    for need, taken_away in LACKING.items():
        pool = taken_away(random_pool(9))
        missing = any_strategy.missing(pool)
        assert missing is not None or need not in any_strategy.needs, need
        stands_in, its_missing = runnable(any_strategy.name, pool)
        assert its_missing == missing, need
        assert missing is not None or stands_in is any_strategy, need
        assert_sound(pool, stands_in.propose(pool, 4, np.random.default_rng(0)), 4, adaptive=stands_in.adaptive)
        if missing is not None:
            with pytest.raises(SamplingError) as caught:
                any_strategy.propose(pool, 4, np.random.default_rng(0))
            assert any_strategy.name in caught.value.what, need
            assert missing in caught.value.what, need
            assert stands_in.name in caught.value.hint, need


def test_ids_travel_not_positions(any_strategy: Strategy) -> None:
    pool = random_pool(12)
    named = dataclasses.replace(pool, item_ids=pa.array([f"z{k}" for k in range(12, 24)], pa.string()))
    ranking = any_strategy.propose(pool, 6, np.random.default_rng(0))
    renamed = any_strategy.propose(named, 6, np.random.default_rng(0))
    assert renamed.item_ids == tuple(f"z{int(item_id[-4:]) + 12}" for item_id in ranking.item_ids)
