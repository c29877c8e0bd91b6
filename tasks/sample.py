"""Stage `sample`: score the whole pool, mix the strategies, take a batch out of the pool."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
from prefect import task

from annotation.assignment import assign, with_gold
from annotation.batch_config import BatchConfig
from annotation.label_set import LabelSet
from storage.answers import annotators_of, settled_labels
from storage.batches import Draft, OvertakenError, count_batches, open_batches, reserve
from storage.errors import SamplingError
from storage.records import Assignment, Batch, Split
from storage.store import Store
from storage.workspace import Workspace
from tasks.advice import signs_of
from tasks.plan import Plan
from tasks.pool import load_pool
from tasks.sampling.mixer import mix_strategies, scaled_mix
from tasks.sampling.sampling_config import SamplingConfig
from tasks.scale_config import ScaleConfig
from tasks.workers import open_workers

log = logging.getLogger(__name__)

TRIES = 10


@task
def sample_batch(
    workspace: Workspace,
    plan: Plan,
    sampling: SamplingConfig,
    seed: int,
    label_set: LabelSet,
    encoder_name: str,
    model_id: str | None = None,
    *,
    batch_config: BatchConfig | None = None,
    beside_open: bool = False,
    scale: ScaleConfig | None = None,
) -> str:
    """Reserve the items of the next batch and share them out among the annotators; returns its id.

    Args:
        sampling: Its mix is scaled to the size in the plan, or to the pool where that is smaller; held-out items are
            drawn at random whatever it says.
        model_id: The model that scores the pool; None for a batch without one.
        batch_config: Its formats and annotators.
        beside_open: Also where a batch is open; else that one's id is returned.
        scale: Who scores the pool; this process where None.
    """
    started = time.monotonic()
    store, asking = workspace.store(), batch_config or BatchConfig()
    for attempt in range(TRIES):
        opened = open_batches(store, again=False)
        if opened and not beside_open:
            return opened[0].batch.batch_id
        version = store.version()
        # The same lake and seed give the same batch; after another batch, also a closed one, the draw is another.
        draw = seed + count_batches(store)
        with open_workers(scale or ScaleConfig()) as workers:
            pool = load_pool(workspace, store, version, label_set, encoder_name, model_id, sampling.keywords, workers)
            if not len(pool):
                what = "the pool is empty: every item is annotated or out."
                raise SamplingError(what, hint="add texts: pal import FILE")
            numbers = scaled_mix(_weights(plan, sampling), min(plan.n, len(pool)))
            mixed = mix_strategies(pool, numbers, draw, sampling.options)
        draft = Draft(
            plan.purpose,
            mixed.item_ids,
            mixed.proposals,
            seed,
            version,
            label_set.digest,
            model_id,
            numbers,
            mixed.shares,
            signs_of(store, label_set) if plan.active else (),
            asking.overlap,
            asking.formats,
            share_out(store, mixed.item_ids, asking, draw),
        )
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


def share_out(store: Store, item_ids: Sequence[str], asking: BatchConfig, seed: int) -> list[Assignment]:
    """Who is asked about which of these items, settled ones mixed in; nobody in particular without annotators."""
    if not asking.annotators:
        return []
    generator = np.random.default_rng(seed)
    asked = assign(item_ids, asking.annotators, asking.overlap, generator, annotators_of(store, item_ids))
    if not asking.gold:
        return asked
    settled = sorted(settled_labels(store).keys() - set(item_ids))
    return with_gold(asked, settled, asking.gold, generator, annotators_of(store, settled))


def _weights(plan: Plan, sampling: SamplingConfig) -> dict[str, float]:
    if plan.purpose is not Split.TRAINING:
        return {"random": 1}
    return sampling.active if plan.active else sampling.cold


def _tell(batch: Batch, n_pool: int, seconds: float) -> None:
    mix = ", ".join(f"{n} {name}" for name, n in batch.mix.items() if n)
    log.info("sampled %d of %s items: %s (%.1f s)", batch.n, f"{n_pool:,}", mix, seconds)
    for share in batch.shares:
        if share.missing:
            log.warning(
                "%s could not run: it needs %s; %s chose its %d", share.strategy, share.missing, share.ran, share.n
            )
