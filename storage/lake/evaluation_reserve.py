"""The evaluation reserve: the texts with the lowest ranks, which no strategy queries and no model trains on.

The rank of a text is a hash of its text hash and the workspace's seed, fixed from the start. So the lowest ranks are a
random sample of all texts, whatever has been queried, and stay one when texts are added.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.lake.context import among
from storage.lake.schema import UNAVAILABLE, current_labels
from storage.lake.store import Store

RANK = "xor(('0x' || left(text_hash, 15))::BIGINT, (SELECT max(seed) FROM lake.workspace))"
"""SQL for the rank of a row of `lake.items`: a random integer of 60 bits that never changes."""


@dataclass(frozen=True)
class Reserve:
    """The evaluation reserve as of now.

    Attributes:
        below: Its items are those whose rank is below this; 0 where there is none.
        item_ids: All its items, by rank.
        due: Those to ask next for the target to be reached.
        spare: Its others that nobody was asked about.
    """

    below: int = 0
    item_ids: tuple[str, ...] = ()
    due: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()


def find_reserve(store: Store, target: int, size: int, where: str = "") -> Reserve:
    """The reserve, and what of it is to be asked next.

    It never takes in higher ranks than earlier batches left out: what they could query is no random sample any more.
    Items that were asked and got no label are replaced by those of the next ranks.

    Args:
        target: Labelled evaluation items wanted. Those of batches that were for evaluation alone count too.
        size: Items that the reserve is to have; 0 for as many as earlier batches left out.
        where: Condition on their columns.
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
    rows = store.records(_Standing, _STANDING, {"ids": [each.item_id for each in lowest]})
    standing = {each.item_id: each for each in rows}
    in_order = [standing[each.item_id] for each in lowest]
    wanted = max(0, target - rows[0].n_drawn)
    eligible = [each for each in in_order if each.is_new or each.counts]
    due, spare = (
        tuple(each.item_id for each in part if each.is_new) for part in (eligible[:wanted], eligible[wanted:])
    )
    return Reserve(below, tuple(each.item_id for each in in_order), due, spare)


@dataclass(frozen=True)
class _Ranked:
    item_id: str
    rank: int


@dataclass(frozen=True)
class _Standing:
    """An item of the reserve.

    Attributes:
        is_new: Nobody was asked about it.
        counts: It has an evaluation label, or is out to get one.
        n_drawn: Evaluation labels of batches that were for evaluation alone: the same for all items.
    """

    item_id: str
    is_new: bool
    counts: bool
    n_drawn: int


_STANDING = f"""
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
