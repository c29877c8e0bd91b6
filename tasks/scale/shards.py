"""The pool in shards on workers: each reads its part of a lake version, keeps it, and answers for it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa

from storage.errors import StoreError
from storage.lake.items import pool_features
from storage.workspace import Workspace
from tasks.learning import vectors
from tasks.learning.encoders import Encoder
from tasks.learning.model_files import load_model
from tasks.learning.sharded import ShardedVectors
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import NetworkVectors, SummedVectors, TokenVectors
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
        model = load_model(workspace.model_folder(shard.model_id), shard.labels)
        if not shard.hidden:
            return _token_vectors(workspace, shard, model.encoder)
        encoded = self.vectors(replace(shard, hidden=False))
        return NetworkVectors(encoded.tokens, model.classifier)


def _token_vectors(workspace: Workspace, shard: Shard, encoder: Encoder) -> TokenVectors:
    features = pool_features(workspace.store(), shard.encoder_id, shard.version, shard.bounds)
    tokens = Tokens.joined(Tokens.from_arrow(batch.column("tokens")) for batch in features)
    if len(tokens) != shard.n:
        raise StoreError(
            f"this worker reads {len(tokens):,} items from {shard.bounds[0]} to {shard.bounds[1]} in version "
            f"{shard.version} of the lake / {shard.n:,} there.",
            hint="give all workers the same [lake] catalog and data",
        )
    return token_vectors(tokens, encoder)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def _keep_freed_memory() -> None:
    """Undo what Dask sets for its workers: that malloc gives every freed buffer back to the system at once.

    A slice's vectors are 8 MB, made and freed 120 times a million texts; new pages for each take longer than the sums.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # glibc's
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)
        mallopt(_M_TRIM_THRESHOLD, 1 << 28)
