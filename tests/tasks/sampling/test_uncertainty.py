import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools import pool_of_texts, positions, propose

from tasks.sampling.strategies.uncertainty import (
    entropy_scores,
    least_confidence_scores,
    margin_confidence_scores,
    ratio_confidence_scores,
)

SCORES = {
    "least_confidence": least_confidence_scores,
    "margin_confidence": margin_confidence_scores,
    "ratio_confidence": ratio_confidence_scores,
    "entropy": entropy_scores,
}


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


@given(st.lists(st.integers(0, 1024), min_size=2, max_size=40, unique_by=lambda k: min(k, 1024 - k)))
def test_for_two_labels_the_four_rank_alike(numerators: list[int]) -> None:
    p = np.array(numerators) / 1024
    rows = np.stack([p, 1 - p], axis=1).astype(np.float32)
    rankings = {propose(name, pool_of_texts([[]] * len(rows), rows), len(rows)).item_ids for name in SCORES}
    assert len(rankings) == 1


def test_random_draws_every_item_equally_often_and_first_place_too() -> None:
    pool = pool_of_texts([[]] * 10)
    drawn = np.array([positions(propose("random", pool, 3, seed)) for seed in range(300)])
    times, first = np.bincount(drawn.ravel()), np.bincount(drawn[:, 0])
    assert times.min() > 55  # of 90 expected; a fair draw is below in 1 of 100,000
    assert times.max() < 130
    assert first.min() > 8  # of 30 expected
    assert first.max() < 60
