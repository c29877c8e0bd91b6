"""Batches: drawn from the pool in one transaction, listed with their progress, closed."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from storage.errors import BatchError
from storage.lake.connection import bound, listed
from storage.lake.schema import ANSWERS_TO_BATCHES, ASKED, OUT, UNAVAILABLE, current_labels
from storage.lake.store import Connection, Store, records_of
from storage.records import (
    Assignment,
    Batch,
    BatchItem,
    BatchResult,
    BatchStatus,
    Proposal,
    Purpose,
    Share,
    Split,
    StopSign,
)

_COLUMNS = """batch_id, purpose, status, n, created_at, model_id, seed, lake_version, label_set, mix, shares,
    stop_signs, overlap, formats, codebook, reserve_below"""


class OvertakenError(BatchError):
    """Another process took items of this batch out of the pool in the meantime: draw again."""


@dataclass(frozen=True)
class Draft:
    """A batch before it has an id: items in the order they will be shown, who proposed each, and who is asked.

    Attributes:
        assignments: Who is asked about what, in the order each is shown; empty where whoever takes it is asked.
        evaluation: Those of the items that are of the evaluation reserve, whatever the purpose.
        reserve_below: The ranks below this were left out of what could be queried; None where none were.
    """

    purpose: Purpose | Split
    item_ids: Sequence[str]
    proposals: Sequence[Proposal]
    seed: int
    lake_version: int
    label_set: str
    model_id: str | None = None
    mix: dict[str, int] | None = None
    shares: Sequence[Share] = ()
    stop_signs: Sequence[StopSign] = ()
    overlap: int = 1
    formats: Sequence[str] = ()
    assignments: Sequence[Assignment] = ()
    evaluation: Collection[str] = ()
    reserve_below: int | None = None


@dataclass(frozen=True)
class Progress:
    """A batch and how far it is.

    Attributes:
        n_answered: Its own items that have an answer.
        n_answers: The answers they have, those beyond what an item needs not counted: of `batch.n * batch.overlap`.
    """

    batch: Batch
    n_answered: int
    n_answers: int


def reserve(store: Store, draft: Draft, *, beside_open: bool) -> tuple[Batch, bool]:
    """Give the draft's items out under a new batch id; returns the batch and whether it is new.

    With `beside_open` false an open batch is returned in its place, so that running twice publishes once: of those that
    ask again one of the same purpose, else one of any split.

    Raises:
        OvertakenError: An item is no longer in the pool; or, of a batch that asks again, is out in such a batch by now.
    """
    again = Purpose(draft.purpose).asks_again
    same = f"purpose = '{draft.purpose.value}'" if again else "purpose NOT IN ('adjudication', 'review')"
    gone = f"SELECT item_id FROM ({OUT}) WHERE {same}" if again else UNAVAILABLE

    def change(connection: Connection) -> tuple[Batch, bool]:
        if not beside_open:
            sql = f"FROM lake.batches WHERE status = 'published' AND {same} ORDER BY created_at LIMIT 1"
            opened = records_of(connection, Batch, sql)
            if opened:
                return opened[0], False
        taken = connection.execute(
            bound(
                f"SELECT count(*) FROM ({gone}) u SEMI JOIN (SELECT unnest($ids) AS item_id) USING (item_id)",
                {"ids": list(draft.item_ids)},
            ),
        ).fetchone()
        if taken and taken[0]:
            raise OvertakenError(
                f"{taken[0]} of {len(draft.item_ids)} items {'went out' if again else 'left the pool'}"
                " while the batch was drawn.",
                hint="run the same command again.",
            )
        batch_id = next_batch_id(connection, draft.purpose)
        insert_batch(connection, batch_id, draft, BatchStatus.PUBLISHED)
        return records_of(connection, Batch, "FROM lake.batches WHERE batch_id = ?", [batch_id])[0], True

    return store.write(change, f"publish a {draft.purpose.value} batch of {len(draft.item_ids)}")


def next_batch_id(connection: Connection, purpose: Purpose | Split) -> str:
    """The id of the next batch that is published; inside somebody's transaction."""
    number = connection.execute(
        r"SELECT 1 + coalesce(max(TRY_CAST(regexp_extract(batch_id, '^b(\d+)', 1) AS BIGINT)), 0) FROM lake.batches"
    ).fetchone()
    return f"b{number[0] if number else 1:04d}-{purpose.value}"


def insert_batch(
    connection: Connection, batch_id: str, draft: Draft, status: BatchStatus, n: int | None = None
) -> None:
    """Write a batch and its proposals; inside somebody's transaction.

    Args:
        n: Its number of items, where somebody else writes these.
    """
    connection.execute(
        bound(
            f"""INSERT INTO lake.batches ({_COLUMNS}) VALUES (?, ?, ?, ?, now()::TIMESTAMP{", ?" * 9},
            (SELECT coalesce(max(codebook), 1) FROM lake.label_changes), ?)""",
            [
                batch_id,
                draft.purpose.value,
                status.value,
                len(draft.item_ids) if n is None else n,
                draft.model_id,
                draft.seed,
                draft.lake_version,
                draft.label_set,
                json.dumps(draft.mix or {}),
                json.dumps([asdict(share) for share in draft.shares]),
                json.dumps([asdict(sign) for sign in draft.stop_signs]),
                draft.overlap,
                json.dumps(list(draft.formats)),
                draft.reserve_below,
            ],
        ),
    )
    position = {item_id: k for k, item_id in enumerate(draft.item_ids)}
    proposed = [
        asdict(proposal)
        | {
            "position": position[proposal.item_id],
            "split": Split.EVALUATION if proposal.item_id in draft.evaluation else None,
        }
        for proposal in draft.proposals
    ]
    asked = [
        {**asdict(assignment), "position": k, "gold": int(assignment.gold)}
        for k, assignment in enumerate(draft.assignments)
    ]
    for table, rows in (("batch_items", proposed), ("assignments", asked)):
        if rows:
            columns = _ROWS_OF[table]
            values = listed([{"batch_id": batch_id, **row} for row in rows], columns)
            connection.execute(f"INSERT INTO lake.{table} ({', '.join(columns)}) {values}")


_ROWS_OF = {
    "batch_items": {
        "batch_id": "VARCHAR",
        "item_id": "VARCHAR",
        "strategy": "VARCHAR",
        "score": "DOUBLE",
        "rank": "BIGINT",
        "position": "BIGINT",
        "split": "VARCHAR",
    },
    "assignments": {
        "batch_id": "VARCHAR",
        "item_id": "VARCHAR",
        "annotator": "VARCHAR",
        "position": "BIGINT",
        "gold": "BIGINT",
    },
}
"""Table -> its columns, in order."""

_OPEN = "WHERE status = 'published' ORDER BY created_at, batch_id"


def open_batches(store: Store) -> list[Progress]:
    """Batches that are out with annotators and how far they are, the oldest first."""
    return _progress(store, _OPEN)


def published_batches(store: Store, *, again: bool | None = None) -> list[Batch]:
    """Batches that are out with annotators, the oldest first.

    Args:
        again: Only those that ask again about answered items; False: only those that ask about new ones.
    """
    batches = store.records(Batch, f"FROM lake.batches {_OPEN}")
    return [batch for batch in batches if again in (None, batch.purpose.asks_again)]


def count_batches(store: Store) -> int:
    """Number of batches there ever were."""
    return int(store.rows("SELECT count(*) FROM lake.batches")[0][0])


@dataclass(frozen=True)
class BatchHashes:
    """What the lake has of a batch: whether it is open, and of its items the hashes of all texts that they had."""

    is_open: bool
    hashes: dict[str, set[str]]


def batch_hashes(store: Store) -> dict[str, BatchHashes]:
    """Every batch that has a folder, by its id."""
    found = {
        batch_id: BatchHashes(status == "published", {})
        for batch_id, status in store.rows("SELECT batch_id, status FROM lake.batches")
    }
    for batch_id, item_id, text_hash in store.rows(
        """SELECT DISTINCT batch_id, item_id, text_hash FROM lake.batch_items JOIN (
            SELECT item_id, text_hash FROM lake.items UNION SELECT item_id, text_hash FROM lake.edits
        ) USING (item_id)"""
    ):
        found[batch_id].hashes.setdefault(item_id, set()).add(text_hash)
    return found


def find_batch(store: Store, batch_id: str) -> Progress:
    """One batch.

    Raises:
        BatchError: There is none with this id.
    """
    found = _progress(store, "WHERE batch_id = ?", [batch_id])
    if not found:
        known = [batch.batch_id for batch in published_batches(store)]
        raise BatchError(
            f"there is no batch {batch_id!r}.",
            hint=f"open batches: {', '.join(known)}" if known else "no batch is open; publish one: pal next",
        )
    return found[0]


def items_of(store: Store, batch_id: str) -> list[BatchItem]:
    """The items that a batch asks about, in the order they are shown; gold ones last."""
    return store.records(
        BatchItem,
        """SELECT item_id, text, text_hash FROM (
            SELECT item_id, 0 AS gold, min(position) AS position FROM lake.batch_items WHERE batch_id = $batch
            GROUP BY item_id
            UNION ALL SELECT item_id, 1, min(position) FROM lake.assignments WHERE batch_id = $batch AND gold = 1
            GROUP BY item_id
        ) JOIN lake.items USING (item_id) ORDER BY gold, position""",
        {"batch": batch_id},
    )


def assignments_of(store: Store, batch_id: str) -> list[Assignment]:
    """Who is asked about what, in the order each is shown; empty where whoever takes the batch is asked."""
    return store.records(Assignment, "FROM lake.assignments WHERE batch_id = ? ORDER BY position", [batch_id])


def batches_of_items(store: Store, item_ids: Sequence[str], text_hashes: Sequence[str]) -> dict[str, str]:
    """The newest batch that asked about each of these items, by item_id and by text_hash; open ones go first.

    Items that were asked about again, to settle or to check them, are left out: an answer may be to either batch.
    """
    rows = store.rows(
        f"""SELECT item_id, any_value(text_hash), arg_max(batch_id, (status = 'published', created_at, batch_id))
        FROM ({ASKED}) JOIN lake.batches USING (batch_id) JOIN lake.items USING (item_id)
        WHERE item_id IN (SELECT unnest($ids)) OR text_hash IN (SELECT unnest($hashes)) GROUP BY item_id
        HAVING count(*) FILTER (purpose IN ('adjudication', 'review')) = 0""",
        {"ids": list(item_ids), "hashes": list(text_hashes)},
    )
    return {name: batch_id for item_id, digest, batch_id in rows for name in (item_id, digest)}


def proposals_of(store: Store, batch_id: str) -> list[Proposal]:
    """Every strategy that proposed an item of the batch, by position."""
    sql = "FROM lake.batch_items WHERE batch_id = ? ORDER BY position, strategy"
    return store.records(Proposal, sql, [batch_id])


def has_reserve(store: Store, batch_id: str) -> bool:
    """Whether items of the evaluation reserve are among those of a batch."""
    return bool(
        store.rows("SELECT 1 FROM lake.batch_items WHERE batch_id = ? AND split IS NOT NULL LIMIT 1", [batch_id])
    )


def batch_results(store: Store, random: Sequence[str], positive: str) -> list[BatchResult]:
    """What each batch with answers brought, the oldest first.

    Args:
        random: The strategies that draw at random.
        positive: The label that is looked for.
    """
    return store.records(
        BatchResult,
        f"""WITH firsts AS (
            SELECT item_id, arg_min(batch_id, (ingestion, ingested_at, batch_id)) AS batch_id
            FROM lake.annotations GROUP BY item_id
        ), drawn AS (
            SELECT DISTINCT batch_id, item_id FROM lake.batch_items WHERE list_contains($random, strategy)
        ), answered AS (
            SELECT b.*, label, purpose = 'training' AND split = 'evaluation' AS in_reserve,
                NOT in_reserve AND (purpose <> 'training' OR d.item_id IS NOT NULL) AS at_random
            FROM firsts JOIN lake.batches b USING (batch_id) JOIN ({current_labels()}) USING (item_id)
            LEFT JOIN drawn d USING (batch_id, item_id)
        )
        SELECT batch_id, any_value(purpose) AS purpose, any_value(status) AS status,
            any_value(model_id) IS NOT NULL AS active, any_value(n) AS n, count(*) AS n_answered,
            count(label) AS n_labelled, count(*) FILTER (label = $positive) AS n_positive,
            count(label) FILTER (at_random) AS n_random,
            count(*) FILTER (at_random AND label = $positive) AS n_random_positive,
            count(label) FILTER (in_reserve) AS n_reserve,
            count(*) FILTER (in_reserve AND label = $positive) AS n_reserve_positive
        FROM answered GROUP BY batch_id ORDER BY any_value(created_at), batch_id""",
        {"positive": positive, "random": list(random)},
    )


def answered_in(store: Store, batch_id: str, annotator: str | None = None) -> dict[str, str]:
    """The newest answer of each item of the batch that has one: item_id -> answer.

    Args:
        annotator: Whose answers; None for anybody's.
    """
    rows = store.rows(
        """SELECT item_id, arg_max(answer, (ingestion, annotated_at)) FROM lake.annotations
        WHERE batch_id = $batch AND annotator = coalesce($annotator, annotator) GROUP BY item_id""",
        {"batch": batch_id, "annotator": annotator},
    )
    return dict(rows)


def answerers_in(store: Store, batch_id: str) -> dict[str, set[str]]:
    """Who answered each of the batch's own items that has an answer: item_id -> annotators."""
    rows = store.rows(
        """SELECT DISTINCT item_id, annotator FROM lake.annotations
        SEMI JOIN lake.batch_items USING (batch_id, item_id) WHERE batch_id = ?""",
        [batch_id],
    )
    answerers: dict[str, set[str]] = {}
    for item_id, annotator in rows:
        answerers.setdefault(item_id, set()).add(annotator)
    return answerers


def close_batch(store: Store, batch_id: str) -> int:
    """Give a batch's unanswered items back to the pool; closing it again changes nothing. Returns how many."""
    progress = find_batch(store, batch_id)
    closed = store.write(
        lambda connection: connection.execute(
            bound("UPDATE lake.batches SET status = 'closed' WHERE batch_id = ? AND status = 'published'", [batch_id])
        ).fetchone(),
        f"close {batch_id}",
    )
    return progress.batch.n - progress.n_answered if closed and closed[0] else 0


def _progress(store: Store, where: str, parameters: list[Any] | None = None) -> list[Progress]:
    return store.records(
        Progress,
        f"""WITH answers AS ({ANSWERS_TO_BATCHES})
        SELECT *, (SELECT count(*) FROM answers a WHERE a.batch_id = b.batch_id) AS n_answered,
            (SELECT coalesce(sum(least(a.n, coalesce(b.overlap, 1))), 0)::BIGINT FROM answers a
            WHERE a.batch_id = b.batch_id) AS n_answers
        FROM lake.batches b {where}""",
        parameters,
    )
