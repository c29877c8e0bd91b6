"""Stage `draw_found`: what a search finds, as a batch."""

from __future__ import annotations

from storage.errors import SamplingError
from storage.lake.batches import Draft, count_batches, reserve
from storage.lake.search import Scope
from storage.records import Proposal, Split
from tasks.find import Search, find_items
from tasks.plan import Plan, reserve_of
from tasks.project import Project
from tasks.sample import share_out

FOUND = "find"
"""In place of a strategy: a person searched for the item. It is no random draw, and is never an evaluation item."""


def draw_found(project: Project, search: Search, plan: Plan, n: int) -> str:
    """Reserve the n best matches of the pool as a training batch; returns its id.

    They fulfill `[sampling] where`. The evaluation reserve is left out, so that evaluation items stay a random sample
    of all texts.

    Args:
        plan: Of the next batch: while a split has to be drawn at random from the whole pool, nothing may be taken out.

    Raises:
        SamplingError: Held-out items have to be drawn first, or nothing in the pool matches.
    """
    if plan.purpose is not Split.TRAINING:
        raise SamplingError(
            f"{plan.n} {plan.purpose} items have to be drawn at random before items are chosen by a search.",
            hint="Publish and answer these first: pal next",
        )
    store, batch = project.store, project.config.batch
    held_out, version = reserve_of(project), store.version()
    hits = find_items(project, search, Scope(without=held_out.item_ids, where=project.config.sampling.where), n)
    if not hits:
        raise SamplingError("Nothing in the pool matches.", hint="Search for other words, or use --by meaning.")
    chosen = [hit.item_id for hit in hits]
    draft = Draft(
        Split.TRAINING,
        chosen,
        [Proposal(hit.item_id, FOUND, hit.score, rank) for rank, hit in enumerate(hits, start=1)],
        project.config.model.seed,
        version,
        project.label_set.digest,
        mix={FOUND: len(hits)},
        shares=held_out.shares(0),
        overlap=batch.overlap,
        formats=batch.formats,
        assignments=share_out(store, chosen, batch, project.config.model.seed + count_batches(store)),
        reserve_below=held_out.below or None,
    )
    return reserve(store, draft, beside_open=True)[0].batch_id
