"""Whether a candidate may replace the production model: a paired bootstrap on the same held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.learning.metrics import INTERVAL, label_figures, mean_of_defined, n_resamples, resamples


@dataclass(frozen=True)
class Scored:
    """Predictions of a model for n items: the probability of a label (n,), and whether that label is predicted (n,)."""

    scores: npt.NDArray[np.float64]
    chosen: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same n items.

    Attributes:
        candidate: Its figure, and `production` that of the other.
        low: Of the 95 % interval of the difference, candidate less production; `high` is its upper end.
        not_worse: Share of paired resamples in which the candidate is not worse by more than the margin, 0 to 1.
    """

    n: int
    candidate: float
    production: float
    low: float
    high: float
    not_worse: float


def compare(
    candidate: Sequence[Scored],
    production: Sequence[Scored],
    truths: Sequence[npt.NDArray[np.bool_]],
    metric: str,
    *,
    margin: float,
    item_weights: npt.NDArray[np.float64] | None = None,
) -> Comparison | None:
    """Compare two models on the same items by a paired bootstrap; None if the metric is undefined on them.

    Of several labels those count that the items have and for which both models have the metric.

    Args:
        candidate: What it says of each label that counts: the positive one, or all, whose mean is compared.
        truths: Where the items have that label, (n,) each.
        metric: `ap`, `auc` or `f1`, the last at each model's own threshold.
        margin: By how much the candidate may be worse and still count as not worse.
        item_weights: What each item counts, (n,); None for all alike.
    """
    n = len(truths[0])
    if not n:
        return None
    weights = resamples(n, n_resamples(n), np.random.default_rng(0), item_weights)

    def figures(model: Sequence[Scored]) -> npt.NDArray[np.float64]:
        of_labels = [
            label_figures(scored.scores, truth, scored.chosen)[metric](weights)
            for scored, truth in zip(model, truths, strict=True)
        ]
        return np.array(of_labels)

    both = figures(candidate), figures(production)
    counted = [k for k, truth in enumerate(truths) if truth.any() and not np.isnan([side[k, 0] for side in both]).any()]
    ours, theirs = (mean_of_defined(list(side[counted]), len(weights)) for side in both)
    differences = (ours - theirs)[1:]
    differences = differences[~np.isnan(differences)]
    if np.isnan(ours[0] - theirs[0]) or not len(differences):
        return None
    low, high = np.percentile(differences, INTERVAL)
    not_worse = float(np.mean(differences >= -margin))
    return Comparison(n, float(ours[0]), float(theirs[0]), float(low), float(high), not_worse)


def recent_window(
    places: npt.NDArray[np.int64], counted: npt.NDArray[np.bool_], least: int
) -> tuple[int, npt.NDArray[np.bool_]] | None:
    """The newest slices that together have enough items to compare models on; None if no older slice is left.

    Args:
        places: Of each item the place of its slice, the oldest 0, (n,).
        counted: The items that count, (n,).
        least: How many of these the window needs.

    Returns:
        The place of its first slice, and which items it has (n,).

    >>> recent_window(np.array([0, 0, 1, 2, 2]), np.ones(5, bool), 3)
    (1, array([False, False,  True,  True,  True]))
    """
    for start in range(int(places.max(initial=0)), 0, -1):
        within = places >= start
        if np.count_nonzero(counted & within) >= least and not within.all():
            return start, within
    return None
