"""What figures hide: precision against recall, calibration by bins, confusion, and the worst mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.learning.stopping import wilson_interval

MOST_POINTS = 200
N_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Items whose probability lies in one of ten bins of equal width.

    Attributes:
        probability: Their mean probability, 0 to 1.
        share: How many of them have the label, 0 to 1; `low` and `high` are its 95 % interval.
    """

    probability: float
    share: float
    low: float
    high: float
    n: int


def precision_recall(
    scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], most: int = MOST_POINTS
) -> list[tuple[float, float]]:
    """(recall, precision) at the cuts between different scores, recall rising; at most so many points, ends included.

    Args:
        scores: Probability of the label, (n,).
        truth: Where the items have it, (n,); with none the curve is empty.

    >>> precision_recall(np.array([0.9, 0.6, 0.6, 0.1]), np.array([True, True, False, False]))
    [(0.5, 1.0), (1.0, 0.6666666666666666), (1.0, 0.5)]
    """
    if not truth.any():
        return []
    order = np.argsort(-scores, kind="stable")
    found, ranked = np.cumsum(truth[order]), scores[order]
    cuts = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    if len(cuts) > most:
        cuts = cuts[np.unique(np.linspace(0, len(cuts) - 1, most).round().astype(np.int64))]
    return [(float(found[cut] / found[-1]), float(found[cut] / (cut + 1))) for cut in cuts]


def calibration_bins(probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> list[Bin]:
    """How often items of about the same probability have the label; bins without items are left out.

    Args:
        probabilities: Of the label, (n,).
        truth: Where the items have it, (n,).
    """
    bins = np.minimum((probabilities * N_BINS).astype(np.int64), N_BINS - 1)
    found = []
    for k in np.unique(bins):
        members = bins == k
        n, hits = int(members.sum()), int(truth[members].sum())
        found.append(Bin(float(probabilities[members].mean()), hits / n, *wilson_interval(hits, n), n))
    return found


def confusion(labels: npt.NDArray[np.int64], decisions: npt.NDArray[np.int64], n_labels: int) -> npt.NDArray[np.int64]:
    """How many items of each label (row) were decided for each label (column): (n_labels, n_labels).

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    counts: npt.NDArray[np.int64] = np.bincount(labels * n_labels + decisions, minlength=n_labels**2)
    return counts.reshape(n_labels, n_labels)


def worst_mistakes(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], decisions: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.int64]:
    """Positions of the n wrong decisions that the model was surest of, the surest first.

    Args:
        probabilities: (n_items, n_labels).
        labels: (n_items,).
        decisions: (n_items,).
    """
    wrong = np.flatnonzero(labels != decisions)
    surety = probabilities[wrong, decisions[wrong]] - probabilities[wrong, labels[wrong]]
    return wrong[np.argsort(-surety, kind="stable")[:n]]
