"""Token ids of many texts in two flat arrays, as an EmbeddingBag reads them and a BLOB column stores them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

MAX_TOKENS = 65_535
"""Largest vocabulary: ids are stored as uint16."""

SLICE_TEXTS = 32_768


class TokenSource(Protocol):
    """Token ids of n texts, in this process or on other machines, with the operations that need no transfer of the ids.

    Attributes:
        lengths: Number of ids of each text, (n,).
    """

    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def take(self, positions: npt.NDArray[np.int64]) -> Tokens:
        """The texts at `positions`, in that order; for a few texts."""
        ...

    def sums(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sum of `values[id]` over the ids of each text; `values` is (n_tokens,), the result (n,)."""
        ...

    def contain(self, run: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Whether each text contains the token ids `run` (m,) in sequence, (n,)."""
        ...


@dataclass(frozen=True)
class Tokens:
    """Token ids of n texts.

    Attributes:
        ids: uint16 (number of ids,), text after text.
        offsets: int64 (n + 1,); text k has ids[offsets[k]:offsets[k + 1]].
        characters: The same texts as numbers of characters; None if the model does not read them.
        sentences: Their sentence vectors, int8 (n, width); None if the model does not read them.
    """

    ids: npt.NDArray[np.uint16]
    offsets: npt.NDArray[np.int64]
    characters: Tokens | None = None
    sentences: npt.NDArray[np.int8] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of ids of each text, (n,)."""
        return np.diff(self.offsets)

    def slice(self, start: int, stop: int) -> Tokens:
        """Texts start to stop, without copying ids."""
        offsets = self.offsets[start : stop + 1]
        characters = self.characters and self.characters.slice(start, stop)
        sentences = None if self.sentences is None else self.sentences[start:stop]
        return Tokens(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0], characters, sentences)

    def take(self, positions: npt.NDArray[np.int64]) -> Tokens:
        """The texts at `positions`, in that order."""
        return replace(
            ragged_take(self, positions),
            characters=self.characters and ragged_take(self.characters, positions),
            sentences=None if self.sentences is None else self.sentences[positions],
        )

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The arguments of EmbeddingBag: ids and the start of each text, both int32."""
        import torch  # slow to import, and not needed by commands that only inspect a workspace

        return torch.from_numpy(self.ids.astype(np.int32)), torch.from_numpy(self.offsets[:-1].astype(np.int32))

    def sums(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sum of `values[id]` over the ids of each text; `values` is (n_tokens,), the result (n,)."""
        totals = np.zeros(len(self))
        for start in range(0, len(self), SLICE_TEXTS):
            part = self.slice(start, start + SLICE_TEXTS)
            sums_of_part = np.add.reduceat(np.append(values[part.ids], 0.0), part.offsets[:-1])
            totals[start : start + len(part)] = np.where(part.lengths > 0, sums_of_part, 0.0)
        return totals

    def contain(self, run: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Whether each of n texts contains the token ids `run` (m,) in sequence, (n,).

        >>> two = Tokens(np.array([1, 2, 3, 1], np.uint16), np.array([0, 2, 4]))
        >>> two.contain(np.array([2, 3], np.uint16)).tolist(), two.contain(np.array([1, 2], np.uint16)).tolist()
        ([False, False], [True, False])
        """
        starts = np.flatnonzero(self.ids[: max(len(self.ids) - len(run) + 1, 0)] == run[0])
        for ahead in range(1, len(run)):
            starts = starts[self.ids[starts + ahead] == run[ahead]]
        text = np.searchsorted(self.offsets, starts, side="right") - 1
        contains_run = np.zeros(len(self), np.bool_)
        contains_run[text[starts + len(run) <= self.offsets[text + 1]]] = True
        return contains_run

    def to_arrow(self) -> pa.Array:
        """Convert to a binary array (n,) with the ids of each text as little-endian uint16; the buffers are shared."""
        import pyarrow as pa  # a single text is predicted without it

        offsets = (self.offsets * 2).astype(np.int32)
        ids = np.ascontiguousarray(self.ids, dtype="<u2")
        return pa.Array.from_buffers(pa.binary(), len(self), [None, pa.py_buffer(offsets), pa.py_buffer(ids)])

    @classmethod
    def from_arrow(cls, column: pa.Array) -> Self:
        """Convert from the binary array of `to_arrow`, without copying ids."""
        _, offsets, ids = column.buffers()
        starts = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
        first, last = int(starts[0]), int(starts[-1])
        values = np.frombuffer(ids, "<u2", count=(last - first) // 2, offset=first) if ids and last > first else _NONE
        return cls(values, (starts - first) // 2)

    @classmethod
    def joined(cls, parts: Iterable[Tokens]) -> Self:
        """Concatenate tokens."""
        listed = list(parts)
        if not listed:
            return cls(_NONE, np.zeros(1, np.int64))
        ends = np.cumsum([len(part.ids) for part in listed])
        offsets = [part.offsets[1:] + end - len(part.ids) for part, end in zip(listed, ends, strict=True)]
        characters = [part.characters for part in listed if part.characters is not None]
        sentences = [part.sentences for part in listed if part.sentences is not None]
        return cls(
            np.concatenate([part.ids for part in listed]),
            np.concatenate([[0], *offsets]),
            cls.joined(characters) if len(characters) == len(listed) else None,
            np.concatenate(sentences) if len(sentences) == len(listed) else None,
        )


_NONE = np.zeros(0, np.uint16)


def ragged_take(tokens: Tokens, positions: npt.NDArray[np.int64]) -> Tokens:
    """The runs of ids at `positions`, one after the other: a gather without a loop.

    >>> words = Tokens(np.array([7, 8, 9], np.uint16), np.array([0, 2, 2, 3]))
    >>> ragged_take(words, np.array([2, 0, 1])).ids.tolist()
    [9, 7, 8]
    """
    lengths = tokens.lengths[positions]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return Tokens(tokens.ids[np.repeat(tokens.offsets[positions], lengths) + within], offsets)


@dataclass(frozen=True)
class Examples:
    """Labelled texts: token ids of n texts and their label numbers (n,)."""

    tokens: Tokens
    labels: npt.NDArray[np.int64]

    def take(self, chosen: npt.NDArray[np.bool_]) -> Examples:
        """The examples where `chosen` is true."""
        return Examples(self.tokens.take(np.flatnonzero(chosen)), self.labels[chosen])
