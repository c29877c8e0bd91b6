"""The one network: token ids to logits.

On pretrained vectors: mean of the vectors -> L2 -> [Linear -> ReLU] -> Linear. Without: sum of learned vectors +
bias -> ReLU -> Linear, which on bag-of-words tokens is the original's network (a linear layer on word counts IS an
EmbeddingBag in mode sum).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from tasks.learning.tokens import Tokens

BAG_OF_WORDS_HIDDEN = 128


class Classifier(nn.Module):
    """Texts as token ids to one logit per label.

    Args:
        n_tokens: Size of the encoder's vocabulary.
        n_labels: Number of labels.
        vectors: Pretrained (n_tokens, d), kept as they are; None to learn vectors of size `hidden`.
        hidden: Width of the hidden layer; 0 for none, which without pretrained vectors means the original's 128.
    """

    def __init__(
        self, n_tokens: int, n_labels: int, *, vectors: npt.NDArray[np.float32] | None = None, hidden: int = 0
    ) -> None:
        super().__init__()
        self.pretrained = vectors is not None
        if vectors is not None:
            self.bag = nn.EmbeddingBag.from_pretrained(torch.from_numpy(vectors), mode="mean", freeze=True)
            self.hidden: nn.Module = nn.Linear(vectors.shape[1], hidden) if hidden else nn.Identity()
            width = hidden or vectors.shape[1]
        else:
            width = hidden or BAG_OF_WORDS_HIDDEN
            self.bag = nn.EmbeddingBag(n_tokens, width, mode="sum", sparse=True)
            bound = n_tokens**-0.5  # as nn.Linear(n_tokens, width) begins
            nn.init.uniform_(self.bag.weight, -bound, bound)
            self.hidden = _Bias(width, bound)
        self.rectified = not self.pretrained or hidden > 0
        self.head = nn.Linear(width, n_labels)

    def represent(self, ids: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """The last representation before the head, (n, width); what 'the hidden layer' means to strategies."""
        pooled = self.bag(ids, starts)
        if self.pretrained:
            pooled = functional.normalize(pooled, dim=1)
        represented: torch.Tensor = self.hidden(pooled)
        return functional.relu(represented) if self.rectified else represented

    def forward(self, ids: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Logits (n, n_labels) of n texts.

        Args:
            ids: Token ids of all texts, one after the other.
            starts: Where each text begins in `ids`, (n,).
        """
        logits: torch.Tensor = self.head(self.represent(ids, starts))
        return logits

    @property
    def linear(self) -> bool:
        """Whether only a linear head is learned: a convex problem."""
        return self.pretrained and not self.rectified

    def learned_state(self) -> dict[str, torch.Tensor]:
        """The weights that training made: all but pretrained vectors, which the encoder brings."""
        return {
            name: value for name, value in self.state_dict().items() if not (self.pretrained and name == "bag.weight")
        }


class _Bias(nn.Module):
    """Adds a learned vector: the bias that EmbeddingBag lacks."""

    def __init__(self, width: int, bound: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return pooled + self.bias


SLICE_TEXTS = 8_192
"""Few enough for the processor's cache."""


def predict_logits(classifier: Classifier, tokens: Tokens) -> npt.NDArray[np.float32]:
    """Logits (n, n_labels) of n texts, slice by slice: working memory does not grow with n."""
    classifier.eval()
    logits = np.empty((len(tokens), classifier.head.out_features), np.float32)
    with torch.inference_mode():
        for start in range(0, len(tokens), SLICE_TEXTS):
            stop = min(start + SLICE_TEXTS, len(tokens))
            logits[start:stop] = classifier(*tokens.slice(start, stop).tensors()).numpy()
    return logits
