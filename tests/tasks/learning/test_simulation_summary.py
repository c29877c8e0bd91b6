"""Means, intervals, areas, targets and records of curves, by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from tasks.simulation.experiment import TIE, Curve, summarise

ASKED = np.array([100, 200, 400])


def curve(mix: str, *rows: tuple[float, ...]) -> Curve:
    return Curve(mix, ASKED, np.array(rows))


def test_means_and_their_intervals_are_those_of_students_t() -> None:
    found = curve("a", (0.1, 0.2, 0.3), (0.3, 0.4, 0.9), (0.2, 0.3, 0.6))
    assert found.means.tolist() == pytest.approx([0.2, 0.3, 0.6])
    low, high = found.intervals()
    expected = t.interval(0.95, 2, loc=0.6, scale=0.3 / np.sqrt(3))
    assert (low[2], high[2]) == pytest.approx(expected)
    low, high = curve("a", (0.1, 0.2, 0.3)).intervals()
    assert low.tolist() == high.tolist() == [0.1, 0.2, 0.3], "one seed has no spread"


def test_the_area_weighs_each_stretch_by_the_items_asked_in_it() -> None:
    assert curve("a", (0.0, 1.0, 1.0)).areas().tolist() == pytest.approx([(0.5 * 100 + 1.0 * 200) / 300])
    assert Curve("a", np.array([100]), np.array([[0.4]])).areas().tolist() == [0.4]


def test_mixes_are_ranked_and_compared_with_random_seed_by_seed() -> None:
    base = curve("random", (0.2, 0.2, 0.2), (0.5, 0.5, 0.5), (0.4, 0.4, 0.4))
    other = curve("other", (0.3, 0.3, 0.3), (0.5 + TIE / 2,) * 3, (0.3, 0.3, 0.3))
    best = curve("best", (0.6, 0.72, 0.8), (0.6, 0.72, 0.8), (0.6, 0.72, 0.8))
    found = summarise([base, other, best], target=0.7)
    assert found[0].curve.mix == "best"
    by_name = {each.curve.mix: each for each in found}
    assert (by_name["other"].wins, by_name["other"].ties, by_name["other"].losses) == (1, 1, 1)
    assert (by_name["random"].wins, by_name["random"].ties, by_name["random"].losses) == (0, 0, 0)
    assert by_name["random"].gain is None
    differences = best.areas() - base.areas()
    expected = t.interval(0.95, 2, loc=differences.mean(), scale=differences.std(ddof=1) / np.sqrt(3))
    assert by_name["best"].gain == pytest.approx((differences.mean(), *expected))
    assert (by_name["best"].to_target, by_name["random"].to_target) == (200, None)
    assert by_name["best"].low == pytest.approx(by_name["best"].area)


def test_without_random_there_is_nothing_to_compare_with() -> None:
    (found,) = summarise([curve("a", (0.1, 0.2, 0.3))], target=0.3)
    assert (found.wins, found.ties, found.losses, found.to_target) == (0, 0, 0, 400)


def test_random_is_that_of_the_same_encoder_and_batch_size() -> None:
    def level(mix: str, encoder: str, batch_size: int, value: float) -> Curve:
        return Curve(mix, ASKED, np.full((2, 3), value), encoder, batch_size)

    curves = [
        level("random", "small", 50, 0.2),
        level("other", "small", 50, 0.4),
        level("random", "large", 50, 0.6),
        level("other", "large", 50, 0.5),
        level("other", "large", 100, 0.9),
    ]
    found = {(each.curve.mix, *each.curve.setting): (each.wins, each.losses) for each in summarise(curves, target=1)}
    assert found["other", "small", 50] == (2, 0)
    assert found["other", "large", 50] == (0, 2), "it would win against random with the small encoder"
    assert found["other", "large", 100] == (0, 0), "there is no random in batches of 100"


def test_between_two_steps_a_curve_is_straight() -> None:
    found = curve("a", (0.1, 0.2, 0.4), (0.3, 0.4, 0.6)).at(np.array([100, 150, 200, 250]))
    assert found.tolist() == pytest.approx([0.2, 0.25, 0.3, 0.35])
