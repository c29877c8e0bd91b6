import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.learning.tokens import Tokens
from tasks.learning.vectors import TokenVectors
from tasks.sampling.catalogue import find_strategy
from tasks.sampling.strategies.uncertainty import (
    entropy_scores,
    least_confidence_scores,
    margin_confidence_scores,
    ratio_confidence_scores,
)
from tasks.sampling.strategy import Pool, Ranking

SCORES = {
    "least_confidence": least_confidence_scores,
    "margin_confidence": margin_confidence_scores,
    "ratio_confidence": ratio_confidence_scores,
    "entropy": entropy_scores,
}


def propose(name: str, probabilities: npt.NDArray[np.float32], n: int, seed: int = 0) -> Ranking:
    size = len(probabilities)
    tokens = Tokens(np.zeros(0, np.uint16), np.zeros(size + 1, np.int64))
    item_ids = pa.array([f"i{k:04d}" for k in range(size)], pa.string())
    pool = Pool(item_ids, TokenVectors(tokens, 1, None), np.zeros(1), probabilities, probabilities)
    return find_strategy(name).propose(pool, n, np.random.default_rng(seed))


# Two labels: p1 = 0.8, p2 = 0.2. Three labels: 0.6, 0.3, 0.1 (in another order).
WORKED = {
    "least_confidence": (0.2 * 2, 0.4 * 3 / 2),
    "margin_confidence": (0.4, 0.7),
    "ratio_confidence": (0.25, 0.5),
    "entropy": (0.721928, 0.817345),  # .8 log2 1.25 + .2 log2 5; (.6 log2 1/.6 + .3 log2 1/.3 + .1 log2 10) / log2 3
}


@pytest.mark.parametrize("name", SCORES)
def test_score_worked_by_hand_for_two_and_for_three_labels(name: str) -> None:
    two, three = WORKED[name]
    assert SCORES[name](np.array([[0.2, 0.8]], np.float32)) == pytest.approx([two], abs=1e-6)
    assert SCORES[name](np.array([[0.3, 0.1, 0.6]], np.float32)) == pytest.approx([three], abs=1e-6)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("n_labels", [2, 3, 7])
def test_score_is_0_for_certain_and_1_for_no_idea_and_does_not_mind_which_label(name: str, n_labels: int) -> None:
    certain = np.eye(n_labels, dtype=np.float32)
    no_idea = np.full((1, n_labels), 1 / n_labels, np.float32)
    assert SCORES[name](certain).tolist() == [0.0] * n_labels
    assert not np.signbit(SCORES[name](certain)).any()
    assert SCORES[name](no_idea) == pytest.approx([1.0], abs=1e-6)


@given(st.integers(2, 6), st.integers(0, 2**32))
def test_scores_lie_between_0_and_1_and_the_order_of_labels_does_not_matter(n_labels: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.dirichlet(np.full(n_labels, 0.3), 20).astype(np.float32)
    for score in SCORES.values():
        found = score(rows)
        assert found.shape == (20,)
        assert (found >= 0).all()
        assert (found <= 1 + 1e-6).all()
        assert score(rows[:, generator.permutation(n_labels)]) == pytest.approx(found, abs=1e-12)


def test_entropy_is_defined_where_a_probability_is_zero() -> None:
    rows = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], np.float32)
    assert entropy_scores(rows) == pytest.approx([0.0, np.log(2) / np.log(3)], abs=1e-6)


@given(st.lists(st.integers(0, 1024), min_size=2, max_size=40, unique_by=lambda k: min(k, 1024 - k)))
def test_for_two_labels_the_four_rank_alike(numerators: list[int]) -> None:
    p = np.array(numerators) / 1024
    rows = np.stack([p, 1 - p], axis=1).astype(np.float32)
    rankings = {propose(name, rows, len(rows)).item_ids for name in SCORES}
    assert len(rankings) == 1


def test_for_three_labels_they_need_not_rank_alike() -> None:
    rows = np.array([[0.49, 0.49, 0.02], [0.46, 0.27, 0.27]], np.float32)
    assert propose("margin_confidence", rows, 1).item_ids == ("i0000",)
    assert propose("least_confidence", rows, 1).item_ids == ("i0001",)


@pytest.mark.parametrize("name", SCORES)
def test_the_least_sure_is_asked_first(name: str) -> None:
    p = np.array([0.99, 0.55, 0.3, 0.02, 0.48], np.float32)
    assert propose(name, np.stack([p, 1 - p], axis=1), 4).item_ids == ("i0004", "i0001", "i0002", "i0003")


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("row", [[np.nan, 0.5], [np.nan, np.nan], [np.inf, 0], [np.inf, np.inf], [-np.inf, 1]])
def test_probabilities_that_are_not_finite_score_minus_infinity_and_come_last(name: str, row: list[float]) -> None:
    rows = np.array([row, [1.0, 0.0], [0.5, 0.5]], np.float32)
    ranking = propose(name, rows, 3)
    assert ranking.item_ids == ("i0002", "i0001", "i0000")
    assert ranking.scores.tolist() == [1.0, 0.0, -np.inf]


@pytest.mark.parametrize("name", SCORES)
def test_level_items_are_drawn_without_favour(name: str) -> None:
    rows = np.full((10, 2), 0.5, np.float32)
    times = np.zeros(10)
    for seed in range(300):
        for item_id in propose(name, rows, 3, seed).item_ids:
            times[int(item_id[1:])] += 1
    assert times.min() > 55  # of 90 expected; a fair draw is below in 1 of 100,000
    assert times.max() < 130


def test_random_draws_every_item_equally_often_and_first_place_too() -> None:
    rows = np.zeros((10, 0), np.float32)
    times, first = np.zeros(10), np.zeros(10)
    for seed in range(300):
        ranking = propose("random", rows, 3, seed)
        first[int(ranking.item_ids[0][1:])] += 1
        for item_id in ranking.item_ids:
            times[int(item_id[1:])] += 1
    assert times.min() > 55
    assert times.max() < 130
    assert first.min() > 8  # of 30 expected
    assert first.max() < 60


def test_random_scores_every_item_alike() -> None:
    assert propose("random", np.zeros((5, 0), np.float32), 4).scores.tolist() == [0.0] * 4
