"""Curves against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_curve

from tasks.learning.metrics import calibration_bins, confusion, precision_recall, worst_mistakes
from tasks.learning.stopping import wilson_interval

GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.random(500) < 0.2
SCORES = np.round(np.clip(TRUTH * 0.3 + GENERATOR.random(500) * 0.7, 0, 1), 2)


def test_the_curve_is_scikit_learns_at_every_cut_between_different_scores() -> None:
    precisions, recalls, _ = precision_recall_curve(TRUTH, SCORES)
    expected = list(zip(recalls[:-1][::-1], precisions[:-1][::-1], strict=True))
    assert np.allclose(precision_recall(SCORES, TRUTH), expected)


def test_a_long_curve_keeps_its_ends_and_only_points_of_its_own() -> None:
    scores = GENERATOR.random(500)
    whole, short = precision_recall(scores, TRUTH, most=1000), precision_recall(scores, TRUTH, most=50)
    assert len(short) == 50
    assert (short[0], short[-1]) == (whole[0], whole[-1])
    assert set(short) <= set(whole)


def test_without_the_label_there_is_no_curve() -> None:
    assert precision_recall(SCORES, np.zeros(500, np.bool_)) == []


def test_bins_count_every_item_once_and_know_how_often_they_are_right() -> None:
    bins = calibration_bins(SCORES, TRUTH)
    assert sum(each.n for each in bins) == 500
    assert sum(each.share * each.n for each in bins) == pytest.approx(TRUTH.sum())
    first = SCORES < 0.1
    assert bins[0].n == first.sum()
    assert bins[0].probability == pytest.approx(SCORES[first].mean())
    assert (bins[0].low, bins[0].high) == wilson_interval(int(TRUTH[first].sum()), int(first.sum()))
    (only,) = calibration_bins(np.ones(3), np.array([True, True, False]))
    assert (only.n, only.probability) == (3, 1.0), "1 is of the last bin"


def test_confusion_is_scikit_learns_also_for_labels_that_nothing_has() -> None:
    labels, decisions = GENERATOR.integers(0, 3, 100), GENERATOR.integers(0, 3, 100)
    assert confusion(labels, decisions, 4).tolist() == confusion_matrix(labels, decisions, labels=range(4)).tolist()


def test_the_worst_mistakes_are_wrong_and_the_surest_come_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.05, 0.95], [0.3, 0.7]], np.float32)
    labels = np.array([1, 1, 1, 0, 0])
    decisions = probabilities.argmax(axis=1)
    assert worst_mistakes(probabilities, labels, decisions, 3).tolist() == [3, 0, 4]
    assert worst_mistakes(probabilities, decisions, decisions, 3).tolist() == []
