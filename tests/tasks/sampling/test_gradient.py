import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import torch
from figures import figures
from pools import pool_of_texts, pool_of_vectors, positions, propose, random_pool

from tasks.learning.training import Classifier
from tasks.learning.vectors import NetworkVectors
from tasks.sampling.strategies import model_change  # noqa: F401  (registers the strategy)
from tasks.sampling.strategy import Head, Pool, Ranking


def gradients(pool: Pool) -> npt.NDArray[np.float64]:
    """(n, n_labels * width), as the paper writes them: (p - onehot) (x) representation."""
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
    assert positions(propose("badge", FOUR, 1)) == [0]
    assert propose("badge", FOUR, 1).scores.tolist() == pytest.approx([0.5])
    assert [figures(detail) for detail in propose("badge", FOUR, 1).details] == [["0.707"]]
    expected = {1: 0.52, 2: 0.68, 3: 0.18}
    for seed in range(10):
        first, second = positions(propose("badge", FOUR, 2, seed))
        assert first == 0
        assert propose("badge", FOUR, 2, seed).scores[1] == pytest.approx(expected[second], abs=1e-6)


def test_the_second_is_drawn_in_proportion_to_the_squared_distance() -> None:
    second = [positions(propose("badge", FOUR, 2, seed))[1] for seed in range(1500)]
    shares = np.array([0, 0.52, 0.68, 0.18]) / 1.38
    np.testing.assert_allclose(np.bincount(second, minlength=4) / 1500, shares, atol=0.04)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_labels", [2, 3, 5, None], ids=["2", "3", "5", "representations of any length"])
def test_distances_are_those_of_the_gradients_though_they_are_never_made(seed: int, n_labels: int | None) -> None:
    pool = random_pool(50, seed, n_labels) if n_labels else with_network(random_pool(50, seed))
    assert_kmeans_plus_plus(pool, propose("badge", pool, 40, seed))


def test_copies_of_a_pick_are_not_drawn_while_something_else_is_left() -> None:
    pool = pool_of_vectors([[1, 0, 0]] * 20 + [[0, 1, 0]] * 20 + [[0, 0, 1]] * 20, weight=np.eye(3))
    for seed in range(20):
        ranking = propose("badge", pool, 4, seed)
        assert {k // 20 for k in positions(ranking)[:3]} == {0, 1, 2}
        assert ranking.scores[2] > 0.1
        assert ranking.scores[3] == 0


def test_what_is_left_at_no_distance_follows_by_the_length_of_its_gradient() -> None:
    # Texts without tokens have gradient 0; so has what is predicted with certainty.
    pool = pool_of_texts([[1], [], [], [2], [1]], [[0.5, 0.5], [0.5, 0.5], [0.6, 0.4], [1, 0], [0.5, 0.5]])
    for seed in range(10):
        ranking = propose("badge", pool, 5, seed)
        assert positions(ranking)[0] in (0, 4)
        assert ranking.scores.tolist() == pytest.approx([0.5, 0.5, 0, 0, 0])
        assert positions(ranking)[2] in (0, 4)


def test_only_candidates_are_looked_at_but_never_fewer_than_are_asked_for() -> None:
    pool = random_pool(60)
    squares = (gradients(pool) ** 2).sum(axis=1)
    firsts = {positions(propose("badge", pool, 1, seed, candidates=5))[0] for seed in range(40)}
    assert len(firsts) > 5
    assert {positions(propose("badge", pool, 1, seed, candidates=60))[0] for seed in range(40)} <= set(
        np.flatnonzero(np.isclose(squares, squares.max())).tolist()
    )
    assert len(set(propose("badge", pool, 30, candidates=0).item_ids)) == 30


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_at_distance_0_though_products_are_rounded(seed: int) -> None:
    table = np.random.default_rng(seed).standard_normal((40, 200))
    pool = pool_of_texts([[1, 2, 3, 5, 8]] * 12, [[0.63, 0.37]] * 12, table=table)
    assert propose("badge", pool, 12, seed).scores[1:].tolist() == [0] * 11
