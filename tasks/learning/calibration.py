"""From logits to probabilities and decisions: temperature, decision threshold, and the folds they are fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_POSITIVES = 20
"""A threshold is fitted only where at least this many held-out items have the positive label."""

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0

_LOG_TEMPERATURES = np.linspace(np.log(LEAST_TEMPERATURE), np.log(MOST_TEMPERATURE), 241)


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, and probabilities a label.

    Attributes:
        temperature: Logits are divided by it; below 1 the model is surer than its raw logits say.
        threshold: The positive label is chosen from this probability on.
        positive: The label that the threshold is for; None where the most probable label is chosen.
    """

    temperature: float = 1.0
    threshold: float = 0.5
    positive: int | None = None

    def probabilities(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Probabilities (n, n_labels) of logits (n, n_labels); rows add up to 1."""
        scaled = logits / np.float32(self.temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        np.exp(scaled, out=scaled)
        scaled /= scaled.sum(axis=1, keepdims=True)
        return scaled

    def decisions(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """The label chosen for each row, (n,)."""
        chosen: npt.NDArray[np.int64] = probabilities.argmax(axis=1)
        if self.positive is None:
            return chosen
        others = probabilities.copy()
        others[:, self.positive] = -1.0
        is_positive = probabilities[:, self.positive].astype(np.float64) >= self.threshold  # it may lie between floats
        decided: npt.NDArray[np.int64] = np.where(is_positive, self.positive, others.argmax(axis=1))
        return decided


def calibrate(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], positive: int | None, *, choose_threshold: bool
) -> Calibration:
    """Fit temperature and threshold on items that the model was not trained on.

    The temperature minimises the negative log likelihood. The threshold maximises F1 of the positive label, where
    asked for and where at least 20 items have it; else it stays 0.5, which a balanced training makes the fair cut.

    Args:
        logits: (n, n_labels).
        labels: (n,).

    Source: Guo et al. (2017), On Calibration of Modern Neural Networks.
    """
    losses = [_negative_log_likelihood(logits / np.exp(t), labels) for t in _LOG_TEMPERATURES]
    temperature = float(np.exp(_LOG_TEMPERATURES[int(np.argmin(losses))]))
    fitted = Calibration(temperature, 0.5, positive)
    if not choose_threshold or positive is None or np.count_nonzero(labels == positive) < MIN_POSITIVES:
        return fitted
    scores = fitted.probabilities(logits)[:, positive]
    return Calibration(temperature, best_threshold(scores, labels == positive), positive)


def calibrate_held_out(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], positive: int | None
) -> tuple[Calibration, npt.NDArray[np.float32]]:
    """Fit temperature, threshold and, for two labels, the bias on logits of cross-validated training items.

    Two labels: Platt scaling. More: a temperature. A label's only item is left out, for the other folds cannot know
    it; where fewer than two labels remain, nothing is scaled. The threshold has the highest expected F1 (mean of the
    positive label's and the rest's) if the probabilities are right; few positives decide it better so than by their F1.

    Args:
        logits: (n, n_labels), each row from a classifier that did not see the item.
        labels: (n,).
        positive: The label that the threshold is for; None for the most probable label.

    Returns:
        The calibration, and what to add to the bias, (n_labels,).

    Source: Platt (1999), Probabilistic Outputs for Support Vector Machines; Lipton, Elkan and Narayanaswamy (2014),
    Optimal Thresholding of Classifiers to Maximize F1 Measure.
    """
    n_labels = logits.shape[1]
    shift = np.zeros(n_labels, np.float32)
    known = np.bincount(labels, minlength=n_labels)[labels] > 1
    if len(np.unique(labels[known])) < 2:
        fitted = Calibration(1.0, 0.5, positive)
    elif n_labels == 2:
        slope, intercept = _platt(logits[:, 1] - logits[:, 0], labels)
        fitted = Calibration(float(1 / slope), 0.5, positive)
        shift[1] = intercept / slope
    else:
        fitted = calibrate(logits[known], labels[known], positive, choose_threshold=False)
    if positive is not None:
        probabilities = fitted.probabilities(logits + shift)[:, positive]
        most = 2 * np.count_nonzero(labels == positive)  # where the items say little, half of the pool is not positive
        least = float(np.sort(probabilities)[max(0, len(labels) - 1 - int(most))])
        fitted = Calibration(fitted.temperature, max(expected_f1_threshold(probabilities), least), positive)
    return fitted, shift


def _platt(margins: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Slope and intercept of the log odds of label 1, given the margins (n,)."""
    from scipy.optimize import minimize  # predicting a few texts goes without it

    n_ones = np.count_nonzero(labels)
    target = np.where(labels == 1, (n_ones + 1) / (n_ones + 2), 1 / (len(labels) - n_ones + 2))
    margins = margins.astype(np.float64)

    def loss_and_gradient(line: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        odds = line[0] * margins + line[1]
        loss = np.mean(np.logaddexp(0, odds) - target * odds)
        off = 1 / (1 + np.exp(-odds)) - target
        return float(loss), np.array([np.mean(off * margins), np.mean(off)])

    solved = minimize(
        loss_and_gradient,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE), (None, None)],
    )
    return float(solved.x[0]), float(solved.x[1])


def expected_f1_threshold(probabilities: npt.NDArray[np.float32]) -> float:
    """The cut of probabilities (n,) with the highest expected F1, the mean of the positive label's and the rest's.

    F1 of the positive label alone would call nearly everything positive where labels are even: that has F1 .67.

    >>> round(expected_f1_threshold(np.array([0.9, 0.6, 0.1], np.float32)), 3)
    0.35
    """
    ranked = np.sort(probabilities.astype(np.float64))[::-1]
    n, total, hits, chosen = len(ranked), ranked.sum(), np.cumsum(ranked), np.arange(1, len(ranked) + 1)
    positive = 2 * hits / (chosen + total)
    rest = 2 * (n - total - chosen + hits) / np.maximum(2 * n - chosen - total, np.finfo(np.float64).tiny)
    return _best_cut(ranked, positive + rest)


def best_threshold(scores: npt.NDArray[np.float32], is_positive: npt.NDArray[np.bool_]) -> float:
    """The cut with the highest F1, half way between two scores (n,); the lowest such cut where several are level.

    >>> round(best_threshold(np.array([0.1, 0.4, 0.35, 0.8], np.float32), np.array([False, False, True, True])), 3)
    0.225
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order].astype(np.float64), np.cumsum(is_positive[order])
    return _best_cut(ranked, 2 * hits / (np.arange(1, len(scores) + 1) + is_positive.sum()))


def _best_cut(ranked: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> float:
    """The lowest of the best cuts, half way between two scores.

    Args:
        ranked: Scores, descending, (n,).
        values: Of the cut after each score, (n,).
    """
    values[:-1][ranked[:-1] == ranked[1:]] = -1.0  # a cut cannot part equal scores
    last = len(values) - 1 - int(np.argmax(values[::-1]))
    below = ranked[last + 1] if last + 1 < len(ranked) else 0.0
    return float((ranked[last] + below) / 2)


def _negative_log_likelihood(logits: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def stratified_folds(
    labels: npt.NDArray[np.int64], n_folds: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """A fold for each item.

    Args:
        labels: Label numbers (n,).

    Returns:
        Folds 0 to n_folds - 1, (n,): of each label the folds get equally many, give or take one.
    """
    folds = np.empty(len(labels), np.int64)
    start = 0
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        folds[members] = (np.arange(len(members)) + start) % n_folds
        start += len(members)
    return folds
