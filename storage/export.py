"""The labelled data set as of a lake version: what `pal export` gives away."""

from __future__ import annotations

import pyarrow as pa

from storage.errors import StoreError
from storage.lake.schema import current_labels, standing_answers
from storage.lake.store import Store


def labelled_items(store: Store, version: int) -> pa.Table:
    """Every item that has a label, by item_id.

    Columns: item_id, text, label, split, n_answers (that count), n_agree (of them those that equal the label), batch_id
    (the first that asked), annotated_at.
    """
    at = f"AT (VERSION => {int(version)})"
    return store.read(
        f"""WITH answers AS (
            SELECT item_id, count(*) AS n_answers, list(answer) AS given FROM ({standing_answers(version)})
            WHERE answer <> 'skip' GROUP BY item_id
        ), firsts AS (
            SELECT item_id, arg_min(batch_id, (ingested_at, batch_id)) AS batch_id
            FROM lake.annotations {at} GROUP BY item_id
        )
        SELECT item_id, text, label, split, n_answers, len(list_filter(given, lambda a: a = label)) AS n_agree,
            batch_id, annotated_at
        FROM ({current_labels(version)}) JOIN lake.items i {at} USING (item_id) JOIN answers USING (item_id)
        JOIN firsts USING (item_id) WHERE label IS NOT NULL ORDER BY item_id"""
    )


def count_annotators(store: Store, version: int) -> int:
    """How many people answered, up to a lake version."""
    sql = f"SELECT count(DISTINCT annotator) FROM lake.annotations AT (VERSION => {int(version)})"
    return int(store.rows(sql)[0][0])


def check_version(store: Store, version: int) -> None:
    """Make sure that the lake has a version that can be read.

    Raises:
        StoreError: It has none of that number.
    """
    known = [row[0] for row in store.rows("SELECT snapshot_id FROM ducklake_snapshots('lake') ORDER BY 1")]
    if version not in known:
        raise StoreError(
            f"the lake has no version {version}.",
            hint=f"its versions go from {known[0]} to {known[-1]}; the newest: leave --at out",
        )
