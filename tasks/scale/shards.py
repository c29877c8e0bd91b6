"""The pool in shards on workers: each reads its part of a lake version, keeps it, and answers for it.

Each question goes to every shard, and the answers are put together here. A shard is a run of whole blocks of texts, so
its answers are those that one machine makes, to the last bit.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import StoreError
from storage.lake.codebook import codebook_of
from storage.lake.items import ALL, TOKENS_ALONE, Askable, Beside, pool_features
from storage.workspace import Workspace
from tasks.learning import vectors
from tasks.learning.encoders import Encoder
from tasks.learning.model_files import load_model
from tasks.learning.ngrams import CharacterCodes
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import (
    Matrix,
    NetworkVectors,
    Numbers,
    Reduce,
    SummedVectors,
    TokenVectors,
    Vectors,
    whole_products,
)
from tasks.model_input import beside_tokens, tokens_in
from tasks.prepare import current_encoder
from tasks.sampling.pool_building import token_vectors
from tasks.scale.workers import Workers, on_this_machine, worker_state

MOST_ITEMS = 4_194_304
"""Of a shard: some 150 MB of tokens, and as much again for a moment while they are read."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Shard:
    """A run of the pool of a lake version.

    Attributes:
        encoder_id: Whose tokens.
        encoder_name: The encoder as pal.toml calls it.
        model_id: The model whose encoder it is; None before there is one.
        labels: Of that model.
        hidden: Its last representation before the head is meant, not the encoder's space.
        bounds: First and last item id.
        n: Number of items.
        askable: What of the pool may be queried.
    """

    workspace: Workspace
    version: int
    encoder_id: str
    encoder_name: str
    model_id: str | None
    labels: tuple[str, ...]
    hidden: bool = False
    bounds: tuple[str, str] = ("", "")
    n: int = 0
    askable: Askable = ALL


def sharded_vectors(workers: Workers, here: SummedVectors, item_ids: pa.Array, whole: Shard) -> ShardedVectors:
    """The vectors of the pool, in shards of whole blocks: one for each worker, or more where those would be large.

    Args:
        here: Vectors in the same space, of any texts.
        item_ids: Of the pool, ascending.
        whole: What all shards have in common.
    """
    block = vectors.BLOCK_SLICES * vectors.SLICE_TEXTS
    blocks = -(-len(item_ids) // block)
    size = block * max(1, min(-(-blocks // len(workers)), MOST_ITEMS // block))
    runs = [item_ids.slice(start, size) for start in range(0, len(item_ids), size)]
    shards = [replace(whole, bounds=(run[0].as_py(), run[-1].as_py()), n=len(run)) for run in runs]

    def ask(function: Callable[..., Any], arguments: Sequence[tuple[int, tuple[Any, ...]]]) -> list[Any]:
        calls = [
            (number, {"shard": shards[number], "function": function, "arguments": each}) for number, each in arguments
        ]
        return workers.run(ask_shard, calls)

    return ShardedVectors(ask, [shard.n for shard in shards], here)


def ask_shard(shard: Shard, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
    """On a worker: what a function makes of a shard's vectors; the shard is read once and kept."""
    return function(worker_state(KeptShards).vectors(shard), *arguments)


class KeptShards:
    """The shards that a worker has read, all of one pool."""

    def __init__(self) -> None:
        self._vectors: dict[Shard, SummedVectors] = {}
        _keep_freed_memory()

    def __len__(self) -> int:
        return len(self._vectors)

    def vectors(self, shard: Shard) -> SummedVectors:
        """The shard's vectors; those of another pool (of another version or model) are let go.

        Raises:
            StoreError: This worker sees another lake.
        """
        if shard not in self._vectors:
            for other in list(self._vectors):
                if replace(other, bounds=shard.bounds, n=shard.n, hidden=shard.hidden) != shard:
                    del self._vectors[other]
            self._vectors[shard] = self._read(shard)
        return self._vectors[shard]

    def _read(self, shard: Shard) -> SummedVectors:
        workspace = on_this_machine(shard.workspace)
        if shard.model_id is None:
            return _token_vectors(workspace, shard, current_encoder(workspace, shard.encoder_name))
        model = load_model(
            workspace.model_folder(shard.model_id), shard.labels, codebook_of(workspace.store()).became_after
        )
        if not shard.hidden:
            return _token_vectors(workspace, shard, model.encoder)
        tokens = self.vectors(replace(shard, hidden=False)).tokens
        beside = beside_tokens(model)
        if beside != TOKENS_ALONE:
            codes = CharacterCodes() if beside.text else None
            tokens = Tokens.joined(tokens_in(batch, codes) for batch in _features(workspace, shard, beside))
        return NetworkVectors(tokens, model.classifier)


def _token_vectors(workspace: Workspace, shard: Shard, encoder: Encoder) -> TokenVectors:
    tokens = Tokens.joined(tokens_in(batch, None) for batch in _features(workspace, shard))
    if len(tokens) != shard.n:
        raise StoreError(
            f"this worker reads {len(tokens):,} items from {shard.bounds[0]} to {shard.bounds[1]} in version "
            f"{shard.version} of the lake / {shard.n:,} there.",
            hint="give all workers the same [lake] catalog and data",
        )
    return token_vectors(tokens, encoder)


def _features(workspace: Workspace, shard: Shard, beside: Beside = TOKENS_ALONE) -> Iterator[pa.RecordBatch]:
    store = workspace.store()
    return pool_features(store, shard.encoder_id, shard.version, shard.bounds, shard.askable, beside=beside)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def _keep_freed_memory() -> None:
    """Undo what Dask sets for its workers: that malloc gives every freed buffer back to the system at once.

    A slice's vectors are 8 MB, made and freed 120 times a million texts; new pages for each take longer than the sums.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # glibc's
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, 1 << 28)


FEW = 262_144
"""At most so many texts are brought here when they are taken; of more, only their positions."""

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
