"""A trained model without torch: the network of `classifier` in numpy, which takes a seventh of a second to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.learning.calibration import Calibration
from tasks.learning.encoders import Encoder, StaticVectors
from tasks.learning.stored_model import read_model
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import unit

FEW_TEXTS = 1_000
"""So many texts are cut into tokens before Arrow, which does it ten times as fast, has been imported."""

SLICE_TEXTS = 256
"""Few enough for the processor's cache, and for BLAS to start no threads: four times as fast as 1,024."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NumpyModel:
    """A model ready to predict; `model_files.LoadedModel` is the same with torch.

    Attributes:
        vectors: Of each token, (n_tokens, d): float32, or int8 to be multiplied by `scale`.
        weights: The learned layers by their names in `classifier.Classifier`.
        pretrained: Whether texts are means of the encoder's vectors, else sums of learned ones.
    """

    model_id: str
    encoder: Encoder
    calibration: Calibration
    labels: tuple[str, ...]
    vectors: npt.NDArray[np.int8] | Floats
    scale: np.float32
    weights: dict[str, Floats]
    pretrained: bool

    def predict(self, texts: Sequence[str]) -> Floats:
        """Probabilities (n, n_labels) of n texts."""
        if len(texts) <= FEW_TEXTS:
            return self.probabilities(self.encoder.tokenize_few(texts))
        import pyarrow as pa

        return self.probabilities(self.encoder.tokenize(pa.array(texts, pa.string())))

    def probabilities(self, tokens: Tokens) -> Floats:
        """Probabilities (n, n_labels) of n texts given as this model's tokens."""
        logits = np.empty((len(tokens), len(self.labels)), np.float32)
        for start in range(0, len(tokens), SLICE_TEXTS):
            part = tokens.slice(start, min(start + SLICE_TEXTS, len(tokens)))
            logits[start : start + len(part)] = self._logits(part)
        return self.calibration.probabilities(logits)

    def _logits(self, tokens: Tokens) -> Floats:
        hidden = self._pooled(tokens)
        if "hidden.weight" in self.weights:
            hidden = hidden @ self.weights["hidden.weight"].T
        if "hidden.bias" in self.weights:
            hidden = np.maximum(hidden + self.weights["hidden.bias"], 0)
        logits: Floats = hidden @ self.weights["head.weight"].T + self.weights["head.bias"]
        return logits

    def _pooled(self, tokens: Tokens) -> Floats:
        """Sum of the vectors of each text's tokens, (n, d); of pretrained ones scaled to length 1, as their mean is."""
        known, numbers = np.unique(tokens.ids, return_inverse=True)
        rows = self.vectors[known].astype(np.float32) * self.scale
        starts, lengths = tokens.offsets[:-1], tokens.lengths
        sums = np.zeros((len(tokens), rows.shape[1]), np.float32)
        for place in range(lengths.max(initial=0)):
            longer = np.flatnonzero(lengths > place)
            sums[longer] += rows[numbers[starts[longer] + place]]
        if not self.pretrained:
            return sums
        return unit(sums)


def numpy_model(folder: Path, labels: Sequence[str] | None = None) -> NumpyModel:
    """Read a model's directory, as `model_files.load_model` does.

    Raises:
        ModelError: As there.
    """
    from safetensors.numpy import load

    stored = read_model(folder, labels)
    weights = load(stored.weights)
    encoder = stored.encoder
    if isinstance(encoder, StaticVectors):
        vectors, scale = encoder.rounded_vectors()
        return NumpyModel(
            stored.model_id, encoder, stored.calibration, stored.labels, vectors, scale, weights, pretrained=True
        )
    learned = weights.pop("bag.weight")
    return NumpyModel(
        stored.model_id, encoder, stored.calibration, stored.labels, learned, np.float32(1), weights, pretrained=False
    )
