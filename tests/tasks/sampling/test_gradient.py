import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch
from figures import figures
from pools import pool_of_texts, pool_of_vectors, random_pool

from tasks.learning.training import Classifier
from tasks.learning.vectors import NetworkVectors
from tasks.sampling.strategies import model_change  # noqa: F401  (registers the strategy)
from tasks.sampling.strategy import Head, Pool, Ranking, find_strategy


def propose(pool: Pool, n: int, seed: int = 0, **options: int) -> Ranking:
    return find_strategy("badge").propose(pool, n, np.random.default_rng(seed), **options)


def positions(ranking: Ranking) -> list[int]:
    return [int(item_id[-4:]) for item_id in ranking.item_ids]


def gradients(pool: Pool) -> npt.NDArray[np.float64]:
    """(n, n_labels * width), as the paper writes them: (p - onehot) (x) representation."""
    assert pool.hidden is not None
    errors = pool.probabilities - np.eye(pool.probabilities.shape[1])[pool.probabilities.argmax(axis=1)]
    rows = pool.hidden.rows(np.arange(len(pool)))
    return np.array([np.outer(error, row).ravel() for error, row in zip(errors, rows, strict=True)], np.float64)


def assert_kmeans_plus_plus(pool: Pool, ranking: Ranking) -> None:
    """The longest first; each score the squared distance to the nearest before it, on the gradients themselves."""
    g = gradients(pool)
    picks = positions(ranking)
    squares = (g**2).sum(axis=1)
    assert ranking.scores[0] == pytest.approx(squares.max(), rel=1e-5)
    assert squares[picks[0]] == pytest.approx(squares.max(), rel=1e-5)
    for k in range(1, len(picks)):
        nearest = ((g[picks[k]] - g[picks[:k]]) ** 2).sum(axis=1).min()
        assert ranking.scores[k] == pytest.approx(nearest, rel=1e-3, abs=3e-5 * squares.max())


def with_network(pool: Pool) -> Pool:
    """The pool under a network of 40 word counts: its representation is no unit vector."""
    torch.manual_seed(0)
    classifier = Classifier(40, 3, hidden=5)
    hidden = NetworkVectors(pool.tokens, classifier)
    weight, bias = (part.detach().numpy() for part in (classifier.head.weight, classifier.head.bias))
    logits = hidden.products(weight) + bias
    exponents = np.exp(logits)
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    return dataclasses.replace(pool, hidden=hidden, head=Head(weight, bias), logits=logits, probabilities=probabilities)


FOUR = pool_of_texts([[1], [2], [3], [1]], [[0.5, 0.5], [0.9, 0.1], [0.7, 0.3], [0.8, 0.2]])
"""Squared lengths 0.5, 0.02, 0.18, 0.08 (twice (1 - p1)^2); squared distances of the others to the first: they share no
token with it, so 0.52 and 0.68; the last has its text: (0.5 - 0.2)^2 twice, 0.18."""


def test_ranking_worked_by_hand() -> None:
    assert positions(propose(FOUR, 1)) == [0]
    assert propose(FOUR, 1).scores.tolist() == pytest.approx([0.5])
    assert [figures(detail) for detail in propose(FOUR, 1).details] == [["0.707"]]
    expected = {1: 0.52, 2: 0.68, 3: 0.18}
    for seed in range(10):
        first, second = positions(propose(FOUR, 2, seed))
        assert first == 0
        assert propose(FOUR, 2, seed).scores[1] == pytest.approx(expected[second], abs=1e-6)


def test_the_second_is_drawn_in_proportion_to_the_squared_distance() -> None:
    second = [positions(propose(FOUR, 2, seed))[1] for seed in range(1500)]
    shares = np.array([0, 0.52, 0.68, 0.18]) / 1.38
    np.testing.assert_allclose(np.bincount(second, minlength=4) / 1500, shares, atol=0.04)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_labels", [2, 3, 5])
def test_distances_are_those_of_the_gradients_though_they_are_never_made(seed: int, n_labels: int) -> None:
    pool = random_pool(50, seed, n_labels)
    assert_kmeans_plus_plus(pool, propose(pool, 40, seed))


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_the_gradients_also_where_representations_have_any_length(seed: int) -> None:
    pool = with_network(random_pool(50, seed))
    assert_kmeans_plus_plus(pool, propose(pool, 40, seed))


def test_squared_norms_are_those_of_the_rows() -> None:
    everything = np.arange(30)
    pool = random_pool(30)
    assert (pool.tokens.lengths == 0).any()
    unknown = pool_of_vectors([[0, 0], [1, 2], [3, 0]]).vectors  # the first has a token, whose vector is 0
    one_hot = pool_of_texts([[1, 1, 2], [], [3]]).vectors
    for vectors in (pool.vectors, unknown, one_hot, with_network(pool).hidden):
        assert vectors is not None
        rows = vectors.rows(everything[: len(vectors)])
        np.testing.assert_allclose(vectors.squared_norms, (rows**2).sum(axis=1), rtol=1e-5)


def test_copies_of_a_pick_are_not_drawn_while_something_else_is_left() -> None:
    pool = pool_of_vectors([[1, 0, 0]] * 20 + [[0, 1, 0]] * 20 + [[0, 0, 1]] * 20, weight=np.eye(3))
    for seed in range(20):
        ranking = propose(pool, 4, seed)
        assert {k // 20 for k in positions(ranking)[:3]} == {0, 1, 2}
        assert ranking.scores[2] > 0.1
        assert ranking.scores[3] == 0


def test_what_is_left_at_no_distance_follows_by_the_length_of_its_gradient() -> None:
    # Texts without tokens have gradient 0; so has what is predicted with certainty.
    pool = pool_of_texts([[1], [], [], [2], [1]], [[0.5, 0.5], [0.5, 0.5], [0.6, 0.4], [1, 0], [0.5, 0.5]])
    for seed in range(10):
        ranking = propose(pool, 5, seed)
        assert positions(ranking)[0] in (0, 4)
        assert ranking.scores.tolist() == pytest.approx([0.5, 0.5, 0, 0, 0])
        assert positions(ranking)[2] in (0, 4)


def test_where_all_are_certain_every_item_is_found_with_score_0() -> None:
    ranking = propose(pool_of_texts([[k] for k in range(9)], [[1, 0]] * 9), 9)
    assert sorted(positions(ranking)) == list(range(9))
    assert ranking.scores.tolist() == [0] * 9


@pytest.mark.parametrize("seed", range(5))
def test_what_has_no_finite_probability_is_last(seed: int) -> None:
    pool = pool_of_texts(
        [[k] for k in range(6)], [[np.nan, 0.5], [0.5, 0.5], [1, 0], [np.inf, 0], [0.7, 0.3], [0.6, 0.4]]
    )
    ranking = propose(pool, 6, seed)
    assert set(positions(ranking)[4:]) == {0, 3}
    assert ranking.scores[4:].tolist() == [-np.inf, -np.inf]
    assert np.isfinite(ranking.scores[:4]).all()
    nothing = pool_of_texts([[1], [2]], [[np.nan, 0], [np.inf, 0]])
    assert propose(nothing, 2, seed).scores.tolist() == [-np.inf, -np.inf]


def test_only_candidates_are_looked_at_but_never_fewer_than_are_asked_for() -> None:
    pool = random_pool(60)
    squares = (gradients(pool) ** 2).sum(axis=1)
    firsts = {positions(propose(pool, 1, seed, candidates=5))[0] for seed in range(40)}
    assert len(firsts) > 5
    assert {positions(propose(pool, 1, seed, candidates=60))[0] for seed in range(40)} <= set(
        np.flatnonzero(np.isclose(squares, squares.max())).tolist()
    )
    assert len(set(propose(pool, 30, candidates=0).item_ids)) == 30


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_at_distance_0_though_products_are_rounded(seed: int) -> None:
    table = np.random.default_rng(seed).standard_normal((40, 200))
    pool = pool_of_texts([[1, 2, 3, 5, 8]] * 12, [[0.63, 0.37]] * 12, table=table)
    assert propose(pool, 12, seed).scores[1:].tolist() == [0] * 11
