"""The base of all networks: texts to a representation, and a last layer from the representation to logits."""

from __future__ import annotations

import torch
from torch import nn

from tasks.learning.tokens import Tokens


class Network(nn.Module):
    """Texts to one logit per label.

    Attributes:
        head: The last layer.
        linear: Whether what the head reads are the encoder's own vectors.
        reads_characters: Whether it needs the characters of the texts beside their tokens.
        reads_sentences: Whether it needs their sentence vectors.
    """

    head: nn.Linear
    linear: bool = False
    reads_characters: bool = False
    reads_sentences: bool = False

    def represent(self, tokens: Tokens) -> torch.Tensor:
        """The last representation before the head, (n, width), which strategies call the hidden layer."""
        raise NotImplementedError

    def learned_state(self) -> dict[str, torch.Tensor]:
        """The weights to save: all except pretrained vectors, which belong to the encoder."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Logits (n, n_labels) of n texts."""
        logits: torch.Tensor = self.head(self.represent(tokens))
        return logits
