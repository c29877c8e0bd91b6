"""How to train: the `[model]` table of pal.toml, apart from torch so that reading settings costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainingConfig:
    """How to train; every default works.

    Attributes:
        hidden: Width of a hidden layer; 0 for none (on bag-of-words 0 means the original's 128).
        balance: Against rare labels: `weights` in the loss, `equal_draws` of each label per epoch, or `none`.
        regularisation: C of the linear head: the loss has |weights|^2 / (C n) added, which for two labels is
            logistic regression with |w|^2 / (2 C n).
        epochs: The most epochs of minibatch training; 0 where a linear head needs none.
        patience: Epochs without a better loss on held-out items before it stops.
        minibatch: Items per step.
        learning_rate: Of the steps (SGD).
        seed: Of everything random.
    """

    hidden: int = 0
    balance: Literal["weights", "equal_draws", "none"] = "weights"
    regularisation: float = 1.0
    epochs: int = 60
    patience: int = 3
    minibatch: int = 16
    learning_rate: float = 0.1
    seed: int = 0
