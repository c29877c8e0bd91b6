"""Whether a candidate may replace the production model: a paired bootstrap on the same held-out items."""

from __future__ import annotations

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
    """What one model says of the same n items: probability of a label (n,), and where it decides for it (n,)."""

    scores: npt.NDArray[np.float64]
    chosen: npt.NDArray[np.bool_]


def probability_not_worse(
    candidate: Scored, production: Scored, truth: npt.NDArray[np.bool_], config: PromotionConfig, *, seed: int = 0
) -> float | None:
    """Share of paired resamples in which the candidate is not worse by more than the margin.

    Args:
        truth: Where the items have the label, (n,).

    Returns:
        0-1; None where the metric is undefined on these items.
    """
    if not len(truth):
        return None
    weights = resamples(len(truth), n_resamples(len(truth)), np.random.default_rng(seed))[1:]
    ours, theirs = (
        label_figures(model.scores, truth, model.chosen)[config.metric](weights) for model in (candidate, production)
    )
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    return float(np.mean(ours[both] - theirs[both] >= -config.margin)) if both.any() else None
