"""Whether a candidate may replace the production model: a paired bootstrap on the same held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.learning.metrics import label_figures, n_resamples, resamples


@dataclass(frozen=True)
class PromotionConfig:
    """The gate.

    Attributes:
        metric: What is compared: average precision, area under ROC, or F1 at each model's own threshold.
        margin: By how much a candidate may be worse and still count as not worse.
        confidence: How probable it must be that the candidate is not worse, 0-1.
    """

    metric: Literal["ap", "auc", "f1"] = "ap"
    margin: float = 0.01
    confidence: float = 0.5


@dataclass(frozen=True)
class Scored:
    """What one model says of the same n items: probability of one label (n,), and where it decides for it (n,)."""

    scores: npt.NDArray[np.float64]
    chosen: npt.NDArray[np.bool_]


def probability_not_worse(
    candidate: Sequence[Scored],
    production: Sequence[Scored],
    truths: Sequence[npt.NDArray[np.bool_]],
    config: PromotionConfig,
    *,
    seed: int = 0,
) -> float | None:
    """Share of paired resamples in which the candidate is not worse by more than the margin.

    Args:
        candidate: What it says of each label that counts: the positive one, or all, whose mean is compared.
        truths: Where the items have that label, (n,) each.

    Returns:
        0-1; None where the metric is undefined on these items.
    """
    n = len(truths[0])
    if not n:
        return None
    weights = resamples(n, n_resamples(n), np.random.default_rng(seed))[1:]

    def figure(model: Sequence[Scored]) -> npt.NDArray[np.float64]:
        of_labels = [
            label_figures(each.scores, truth, each.chosen)[config.metric](weights)
            for each, truth in zip(model, truths, strict=True)
        ]
        return np.asarray(np.mean(of_labels, axis=0))

    ours, theirs = figure(candidate), figure(production)
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    return float(np.mean(ours[both] - theirs[both] >= -config.margin)) if both.any() else None
