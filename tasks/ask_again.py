"""Stage `draw_disputed`: what annotators disagree on, or were unsure of, as one batch that shows their answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from storage.lake.batches import Draft, OvertakenError, published_batches, reserve
from storage.lake.history import disputed_items
from storage.lake.store import Store
from storage.records import Assignment, Proposal, Purpose
from tasks.project import Project

log = logging.getLogger(__name__)


def draw_disputed(project: Project, n: int = 0) -> str | None:
    """Reserve the disputed items, those answered longest ago first; returns the batch's id, None where there are none.

    An open batch of them is returned as it is. Whoever takes it answers it: an adjudicator, not each annotator.

    Args:
        n: Most items; 0 for `[batch] size`.
    """
    store, asking = project.workspace.store(), project.config.batch
    if opened := open_again(store, Purpose.ADJUDICATION):
        return opened
    disputed = disputed_items(store)
    item_ids = disputed[: n or asking.size]
    if not item_ids:
        return None
    batch_id = reserve_again(project, Purpose.ADJUDICATION, Again(item_ids, "disputed"))
    log.info("Sent %d of %d disputed items to adjudication.", len(item_ids), len(disputed))
    return batch_id


def open_again(store: Store, purpose: Purpose) -> str | None:
    """The open batch of a purpose that asks again, if there is one."""
    opened = published_batches(store, again=True)
    return next((batch.batch_id for batch in opened if batch.purpose is purpose), None)


@dataclass(frozen=True)
class Again:
    """Answered items to ask about again.

    Attributes:
        reason: Stands in the place of the strategy that proposed them.
        scores: Of the items, (n,); higher = ask first; empty where there are none.
        assignments: Who is asked; empty where whoever takes the batch is asked.
    """

    item_ids: Sequence[str]
    reason: str
    scores: Sequence[float] = ()
    model_id: str | None = None
    assignments: Sequence[Assignment] = ()


def reserve_again(project: Project, purpose: Purpose, again: Again) -> str:
    """Reserve answered items to ask about them again; returns the batch's id, an open one's if another was faster."""
    store, asking = project.workspace.store(), project.config.batch
    scores: Sequence[float | None] = again.scores or [None] * len(again.item_ids)
    proposals = [
        Proposal(item_id, again.reason, score, rank)
        for rank, (item_id, score) in enumerate(zip(again.item_ids, scores, strict=True), start=1)
    ]
    draft = Draft(
        purpose,
        again.item_ids,
        proposals,
        0,
        store.version(),
        project.config.task.digest,
        again.model_id,
        {again.reason: len(again.item_ids)},
        overlap=asking.overlap if again.assignments else 1,
        formats=asking.formats,
        assignments=again.assignments,
    )
    try:
        return reserve(store, draft, beside_open=False)[0].batch_id
    except OvertakenError:
        if opened := open_again(store, purpose):
            return opened
        raise
