"""The evaluation reserve: the texts with the lowest ranks, which no strategy queries and no model trains on.

The rank of a text is a hash of its text hash and the workspace's seed and never changes. The lowest ranks are thus a
random sample of all texts, whatever has been queried, even after texts are added.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.lake.context import among
from storage.lake.schema import UNAVAILABLE, current_labels
from storage.lake.store import Store

RANK = "xor(('0x' || left(text_hash, 15))::BIGINT, (SELECT max(seed) FROM lake.workspace))"
"""SQL for the rank of a row of `lake.items`: a fixed random integer of 60 bits."""


@dataclass(frozen=True)
class Reserve:
    """The present evaluation reserve.

    Attributes:
        below: The rank below which items are in the reserve; 0 if there is none.
        item_ids: All its items, by rank.
        due: Items to query next to reach the target.
        spare: Further items that have not been queried.
    """

    below: int = 0
    item_ids: tuple[str, ...] = ()
    due: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()


def find_reserve(store: Store, target: int, size: int, where: str = "") -> Reserve:
    """Find the reserve and the items of it to query next.

    The reserve never includes higher ranks than earlier batches left out, since the items that they could query are no
    longer a random sample. Items that were queried and got no label are replaced by the next ranks.

    Args:
        target: Target number of labeled evaluation items, including those of evaluation batches.
        size: Number of items of the reserve; 0 for as many as earlier batches left out.
        where: Condition on the items' columns.
    """
    left_out: int | None = store.rows("SELECT min(reserve_below) FROM lake.batches")[0][0]
    if not size and left_out is None:
        return Reserve()
    lowest = store.records(
        _Ranked,
        f"""FROM (SELECT item_id, {RANK} AS rank FROM lake.items WHERE {among(where)})
        WHERE rank < coalesce($left_out, rank + 1)
        ORDER BY rank, item_id {f"LIMIT {int(size)}" if size else ""}""",
        {"left_out": left_out},
    )
    if not lowest:
        return Reserve(left_out or 0)
    below = lowest[-1].rank + 1 if size else left_out or 0
    rows = store.records(_ReserveItem, _RESERVE_ITEMS, {"ids": [row.item_id for row in lowest]})
    by_id = {item.item_id: item for item in rows}
    in_order = [by_id[row.item_id] for row in lowest]
    n_needed = max(0, target - rows[0].n_drawn)
    eligible = [item for item in in_order if item.is_new or item.counts]
    due, spare = (
        tuple(item.item_id for item in part if item.is_new) for part in (eligible[:n_needed], eligible[n_needed:])
    )
    return Reserve(below, tuple(item.item_id for item in in_order), due, spare)


@dataclass(frozen=True)
class _Ranked:
    item_id: str
    rank: int


@dataclass(frozen=True)
class _ReserveItem:
    """An item of the reserve.

    Attributes:
        is_new: Whether it has not been queried yet.
        counts: Whether it has an evaluation label, or is in an open batch to get one.
        n_drawn: Evaluation labels of evaluation batches; the same for all items.
    """

    item_id: str
    is_new: bool
    counts: bool
    n_drawn: int


_RESERVE_ITEMS = f"""
    WITH drawn AS (
        SELECT item_id FROM lake.batch_items JOIN lake.batches USING (batch_id) WHERE purpose = 'evaluation'
    ), labelled AS (
        SELECT item_id FROM ({current_labels()}) WHERE split = 'evaluation' AND label IS NOT NULL
    ), asked AS (
        SELECT item_id FROM lake.batch_items i JOIN lake.batches b USING (batch_id)
        WHERE i.split = 'evaluation' AND b.status = 'published'
        AND item_id NOT IN (SELECT item_id FROM lake.annotations)
        UNION FROM labelled ANTI JOIN drawn USING (item_id)
    )
    SELECT item_id, item_id NOT IN ({UNAVAILABLE}) AS is_new, item_id IN (FROM asked) AS counts,
        (SELECT count(*) FROM labelled SEMI JOIN drawn USING (item_id)) AS n_drawn
    FROM (SELECT unnest($ids) AS item_id)"""
