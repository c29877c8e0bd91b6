"""Stage `sample_batch`: score the whole pool, mix the strategies, take a batch out of the pool."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from annotation.assignment import assign, with_gold
from annotation.batch_config import BatchConfig
from storage.errors import SamplingError
from storage.lake.batches import Draft, OvertakenError, count_batches, published_batches, reserve
from storage.lake.history import annotators_of, settled_labels
from storage.lake.store import Store
from storage.records import Assignment, Batch, Split
from tasks.advice import signs_of
from tasks.plan import Plan
from tasks.pool import load_pool, load_pool_ids
from tasks.project import Project
from tasks.sampling.catalogue import find_strategy
from tasks.sampling.mixer import mix_strategies, scaled_mix
from tasks.sampling.sampling_config import SamplingConfig
from tasks.scale.workers import open_workers
from tasks.scale_config import ScaleConfig

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel

log = logging.getLogger(__name__)

TRIES = 10


def sample_batch(
    project: Project, plan: Plan, model: LoadedModel | None, *, seed: int | None = None, beside_open: bool = False
) -> str:
    """Reserve the items of the next batch and divide them among the annotators; returns its id.

    The mix of pal.toml is scaled to the size in the plan, or to the pool where that is smaller; held-out items are
    drawn at random whatever it says.

    Args:
        model: Scores the pool; None for a batch without a model.
        seed: Of the draw; None for the one in pal.toml.
        beside_open: Reserve also where a batch is open; otherwise that one's id is returned.
    """
    started = time.monotonic()
    store, config = project.workspace.store(), project.config
    seed = config.model.seed if seed is None else seed
    for attempt in range(TRIES):
        opened = published_batches(store, again=False)
        if opened and not beside_open:
            return opened[0].batch_id
        version = store.version()
        # The same lake and seed give the same batch; after another batch, also a closed one, the draw is another.
        draw = seed + count_batches(store)
        weights = _weights(plan, config.sampling)
        is_random = all(find_strategy(name).unbiased for name in weights)
        with open_workers(ScaleConfig() if is_random else config.scale) as workers:
            pool = load_pool_ids(project, version) if is_random else load_pool(project, version, model, workers)
            if not len(pool):
                raise empty_pool()
            numbers = scaled_mix(weights, min(plan.n, len(pool)))
            mixed = mix_strategies(pool, numbers, draw, config.sampling.options)
        draft = Draft(
            plan.purpose,
            mixed.item_ids,
            mixed.proposals,
            seed,
            version,
            config.task.digest,
            model.model_id if model is not None else None,
            numbers,
            mixed.shares,
            signs_of(store, config.task) if plan.active else (),
            config.batch.overlap,
            config.batch.formats,
            share_out(store, mixed.item_ids, config.batch, draw),
        )
        try:
            batch, is_new = reserve(store, draft, beside_open=beside_open)
        except OvertakenError as overtaken:
            if attempt == TRIES - 1:
                raise
            log.info("%s Drawing again.", overtaken.what)
            continue
        if is_new:
            _log(batch, len(pool), time.monotonic() - started)
        return batch.batch_id
    raise AssertionError("unreachable")


def empty_pool() -> SamplingError:
    """The error of a command that needs items of the pool where there are none."""
    return SamplingError("The pool is empty: every item is annotated or out.", hint="add texts: pal import FILE")


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


def _log(batch: Batch, n_pool: int, seconds: float) -> None:
    mix = ", ".join(f"{n} {name}" for name, n in batch.mix.items() if n)
    log.info("Sampled %d of %s items: %s (%.1f s).", batch.n, f"{n_pool:,}", mix, seconds)
    for share in batch.shares:
        if share.missing:
            log.warning(
                "Strategy %s could not run: it needs %s; %s chose its %d items.",
                share.strategy,
                share.missing,
                share.ran,
                share.n,
            )
