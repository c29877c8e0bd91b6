"""The contract that every registered strategy keeps; a new one is held to it by being registered."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import SamplingError
from tasks.learning.tokens import Tokens
from tasks.sampling.mixer import find_strategy, strategy_names
from tasks.sampling.strategy import Pool, Ranking, Strategy

N_TOKENS = 40


@pytest.fixture(params=strategy_names())
def any_strategy(request: pytest.FixtureRequest) -> Strategy:
    """Each registered strategy in turn."""
    return find_strategy(request.param)


Number = TypeVar("Number", bound=np.generic)


def protected(array: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The array, which from now on refuses to be written to."""
    array.flags.writeable = False
    return array


def pool_of(texts: list[list[int]], probabilities: npt.ArrayLike, counts: npt.ArrayLike | None = None) -> Pool:
    """A pool whose every array refuses to be written to."""
    ids = np.array([token for text in texts for token in text], np.uint16)
    counts = np.zeros(N_TOKENS) if counts is None else np.array(counts, np.float64)
    return Pool(
        pa.array([f"item-{k:04d}" for k in range(len(texts))], pa.string()),
        Tokens(protected(ids), protected(np.cumsum([0, *map(len, texts)]).astype(np.int64))),
        protected(np.array(probabilities, np.float32)),
        protected(counts),
    )


def random_pool(n: int, seed: int = 0, n_labels: int = 2) -> Pool:
    """Items of 0 to 6 tokens with uneven probabilities and counts."""
    generator = np.random.default_rng(seed)
    texts = [generator.integers(0, N_TOKENS, generator.integers(0, 7)).tolist() for _ in range(n)]
    probabilities = generator.dirichlet(np.full(n_labels, 0.7), n)
    return pool_of(texts, probabilities.reshape(n, n_labels), generator.integers(0, 5, N_TOKENS))


def distinct_pool(n: int) -> Pool:
    """No two items have a token, a probability or a novelty in common, so there are no ties."""
    counts = np.arange(N_TOKENS) ** 2
    texts = [[k] for k in range(n)]
    p = 0.5 + np.random.default_rng(0).permutation(n) / (2 * n + 1)
    return pool_of(texts, np.stack([p, 1 - p], axis=1), counts)


def permuted(pool: Pool, order: npt.NDArray[np.int64]) -> Pool:
    """The same items in another order of rows."""
    return Pool(
        pool.item_ids.take(pa.array(order)), pool.tokens.take(order), pool.probabilities[order], pool.token_counts
    )


def assert_sound(pool: Pool, ranking: Ranking, n: int) -> None:
    """Exactly n different pool ids, each with a defined score, the scores falling or level along the ranking."""
    assert len(ranking.item_ids) == len(set(ranking.item_ids)) == len(ranking.scores) == n
    assert set(ranking.item_ids) <= set(pool.item_ids.to_pylist())
    assert not np.isnan(ranking.scores).any()
    assert (ranking.scores[:-1] >= ranking.scores[1:]).all()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 60), st.integers(0, 10_000), st.sampled_from([2, 3, 5]), st.data())
def test_gives_exactly_n_different_pool_ids_with_scores_that_never_rise(
    any_strategy: Strategy, size: int, seed: int, n_labels: int, data: st.DataObject
) -> None:
    pool = random_pool(size, seed, n_labels)
    n = data.draw(st.integers(0, size))
    assert_sound(pool, any_strategy.propose(pool, n, np.random.default_rng(seed)), n)


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


def test_the_order_of_rows_does_not_matter_where_there_are_no_ties(any_strategy: Strategy) -> None:
    if any_strategy.unbiased:
        pytest.skip("to an unbiased draw every item is level")
    pool = distinct_pool(30)
    expected = any_strategy.propose(pool, 12, np.random.default_rng(0))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(30)
        found = any_strategy.propose(permuted(pool, order), 12, np.random.default_rng(seed))
        assert found.item_ids == expected.item_ids
        np.testing.assert_allclose(found.scores, expected.scores)


def test_what_it_is_given_is_left_as_it_was(any_strategy: Strategy) -> None:
    pool, same = random_pool(40), random_pool(40)
    any_strategy.propose(pool, 40, np.random.default_rng(0))
    assert pool.item_ids.equals(same.item_ids)
    for name in ("ids", "offsets"):
        np.testing.assert_array_equal(getattr(pool.tokens, name), getattr(same.tokens, name))
    np.testing.assert_array_equal(pool.probabilities, same.probabilities)
    np.testing.assert_array_equal(pool.token_counts, same.token_counts)


def test_asked_for_the_whole_pool_it_gives_each_item_once(any_strategy: Strategy) -> None:
    pool = random_pool(33)
    ranking = any_strategy.propose(pool, 33, np.random.default_rng(0))
    assert sorted(ranking.item_ids) == pool.item_ids.to_pylist()
    assert_sound(pool, ranking, 33)


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
    assert f"pal next -n {size}" in caught.value.hint


def test_without_a_model_it_runs_or_says_that_it_needs_one(any_strategy: Strategy) -> None:
    pool = dataclasses.replace(random_pool(9), probabilities=np.zeros((9, 0), np.float32))
    if "model" not in any_strategy.needs:
        assert_sound(pool, any_strategy.propose(pool, 4, np.random.default_rng(0)), 4)
        return
    with pytest.raises(SamplingError) as caught:
        any_strategy.propose(pool, 4, np.random.default_rng(0))
    assert caught.value.what == f"{any_strategy.name} needs a model, and there is none yet."
    assert caught.value.hint


ROWS = {
    "all surely one label": [[1.0, 0.0]] * 8,
    "no idea of any": [[0.5, 0.5]] * 8,
    "three labels, all level": [[1 / 3, 1 / 3, 1 / 3]] * 8,
    "two values only": [[0.9, 0.1], [0.6, 0.4]] * 4,
    "one nan": [[np.nan, 0.5], *[[0.7, 0.3]] * 7],
    "all nan": [[np.nan, np.nan]] * 8,
    "infinities": [[np.inf, 0.0], [0.0, -np.inf], [np.inf, np.inf], [-np.inf, np.inf], *[[0.7, 0.3]] * 4],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("n", [3, 8])
def test_ties_and_probabilities_that_are_none_are_defined(
    any_strategy: Strategy, rows: list[list[float]], n: int
) -> None:
    pool = pool_of([[k] for k in range(8)], rows)
    assert_sound(pool, any_strategy.propose(pool, n, np.random.default_rng(0)), n)


@pytest.mark.parametrize("texts", [[[]] * 6, [[], [1], [], [1, 2], [], [3]]], ids=["no tokens at all", "some empty"])
def test_items_without_tokens_are_items(any_strategy: Strategy, texts: list[list[int]]) -> None:
    pool = pool_of(texts, random_pool(6).probabilities)
    for n in (2, 6):
        assert_sound(pool, any_strategy.propose(pool, n, np.random.default_rng(0)), n)


def test_copies_of_one_text_are_different_items(any_strategy: Strategy) -> None:
    pool = pool_of([[1, 2, 2]] * 6, [[0.7, 0.3]] * 6, np.ones(N_TOKENS))
    ranking = any_strategy.propose(pool, 6, np.random.default_rng(0))
    assert_sound(pool, ranking, 6)


def test_ids_travel_not_positions(any_strategy: Strategy) -> None:
    pool = random_pool(12)
    named = dataclasses.replace(pool, item_ids=pa.array([f"z{k}" for k in range(12, 24)], pa.string()))
    ranking = any_strategy.propose(pool, 6, np.random.default_rng(0))
    renamed = any_strategy.propose(named, 6, np.random.default_rng(0))
    assert renamed.item_ids == tuple(f"z{int(item_id[-4:]) + 12}" for item_id in ranking.item_ids)
