from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from tasks.config.settings import PromotionConfig
from tasks.learning import promotion as room
from tasks.learning.metrics import label_figures
from tasks.learning.promotion import Scored

MetricName = Literal["ap", "auc", "f1"]
METRICS: tuple[MetricName, ...] = ("ap", "auc", "f1")


def probability_not_worse(ours: Scored, theirs: Scored, truth: np.ndarray, config: PromotionConfig) -> float | None:
    """Of one label."""
    found = room.compare([ours], [theirs], [truth], config.metric, margin=config.margin)
    return found.not_worse if found else None


def truth_of(n: int = 300) -> npt.NDArray[np.bool_]:
    return np.asarray(np.arange(n) % 5 == 0)


def scored(noise: float, seed: int = 0, n: int = 300) -> Scored:
    """A model that sees the truth through that much noise."""
    scores = truth_of(n) + np.random.default_rng(seed).normal(0, noise, n)
    return Scored(scores, scores >= 0.5)


def test_a_model_worse_by_just_the_margin_counts_as_not_worse() -> None:
    truth = np.array([True, False] * 50)
    production = Scored(truth.astype(float), truth)
    candidate = Scored(np.zeros(100), ~truth & False)  # AUC one half, always
    gate = PromotionConfig(metric="auc", margin=0.5)
    assert probability_not_worse(candidate, production, truth, gate) == 1.0
    assert probability_not_worse(candidate, production, truth, PromotionConfig(metric="auc", margin=0.49)) == 0.0


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_share_of_paired_resamples_as_counted_one_by_one(
    metric: MetricName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "n_resamples", lambda _n: 150)
    truth, ours, theirs = truth_of(60), scored(0.9, 1, 60), scored(0.9, 2, 60)
    found = probability_not_worse(ours, theirs, truth, PromotionConfig(metric=metric, margin=0.02))
    generator = np.random.default_rng(0)
    wins = []
    for _ in range(150):
        drawn = generator.integers(0, 60, 60)  # the same items for both models
        values = []
        for model in (ours, theirs):
            if metric == "f1":
                values.append(f1_score(truth[drawn], model.chosen[drawn]))
            else:
                measure = roc_auc_score if metric == "auc" else average_precision_score
                values.append(measure(truth[drawn], model.scores[drawn]))
        wins.append(values[0] - values[1] >= -0.02)
    assert found == pytest.approx(np.mean(wins), abs=1e-9)
    assert found is not None
    assert 0 < found < 1


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_none_where_the_metric_is_undefined(metric: MetricName) -> None:
    nobody = Scored(np.zeros(10), np.zeros(10, np.bool_))
    assert probability_not_worse(nobody, nobody, np.zeros(10, np.bool_), PromotionConfig(metric=metric)) is None
    nothing = Scored(np.zeros(0), np.zeros(0, np.bool_))
    assert probability_not_worse(nothing, nothing, np.zeros(0, np.bool_), PromotionConfig(metric=metric)) is None


def test_the_default_gate_asks_for_even_odds_of_an_average_precision_not_worse_by_a_hundredth() -> None:
    assert PromotionConfig() == PromotionConfig(metric="ap", margin=0.01, confidence=0.5)


def test_without_a_positive_label_ruining_any_label_counts() -> None:
    truths = [np.array([True, False] * 30), np.array([False, True] * 30)]
    good = [Scored(truth.astype(float), truth) for truth in truths]
    ruined = [good[0], Scored(1.0 - good[1].scores, ~truths[1])]
    config = PromotionConfig(metric="ap", margin=0.01)
    same, worse = (room.compare(ours, good, truths, config.metric, margin=config.margin) for ours in (good, ruined))
    assert (same.not_worse, worse.not_worse) == (1.0, 0.0)


@pytest.mark.parametrize("metric", METRICS)
def test_both_figures_are_of_the_same_items_and_the_interval_is_of_their_paired_difference(metric: MetricName) -> None:
    truth, config = truth_of(), PromotionConfig(metric=metric)
    ours, theirs = scored(0.8, 1), scored(0.6, 2)
    found = room.compare([ours], [theirs], [truth], config.metric, margin=config.margin)
    figures = [label_figures(each.scores, truth, each.chosen)[metric](np.ones((1, 300)))[0] for each in (ours, theirs)]
    assert (found.n, found.candidate, found.production) == (300, *map(pytest.approx, figures))
    assert found.low <= found.candidate - found.production <= found.high
    same = room.compare([ours], [ours], [truth], config.metric, margin=config.margin)
    assert (same.low, same.high) == (0.0, 0.0), "paired: no difference has no spread"
