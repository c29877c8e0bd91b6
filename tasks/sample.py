"""Stage `sample`: score the whole pool, mix the strategies, take a batch out of the pool."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from prefect import task

from annotation.label_set import LabelSet
from storage.annotations import labelled_texts
from storage.batches import Draft, OvertakenError, count_batches, open_batches, reserve
from storage.errors import SamplingError
from storage.items import pool_features
from storage.records import Batch, Split
from storage.store import Store
from storage.workspace import Workspace
from tasks.learning.encoder import Encoder
from tasks.learning.model_files import LoadedModel, load_model
from tasks.learning.tokens import Tokens
from tasks.plan import Plan
from tasks.prepare import add_missing_features, current_encoder
from tasks.sampling.mixer import mix_strategies, scaled_mix
from tasks.sampling.strategy import Pool

log = logging.getLogger(__name__)

TRIES = 10


@task
def sample_batch(
    workspace: Workspace,
    plan: Plan,
    mix: Mapping[str, int],
    seed: int,
    label_set: LabelSet,
    encoder_name: str,
    model_id: str | None = None,
    *,
    beside_open: bool = False,
) -> str:
    """Reserve the items of the next batch; returns its id.

    Args:
        mix: Strategy -> number; scaled to the size in the plan, or to the pool where that is smaller.
        model_id: The model that scores the pool; None for a batch without one.
        beside_open: Also where a batch is open; else that one's id is returned.
    """
    started = time.monotonic()
    store = workspace.store()
    for attempt in range(TRIES):
        opened = open_batches(store)
        if opened and not beside_open:
            return opened[0].batch.batch_id
        version = store.version()
        pool = _pool(workspace, store, version, encoder_name, model_id)
        if not len(pool):
            raise SamplingError("the pool is empty: every item is annotated or out.", hint="add texts: pal import FILE")
        numbers = scaled_mix(mix, min(plan.n, len(pool)))
        # The same lake and seed give the same batch; after another batch, also a closed one, the draw is another.
        mixed = mix_strategies(pool, numbers, seed + count_batches(store))
        draft = Draft(plan.purpose, mixed.item_ids, mixed.proposals, seed, version, label_set.digest, model_id, numbers)
        try:
            batch, new = reserve(store, draft, beside_open=beside_open)
        except OvertakenError as overtaken:
            if attempt == TRIES - 1:
                raise
            log.info("%s Drawing again.", overtaken.what)
            continue
        if new:
            _tell(batch, len(pool), time.monotonic() - started)
        return batch.batch_id
    raise AssertionError("unreachable")


def _pool(workspace: Workspace, store: Store, version: int, encoder_name: str, model_id: str | None) -> Pool:
    """The whole pool with what strategies look at, scored where there is a model, in that model's tokens."""
    if model_id is None:
        return read_pool(store, current_encoder(store, encoder_name), version, None)
    model = load_model(workspace.models / model_id)
    add_missing_features(workspace, model.encoder)
    return read_pool(store, model.encoder, version, model)


def read_pool(store: Store, encoder: Encoder, version: int, model: LoadedModel | None) -> Pool:
    """The pool under an encoder; `model`, where there is one, was trained on that encoder's tokens."""
    item_ids: list[pa.Array] = []
    parts: list[Tokens] = []
    for batch in pool_features(store, encoder.encoder_id):
        item_ids.append(batch.column("item_id"))
        parts.append(Tokens.from_arrow(batch.column("tokens")))
    tokens = Tokens.joined(parts)
    probabilities = np.zeros((len(tokens), 0), np.float32)
    if model is not None:
        probabilities = model.probabilities(tokens)
    training = encoder.tokenize(_texts(labelled_texts(store, Split.TRAINING, version)))
    counts = np.bincount(training.ids, minlength=encoder.n_tokens).astype(np.float64)
    ids = pa.concat_arrays(item_ids) if item_ids else pa.array([], pa.string())
    return Pool(ids, tokens, probabilities, counts)


def _texts(table: pa.Table) -> pa.Array:
    return pa.array(table["text"].to_pylist(), pa.string())


def _tell(batch: Batch, n_pool: int, seconds: float) -> None:
    mix = ", ".join(f"{n} {name}" for name, n in batch.mix.items() if n)
    log.info("sampled %d of %s items: %s (%.1f s)", batch.n, f"{n_pool:,}", mix, seconds)
