"""The evaluation reserve: the texts with the lowest ranks, which no strategy queries and no model trains on.

The rank of a text is a hash of its text hash and the workspace's seed, fixed from the start. So the lowest ranks are a
random sample of all texts, whatever has been queried, and stay one when texts are added.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.lake.schema import UNAVAILABLE, current_labels
from storage.lake.store import Store

RANK = "(md5_number_lower(text_hash || ':' || (SELECT max(seed) FROM lake.workspace)) >> 1)::BIGINT"
"""SQL for the rank of a row of `lake.items`: a random 63-bit integer, the same at all times."""


@dataclass(frozen=True)
class Reserve:
    """The evaluation reserve as of now.

    Attributes:
        below: Items whose rank is below this are in it; 0 where there is none.
        due: Its items to ask next for the target to be reached, by rank.
        spare: Its other items that nobody was asked about, by rank.
    """

    below: int = 0
    due: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()


def find_reserve(store: Store, target: int, size: int) -> Reserve:
    """The reserve, and what of it is to be asked next.

    It never grows upwards: what a batch could query before, by the ranks that it left out, no later batch takes for a
    random sample. Items that were asked and got no label are replaced by the next ranks.

    Args:
        target: Labelled evaluation items wanted. Those of batches that were for evaluation alone count too.
        size: Items that the reserve is to have; 0 for as many as it has.
    """
    lowest = f"SELECT {RANK} AS rank FROM lake.items ORDER BY rank LIMIT {int(size)}"
    below = store.rows(f"""SELECT coalesce(least(wanted, left_out), wanted, left_out, 0) FROM
        (SELECT max(rank) + 1 AS wanted FROM ({lowest})), (SELECT min(reserve_below) AS left_out FROM lake.batches)""")
    cutoff = int(below[0][0])
    if not cutoff:
        return Reserve()
    rows = store.rows(
        f"""WITH drawn AS (
            SELECT item_id FROM lake.batch_items JOIN lake.batches b USING (batch_id) WHERE b.purpose = 'evaluation'
        ), asked AS (
            SELECT item_id FROM lake.batch_items JOIN lake.batches b USING (batch_id)
            WHERE split = 'evaluation' AND b.purpose <> 'evaluation' AND b.status = 'published'
        ), labelled AS (
            SELECT item_id FROM ({current_labels()}) WHERE split = 'evaluation' AND label IS NOT NULL
        ), fixed AS (SELECT item_id FROM labelled SEMI JOIN drawn USING (item_id))
        SELECT item_id, item_id NOT IN ({UNAVAILABLE}) AS is_new, (SELECT count(*) FROM fixed) AS n_fixed
        FROM (SELECT item_id, {RANK} AS rank FROM lake.items) WHERE rank < {cutoff}
        AND item_id NOT IN (FROM fixed) AND (is_new OR item_id IN (FROM asked) OR item_id IN (FROM labelled))
        ORDER BY rank, item_id"""
    )
    wanted = max(0, target - (int(rows[0][2]) if rows else 0))
    due = tuple(item_id for item_id, is_new, _ in rows[:wanted] if is_new)
    return Reserve(cutoff, due, tuple(item_id for item_id, is_new, _ in rows[wanted:] if is_new))


def reserved(below: int, at: str = "", within: str = "true") -> str:
    """Query for the ids of the items in the reserve.

    Args:
        below: As in `Reserve`.
        at: The `AT (VERSION => ...)` of the query.
        within: A condition on item_id that holds for all that are wanted.
    """
    return f"SELECT item_id FROM lake.items r {at} WHERE {f'{RANK} < {int(below)}' if below else 'false'} AND {within}"
