"""The settings of the promotion gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
