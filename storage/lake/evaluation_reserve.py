"""The evaluation reserve: the texts with the lowest ranks, which no strategy queries and no model trains on.

The rank of a text is a hash of its text hash and the workspace's seed and never changes. The lowest ranks are thus a
random sample of all texts, whatever has been queried, even after texts are added. The lowest ranks of each slice of
later imports join the reserve, too; weights compensate for the larger fraction (`slices.py`).
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
"""The strategy of items from the evaluation reserve."""


@dataclass(frozen=True)
class Reserve:
    """The present evaluation reserve.

    Attributes:
        below: The rank below which items are in the reserve, in addition to those of later imports; 0 if there is none.
        item_ids: All its items.
        due: Items to query next: those of later imports, then as many as the target requires.
        spare: Further items that have not been queried.
        refresh_below: The rank below which items imported since the last batch are in the reserve; 0 if none are.
    """

    below: int = 0
    item_ids: tuple[str, ...] = ()
    due: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    refresh_below: int = 0

    def shares(self, n: int) -> tuple[Share, ...]:
        """Return its share of a batch with n of its items; this also records the bound of later imports."""
        options = {"refresh_below": self.refresh_below} if self.refresh_below else {}
        return (Share(RESERVE, n, RESERVE, options=options),) if n or options else ()


def find_reserve(store: Store, target: int, size: int, where: str = "", refresh: int = 0) -> Reserve:
    """Find the reserve and the items of it to query next.

    The reserve never includes higher ranks than earlier batches left out, since the items that they could query are no
    longer a random sample. Items that were queried and got no label are replaced by the next ranks.

    Args:
        target: Target number of labeled evaluation items, including those of evaluation batches.
        size: Number of items of the reserve; 0 for as many as earlier batches left out.
        where: Condition on the items' columns.
        refresh: Number of items that imports since the last batch add, at most half of them; those of the lowest ranks.
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
    ids = dict.fromkeys([*(row.item_id for row in lowest), *later])
    rows = store.records(_ReserveItem, _RESERVE_ITEMS, {"ids": list(ids)})
    if not rows:
        return Reserve(left_out or 0)
    below = lowest[-1].rank + 1 if size and lowest else left_out or 0
    by_id = {item.item_id: item for item in rows}
    in_order = [by_id[row.item_id] for row in lowest]
    n_needed = max(0, target - rows[0].n_drawn)
    eligible = [item for item in in_order if item.is_new or item.counts]
    first = {item_id: None for item_id in later if by_id[item_id].is_new}
    due, spare = (
        tuple(item.item_id for item in part if item.is_new and item.item_id not in first)
        for part in (eligible[:n_needed], eligible[n_needed:])
    )
    return Reserve(below, tuple(ids), (*first, *due), spare, refresh_below)


def _of_later_imports(store: Store, where: str, refresh: int) -> tuple[list[str], int]:
    """Find the reserve's items of all slices but the first, newest slice first, and `Reserve.refresh_below`.

    The first batch after a slice fixes the items of that slice, since a later batch may query the others.
    """
    rows = [
        {
            "imported_at": imported_at,
            "number": part.number,
            "most": min(refresh, part.n // 2) if part.is_open else part.n,
            "below": _HIGHEST if part.is_open else part.refresh_below,
        }
        for part in import_slices(store, where)
        if part.number and (part.is_open or part.refresh_below)
        for imported_at in part.imports
    ]
    if not rows:
        return [], 0
    columns = {"imported_at": "TIMESTAMP", "number": "BIGINT", "most": "BIGINT", "below": "BIGINT"}
    later = store.records(
        _Later,
        f"""SELECT item_id, rank, number, below FROM (
            SELECT item_id, imported_at, {RANK} AS rank FROM lake.items WHERE {among(where)}
        ) JOIN ({listed(rows, columns)}) USING (imported_at) WHERE rank < below
        QUALIFY row_number() OVER (PARTITION BY number ORDER BY rank, item_id) <= most
        ORDER BY number DESC, rank, item_id""",
    )
    newest = [item.rank for item in later if item.below == _HIGHEST]
    return [item.item_id for item in later], newest[-1] + 1 if newest else 0


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
