"""The evaluation reserve: the texts with the lowest ranks, which no strategy queries and no model trains on.

The rank of a text is a hash of its text hash and the workspace's seed, fixed from the start. So the lowest ranks are a
random sample of all texts, whatever has been queried, and stay one when texts are added. Of each slice of later imports
the lowest ranks join it, too: more than its part, which weights make good (`slices.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.lake.connection import listed
from storage.lake.context import among
from storage.lake.schema import RANK, UNAVAILABLE, current_labels
from storage.lake.slices import import_slices
from storage.lake.store import Store
from storage.records import Share

RESERVE = "reserve"
"""In place of a strategy: the item is the next of the evaluation reserve."""


@dataclass(frozen=True)
class Reserve:
    """The evaluation reserve as of now.

    Attributes:
        below: Its items are those whose rank is below this, 0 where there is none, and those of later imports.
        item_ids: All its items.
        due: Those to ask next for the target to be reached, and before these all of later imports.
        spare: Its others that nobody was asked about.
        refresh_below: Of the imports since the last batch the items whose rank is below this belong to it; 0 for none.
    """

    below: int = 0
    item_ids: tuple[str, ...] = ()
    due: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    refresh_below: int = 0

    def shares(self, n: int) -> tuple[Share, ...]:
        """Its share of n items in a batch, which also records what the batch left to it of later imports."""
        options = {"refresh_below": self.refresh_below} if self.refresh_below else {}
        return (Share(RESERVE, n, RESERVE, options=options),) if n or options else ()


def find_reserve(store: Store, target: int, size: int, where: str = "", refresh: int = 0) -> Reserve:
    """The reserve, and what of it is to be asked next.

    It never takes in higher ranks than earlier batches left out: what they could query is no random sample any more.
    Items that were asked and got no label are replaced by those of the next ranks.

    Args:
        target: Labelled evaluation items wanted. Those of batches that were for evaluation alone count too.
        size: Items that the reserve is to have; 0 for as many as earlier batches left out.
        where: Condition on their columns.
        refresh: Items of the lowest ranks that it takes in of the imports since the last batch, at most half of them.
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
    later, refresh_below = _of_later_imports(store, where, refresh)
    ids = dict.fromkeys([*(each.item_id for each in lowest), *later])
    rows = store.records(_Standing, _STANDING, {"ids": list(ids)})
    if not rows:
        return Reserve(left_out or 0)
    below = lowest[-1].rank + 1 if size and lowest else left_out or 0
    standing = {each.item_id: each for each in rows}
    in_order = [standing[each.item_id] for each in lowest]
    wanted = max(0, target - rows[0].n_drawn)
    eligible = [each for each in in_order if each.is_new or each.counts]
    first = {item_id: None for item_id in later if standing[item_id].is_new}
    due, spare = (
        tuple(each.item_id for each in part if each.is_new and each.item_id not in first)
        for part in (eligible[:wanted], eligible[wanted:])
    )
    return Reserve(below, tuple(ids), (*first, *due), spare, refresh_below)


def _of_later_imports(store: Store, where: str, refresh: int) -> tuple[list[str], int]:
    """Items that the reserve has of each slice after the first, the newest slice first, and `Reserve.refresh_below`.

    What a slice gives is settled by the first batch after it: a later batch may query the rest.
    """
    rows = [
        {
            "imported_at": imported_at,
            "number": each.number,
            "most": min(refresh, each.n // 2) if each.is_open else each.n,
            "below": _HIGHEST if each.is_open else each.refresh_below,
        }
        for each in import_slices(store, where)
        if each.number and (each.is_open or each.refresh_below)
        for imported_at in each.imports
    ]
    if not rows:
        return [], 0
    columns = {"imported_at": "TIMESTAMP", "number": "BIGINT", "most": "BIGINT", "below": "BIGINT"}
    found = store.records(
        _Later,
        f"""SELECT item_id, rank, number, below FROM (
            SELECT item_id, imported_at, {RANK} AS rank FROM lake.items WHERE {among(where)}
        ) JOIN ({listed(rows, columns)}) USING (imported_at) WHERE rank < below
        QUALIFY row_number() OVER (PARTITION BY number ORDER BY rank, item_id) <= most
        ORDER BY number DESC, rank, item_id""",
    )
    newest = [each.rank for each in found if each.below == _HIGHEST]
    return [each.item_id for each in found], newest[-1] + 1 if newest else 0


_HIGHEST = 1 << 60
"""Above all ranks."""


@dataclass(frozen=True)
class _Later:
    item_id: str
    rank: int
    number: int
    below: int


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
