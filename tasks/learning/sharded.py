"""Vectors of texts that lie in shards elsewhere: each question goes to every shard, the answers are put together here.

A shard is a run of whole blocks of texts, so its answers are those that one machine makes, to the last bit: products
with what was prepared here, and sums of blocks that are added here in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.learning import vectors
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import Matrix, Numbers, Reduce, SummedVectors, Vectors, whole_products

FEW = 262_144
"""At most so many texts are brought here when they are taken; of more, only their positions."""

Answer = TypeVar("Answer")
Positions = Numbers | None
"""Of texts within a shard; None for all of them."""


class Ask(Protocol):
    """Runs a function on shards: `function(vectors of the shard, *arguments)`, each with arguments of its own."""

    def __call__(
        self, function: Callable[..., Answer], arguments: Sequence[tuple[int, tuple[Any, ...]]]
    ) -> list[Answer]:
        """The answers, in the order of `arguments`: (number of the shard, arguments)."""
        ...


@dataclass(frozen=True)
class _Part:
    """Some texts of one shard, and where they stand among all that are meant.

    Attributes:
        shard: Its number.
        inside: Their positions in the shard.
        places: Their positions among all, as many.
    """

    shard: int
    inside: Positions
    places: slice | Numbers


class ShardedVectors:
    """n texts in shards.

    Args:
        ask: How to reach the shards.
        lengths: Number of texts of each shard.
        here: Vectors in the same space, of any texts.
        chosen: Positions of the n texts among those of all shards; all where None.
    """

    def __init__(self, ask: Ask, lengths: Sequence[int], here: SummedVectors, chosen: Numbers | None = None) -> None:
        self._ask, self._lengths, self._here, self._chosen = ask, tuple(lengths), here, chosen
        self._squared_norms: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return sum(self._lengths) if self._chosen is None else len(self._chosen)

    @property
    def tokens(self) -> ShardedTokens:
        """The n texts."""
        return ShardedTokens(self)

    @property
    def width(self) -> int:
        """Size of a vector."""
        return self._here.width

    @property
    def squared_norms(self) -> npt.NDArray[np.float32]:
        """Product of each vector with itself, (n,)."""
        if self._squared_norms is None:
            (self._squared_norms,) = self.everywhere(_squared_norms)
        return self._squared_norms

    def products(self, directions: Matrix) -> Matrix:
        """Dot products (n, k) with k directions (k, width)."""
        return whole_products(self, directions)

    def reduced(self, directions: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """What `reduce` makes of the products with k directions, made where the texts are."""
        return self.everywhere(_reduced, self._here.prepared(directions), reduce)

    def rows(self, positions: Numbers) -> Matrix:
        """The vectors at m positions, (m, width)."""
        return self._here.of(self.texts(positions)).rows(np.arange(len(positions)))

    def sums(self, groups: Numbers, n_groups: int) -> Matrix:
        """Sum of the vectors of each group, (n_groups, width)."""
        if self._chosen is None:
            ends = np.cumsum(self._lengths)
            asked = [
                (shard, (groups[end - length : end], n_groups))
                for shard, (end, length) in enumerate(zip(ends, self._lengths, strict=True))
            ]
            found = [each for answer in self._ask(_partial_sums, asked) for each in answer]
        else:  # blocks of these texts are no blocks of the shards
            found = [
                each
                for start, stop in self._blocks()
                for each in self._here.of(self.texts(np.arange(start, stop))).partial_sums(groups[start:stop], n_groups)
            ]
        return self._here.total(found, n_groups)

    def take(self, positions: Numbers) -> Vectors:
        """The vectors at `positions`, in that order; brought here where they are few."""
        if len(positions) <= FEW:
            return self._here.of(self.texts(positions))
        return self._taken(positions)

    def slice(self, start: int, stop: int) -> ShardedVectors:
        """Vectors start to stop."""
        return self._taken(np.arange(start, stop))

    def of(self, tokens: Tokens) -> SummedVectors:
        """Other texts in the same space."""
        return self._here.of(tokens)

    def kept(self) -> Vectors:
        """As rows in memory, here."""
        return self._here.of(self.texts(np.arange(len(self)))).kept()

    def texts(self, positions: Numbers) -> Tokens:
        """The tokens of the texts at `positions`, in that order."""
        parts = list(self._parts(positions))
        found = self._ask(_texts, [(part.shard, (part.inside,)) for part in parts])
        order = np.argsort(np.concatenate([_numbers(part.places) for part in parts] or [np.zeros(0, np.int64)]))
        return Tokens.joined(found).take(order)

    def everywhere(self, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> tuple[npt.NDArray[Any], ...]:
        """What a function makes of the texts of each shard, put together: arrays of n rows."""
        parts = list(self._parts(None))
        if not parts:
            empty = self._here.of(Tokens.joined([]))
            return function(empty, None, *arguments)
        answers = self._ask(function, [(part.shard, (part.inside, *arguments)) for part in parts])
        found = tuple(np.empty((len(self), *each.shape[1:]), each.dtype) for each in answers[0])
        for part, answer in zip(parts, answers, strict=True):
            for whole, each in zip(found, answer, strict=True):
                whole[part.places] = each
        return found

    def _taken(self, positions: Numbers) -> ShardedVectors:
        chosen = positions if self._chosen is None else self._chosen[positions]
        return ShardedVectors(self._ask, self._lengths, self._here, chosen)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        size = vectors.BLOCK_SLICES * vectors.SLICE_TEXTS
        for start in range(0, len(self), size):
            yield start, min(start + size, len(self))

    def _parts(self, positions: Positions) -> Iterator[_Part]:
        """The shards that have any of the texts at `positions`."""
        if positions is None:
            positions = self._chosen
        elif self._chosen is not None:
            positions = self._chosen[positions]
        ends = np.cumsum(self._lengths)
        if positions is None:
            for shard, (end, length) in enumerate(zip(ends, self._lengths, strict=True)):
                if length:
                    yield _Part(shard, None, slice(end - length, end))
            return
        owner = np.searchsorted(ends, positions, side="right")
        by_owner = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[by_owner], np.arange(len(ends) + 1))
        for shard in range(len(ends)):
            places = by_owner[bounds[shard] : bounds[shard + 1]]
            if len(places):
                yield _Part(shard, positions[places] - (ends[shard] - self._lengths[shard]), places)


class ShardedTokens:
    """Token ids of n texts in shards: what can be asked of them without bringing them here."""

    def __init__(self, sharded: ShardedVectors) -> None:
        self._sharded = sharded

    def __len__(self) -> int:
        return len(self._sharded)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of ids of each text, (n,)."""
        (found,) = self._sharded.everywhere(_lengths)
        return found

    def take(self, positions: Numbers) -> Tokens:
        """The texts at `positions`, in that order, brought here."""
        return self._sharded.texts(positions)

    def sums(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """For each text the sum of `values[id]` over its ids; `values` is (n_tokens,), the result (n,)."""
        (found,) = self._sharded.everywhere(_token_sums, values)
        return found

    def contain(self, run: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Whether each text contains the token ids `run` (m,) in sequence, (n,)."""
        (found,) = self._sharded.everywhere(_contain, run)
        return found


def _some(shard: SummedVectors, inside: Positions) -> SummedVectors:
    return shard if inside is None else shard.take(inside)


def _reduced(shard: SummedVectors, inside: Positions, prepared: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
    return _some(shard, inside).reduced_by(prepared, reduce)


def _squared_norms(shard: SummedVectors, inside: Positions) -> tuple[npt.NDArray[np.float32]]:
    return (_some(shard, inside).squared_norms,)


def _partial_sums(shard: SummedVectors, groups: Numbers, n_groups: int) -> list[npt.NDArray[Any]]:
    return shard.partial_sums(groups, n_groups)


def _texts(shard: SummedVectors, inside: Positions) -> Tokens:
    return _some(shard, inside).tokens


def _lengths(shard: SummedVectors, inside: Positions) -> tuple[npt.NDArray[np.int64]]:
    return (_texts(shard, inside).lengths,)


def _token_sums(
    shard: SummedVectors, inside: Positions, values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64]]:
    return (_texts(shard, inside).sums(values),)


def _contain(shard: SummedVectors, inside: Positions, run: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.bool_]]:
    return (_texts(shard, inside).contain(run),)


def _numbers(places: slice | Numbers) -> Numbers:
    return np.arange(places.start, places.stop) if isinstance(places, slice) else places
