"""Stage `adjudicate`: what annotators disagree on, or were unsure of, as one batch that shows their answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from prefect import task

from annotation.batch_config import BatchConfig
from annotation.label_set import LabelSet
from storage.answers import disputed_items
from storage.batches import Draft, OvertakenError, open_batches, reserve
from storage.records import Assignment, Proposal, Purpose
from storage.store import Store
from storage.workspace import Workspace

log = logging.getLogger(__name__)


@task
def draw_disputed(workspace: Workspace, label_set: LabelSet, asking: BatchConfig, n: int | None = None) -> str | None:
    """Reserve the disputed items, those answered longest ago first; returns the batch's id, None where there are none.

    An open batch of them is returned as it is. Whoever takes it answers it: an adjudicator, not each annotator.

    Args:
        n: Most items; `[batch] size` where None.
    """
    store = workspace.store()
    if opened := open_again(store, Purpose.ADJUDICATION):
        return opened
    disputed = disputed_items(store)
    item_ids = disputed[: n or asking.size]
    if not item_ids:
        return None
    batch_id = reserve_again(store, Purpose.ADJUDICATION, item_ids, "disputed", label_set, asking)
    log.info("%d of %d disputed items go to adjudication", len(item_ids), len(disputed))
    return batch_id


def open_again(store: Store, purpose: Purpose) -> str | None:
    """The open batch of a purpose that asks again, if there is one."""
    found = [each.batch for each in open_batches(store, again=True)]
    return next((batch.batch_id for batch in found if batch.purpose is purpose), None)


def reserve_again(
    store: Store,
    purpose: Purpose,
    item_ids: Sequence[str],
    reason: str,
    label_set: LabelSet,
    asking: BatchConfig,
    *,
    scores: Sequence[float] | None = None,
    model_id: str | None = None,
    assignments: Sequence[Assignment] = (),
) -> str:
    """Reserve answered items to ask about them again; returns the batch's id, an open one's where another was faster.

    Args:
        reason: Takes the place of the strategy that proposed them.
        scores: Of the items; higher = ask first.
        assignments: Who is asked; empty where whoever takes it is asked.
    """
    values = scores if scores is not None else [None] * len(item_ids)
    proposals = [
        Proposal(item_id, reason, score, rank)
        for rank, (item_id, score) in enumerate(zip(item_ids, values, strict=True), start=1)
    ]
    draft = Draft(
        purpose,
        item_ids,
        proposals,
        0,
        store.version(),
        label_set.digest,
        model_id,
        {reason: len(item_ids)},
        overlap=asking.overlap if assignments else 1,
        formats=asking.formats,
        assignments=assignments,
    )
    try:
        return reserve(store, draft, beside_open=False)[0].batch_id
    except OvertakenError:
        if opened := open_again(store, purpose):
            return opened
        raise
