"""The pool in shards on workers: each worker reads its part of a lake version, caches it, and computes on it.

Each computation runs on every shard, and the results are combined in this process. A shard consists of whole blocks of
texts, so that the results are identical to those of a single machine, to the last bit.
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
from tasks.prepare import beside_tokens, current_encoder, tokens_in
from tasks.sampling.pool_building import token_vectors
from tasks.scale.workers import Workers, on_this_machine, worker_state

MOST_ITEMS = 4_194_304
"""Maximum size of a shard: about 150 MB of tokens, and the same again while they are read."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Shard:
    """A contiguous part of the pool of a lake version.

    Attributes:
        workspace: The workspace.
        version: The version of the lake.
        encoder_id: The encoder of the tokens.
        encoder_name: The name of the encoder in pal.toml.
        model_id: The model with this encoder; None without a model.
        labels: The labels of the model.
        hidden: Whether the vectors are the last representation before the head, instead of the encoder's space.
        bounds: First and last item id.
        n: Number of items.
        askable: The part of the pool that may be queried.
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


def sharded_vectors(workers: Workers, local: SummedVectors, item_ids: pa.Array, template: Shard) -> ShardedVectors:
    """Return the vectors of the pool in shards of whole blocks: one per worker, or more if they would be too large.

    Args:
        workers: The workers.
        local: Vectors in the same space, of any texts.
        item_ids: Ids of the items of the pool, ascending.
        template: A shard with the attributes that all shards have in common.
    """
    block = vectors.BLOCK_SLICES * vectors.SLICE_TEXTS
    blocks = -(-len(item_ids) // block)
    size = block * max(1, min(-(-blocks // len(workers)), MOST_ITEMS // block))
    runs = [item_ids.slice(start, size) for start in range(0, len(item_ids), size)]
    shards = [replace(template, bounds=(run[0].as_py(), run[-1].as_py()), n=len(run)) for run in runs]

    def ask(function: Callable[..., Any], arguments: Sequence[tuple[int, tuple[Any, ...]]]) -> list[Any]:
        calls = [
            (number, {"shard": shards[number], "function": function, "arguments": own}) for number, own in arguments
        ]
        return workers.run(ask_shard, calls)

    return ShardedVectors(ask, [shard.n for shard in shards], local)


def ask_shard(shard: Shard, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
    """Call a function on the vectors of a shard; runs on a worker, which reads the shard once and caches it."""
    return function(worker_state(KeptShards).vectors(shard), *arguments)


class KeptShards:
    """The cache of the shards that a worker has read, all of one pool."""

    def __init__(self) -> None:
        self._vectors: dict[Shard, SummedVectors] = {}
        _keep_freed_memory()

    def __len__(self) -> int:
        return len(self._vectors)

    def vectors(self, shard: Shard) -> SummedVectors:
        """Return the vectors of a shard, and drop the shards of another pool (another version or model).

        Raises:
            StoreError: This worker reads a different lake.
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
            f"A worker reads {len(tokens):,} items from {shard.bounds[0]} to {shard.bounds[1]} in version "
            f"{shard.version} of the lake, but {shard.n:,} were expected.",
            hint="Use the same [lake] catalog and data on all workers.",
        )
    return token_vectors(tokens, encoder)


def _features(workspace: Workspace, shard: Shard, beside: Beside = TOKENS_ALONE) -> Iterator[pa.RecordBatch]:
    store = workspace.store()
    return pool_features(store, shard.encoder_id, shard.version, shard.bounds, shard.askable, beside=beside)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def _keep_freed_memory() -> None:
    """Undo a setting of Dask's workers by which malloc returns every freed buffer to the system at once.

    The vectors of a slice take 8 MB and are allocated 120 times per million texts; new pages each time would take
    longer than the computation.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # glibc only
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, 1 << 28)


FEW = 262_144
"""`take` fetches up to this many texts; of more, it only keeps the positions."""

Positions = Numbers | None
"""Positions of texts within a shard; None for all of them."""


class Ask(Protocol):
    """Calls `function(vectors of the shard, *arguments)` on shards, with separate arguments for each."""

    def __call__(
        self, function: Callable[..., Answer], arguments: Sequence[tuple[int, tuple[Any, ...]]]
    ) -> list[Answer]:
        """Return the results in the order of `arguments`: (number of the shard, arguments)."""
        ...


@dataclass(frozen=True)
class _Part:
    """Some of the requested texts that are in one shard.

    Attributes:
        shard: The number of the shard.
        inside: Positions of the texts in the shard.
        places: Positions of the same texts among all requested ones.
    """

    shard: int
    inside: Positions
    places: slice | Numbers


class ShardedVectors:
    """n texts in shards.

    Args:
        ask: Calls functions on the shards.
        lengths: Number of texts of each shard.
        local: Vectors in the same space, of any texts.
        chosen: Positions of the n texts among those of all shards; None for all.
    """

    def __init__(self, ask: Ask, lengths: Sequence[int], local: SummedVectors, chosen: Numbers | None = None) -> None:
        self._ask, self._lengths, self._local, self._chosen = ask, tuple(lengths), local, chosen
        self._squared_norms: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return sum(self._lengths) if self._chosen is None else len(self._chosen)

    @property
    def tokens(self) -> ShardedTokens:
        """The n texts."""
        return ShardedTokens(self)

    @property
    def width(self) -> int:
        """Number of dimensions of a vector."""
        return self._local.width

    @property
    def squared_norms(self) -> npt.NDArray[np.float32]:
        """Dot product of each vector with itself, (n,)."""
        if self._squared_norms is None:
            (self._squared_norms,) = self.everywhere(_squared_norms)
        return self._squared_norms

    def products(self, directions: Matrix) -> Matrix:
        """Return the dot products (n, k) with k directions (k, width)."""
        return whole_products(self, directions)

    def reduced(self, directions: Matrix, reduce: Reduce) -> tuple[npt.NDArray[Any], ...]:
        """Apply `reduce` to the products with k directions, on the workers."""
        return self.everywhere(_reduced, self._local.prepared(directions), reduce)

    def rows(self, positions: Numbers) -> Matrix:
        """Return the vectors at m positions, (m, width)."""
        return self._local.of(self.texts(positions)).rows(np.arange(len(positions)))

    def sums(self, groups: Numbers, n_groups: int) -> Matrix:
        """Return the sum of the vectors of each group, (n_groups, width)."""
        if self._chosen is None:
            ends = np.cumsum(self._lengths)
            arguments = [
                (shard, (groups[end - length : end], n_groups))
                for shard, (end, length) in enumerate(zip(ends, self._lengths, strict=True))
            ]
            sums = [partial for answer in self._ask(_partial_sums, arguments) for partial in answer]
        else:  # the blocks of these texts are not those of the shards
            sums = []
            for start, stop in self._blocks():
                block = self._local.of(self.texts(np.arange(start, stop)))
                sums += block.partial_sums(groups[start:stop], n_groups)
        return self._local.total(sums, n_groups)

    def take(self, positions: Numbers) -> Vectors:
        """Return the vectors at `positions`, in that order; if they are few, they are fetched."""
        if len(positions) <= FEW:
            return self._local.of(self.texts(positions))
        return self._subset(positions)

    def slice(self, start: int, stop: int) -> ShardedVectors:
        """Return the vectors from start to stop."""
        return self._subset(np.arange(start, stop))

    def of(self, tokens: Tokens) -> SummedVectors:
        """Return the vectors of other texts in the same space."""
        return self._local.of(tokens)

    def kept(self) -> Vectors:
        """Return the vectors as rows in the memory of this process."""
        return self._local.of(self.texts(np.arange(len(self)))).kept()

    def texts(self, positions: Numbers) -> Tokens:
        """Fetch the tokens of the texts at `positions`, in that order."""
        parts = list(self._parts(positions))
        tokens = self._ask(_texts, [(part.shard, (part.inside,)) for part in parts])
        order = np.argsort(np.concatenate([_numbers(part.places) for part in parts] or [np.zeros(0, np.int64)]))
        return Tokens.joined(tokens).take(order)

    def everywhere(self, function: Callable[..., tuple[Any, ...]], *arguments: Any) -> tuple[npt.NDArray[Any], ...]:
        """Call a function on the texts of each shard and combine the results: arrays of n rows."""
        parts = list(self._parts(None))
        if not parts:
            empty = self._local.of(Tokens.joined([]))
            return function(empty, None, *arguments)
        answers = self._ask(function, [(part.shard, (part.inside, *arguments)) for part in parts])
        combined = tuple(np.empty((len(self), *array.shape[1:]), array.dtype) for array in answers[0])
        for part, answer in zip(parts, answers, strict=True):
            for target, array in zip(combined, answer, strict=True):
                target[part.places] = array
        return combined

    def _subset(self, positions: Numbers) -> ShardedVectors:
        chosen = positions if self._chosen is None else self._chosen[positions]
        return ShardedVectors(self._ask, self._lengths, self._local, chosen)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        size = vectors.BLOCK_SLICES * vectors.SLICE_TEXTS
        for start in range(0, len(self), size):
            yield start, min(start + size, len(self))

    def _parts(self, positions: Positions) -> Iterator[_Part]:
        """Yield a part for each shard that has any of the texts at `positions`."""
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
    """Token ids of n texts in shards, with the computations that do not fetch them."""

    def __init__(self, sharded: ShardedVectors) -> None:
        self._sharded = sharded

    def __len__(self) -> int:
        return len(self._sharded)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of ids of each text, (n,)."""
        (lengths,) = self._sharded.everywhere(_lengths)
        return lengths

    def take(self, positions: Numbers) -> Tokens:
        """Fetch the texts at `positions`, in that order."""
        return self._sharded.texts(positions)

    def sums(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the sum of `values[id]` over the ids of each text, (n,), for values (n_tokens,)."""
        (sums,) = self._sharded.everywhere(_token_sums, values)
        return sums

    def contain(self, run: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
        """Return whether each text contains the token ids `run` (m,) in sequence, (n,)."""
        (contain,) = self._sharded.everywhere(_contain, run)
        return contain


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
