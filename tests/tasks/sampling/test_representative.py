import numpy as np
import numpy.typing as npt
import pytest
from figures import figures
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import pool_of_texts, positions, propose, random_pool, tokens_of

import tasks.sampling.strategies.outliers  # noqa: F401  (registers the strategies)
from tasks.sampling.strategy import Labelled, Pool, Ranking


def pool_and_training(texts: list[list[int]], training: list[list[int]]) -> Pool:
    return pool_of_texts(texts, training=Labelled(tokens_of(training), np.zeros(len(training), np.int64)))


def dense(pool: Pool) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Vectors of the pool and of the training items."""
    training = pool.vectors.of(pool.training.tokens)
    both = pool.vectors.rows(np.arange(len(pool))), training.rows(np.arange(len(training)))
    return both[0].astype(np.float64), both[1].astype(np.float64)


def cosines(rows: npt.NDArray[np.float64], total: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To the direction of `total`; -inf for rows of 0."""
    found = rows @ (total / (np.linalg.norm(total) or 1))
    return np.where(rows.any(axis=1), found, -np.inf)


def check_details(ranking: Ranking) -> None:
    for detail, score in zip(ranking.details, ranking.scores, strict=True):
        if figures(detail):
            to_pool, to_training = map(float, figures(detail))
            assert to_pool - to_training == pytest.approx(score, abs=0.011)


@given(st.integers(1, 60), st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=60)
def test_representative_is_the_difference_of_the_cosines_to_the_two_centroids(
    size: int, seed: int, n_training: int
) -> None:
    pool = random_pool(size, seed, n_training=n_training)
    rows, training = dense(pool)
    expected = cosines(rows, rows.sum(axis=0)) - rows @ (
        training.sum(axis=0) / (np.linalg.norm(training.sum(axis=0)) or 1)
    )
    ranking = propose("representative", pool, size)
    np.testing.assert_allclose(ranking.scores, expected[positions(ranking)], atol=1e-5)
    np.testing.assert_allclose(ranking.scores, np.sort(expected)[::-1], atol=1e-5)
    check_details(ranking)


@pytest.mark.parametrize("name", ["representative", "adaptive_representative"])
def test_without_a_token_in_the_training_items_only_the_pool_counts(name: str) -> None:
    ranking = propose(name, pool_and_training([[0], [1], [0]], [[]]), 1)
    np.testing.assert_allclose(ranking.scores, [2 / 5**0.5], atol=1e-6)


@given(st.integers(1, 40), st.integers(0, 10_000), st.integers(1, 12), st.data())
@settings(max_examples=40)
def test_adaptive_representative_is_the_greedy_choice_that_computes_everything_anew_after_each_pick(
    size: int, seed: int, n_training: int, data: st.DataObject
) -> None:
    pool = random_pool(size, seed, n_training=n_training)
    rows, training = dense(pool)
    to_pool, trained = cosines(rows, rows.sum(axis=0)), training.sum(axis=0)
    ranking = propose("adaptive_representative", pool, data.draw(st.integers(1, size)), seed)
    check_details(ranking)
    left = np.ones(size, np.bool_)
    for position, score in zip(positions(ranking), ranking.scores, strict=True):
        fresh = to_pool - rows @ (trained / (np.linalg.norm(trained) or 1))
        np.testing.assert_allclose([fresh[position], score], fresh[left].max(), atol=1e-5)
        left[position] = False
        trained = trained + rows[position]
