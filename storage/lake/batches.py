"""Batches: draws them from the pool in one transaction, lists them with their progress, and closes them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from storage.errors import BatchError
from storage.lake.connection import bound, listed
from storage.lake.schema import ASKED, OUT, UNAVAILABLE, answers_to_batches, current_labels
from storage.lake.store import Connection, Store, records_of
from storage.records import (
    IMPORTED,
    ORIGINAL,
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
    """Another process took items of this batch from the pool meanwhile; draw again."""


@dataclass(frozen=True)
class Draft:
    """A batch before it has an id: its items in the order to show, with proposals and assignments.

    Attributes:
        assignments: Which annotator gets which item, in the order to show; empty if anybody may answer.
        evaluation: Items of the evaluation reserve among them, whatever the purpose.
        reserve_below: Items with ranks below this could not be queried; None if all could be.
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
    """A batch with its progress.

    Attributes:
        n_answered: Its own items with an answer.
        n_answers: Their answers, at most `batch.overlap` per item, of `batch.n * batch.overlap`.
    """

    batch: Batch
    n_answered: int
    n_answers: int


def reserve(store: Store, draft: Draft, *, beside_open: bool) -> tuple[Batch, bool]:
    """Reserve the draft's items under a new batch id; returns the batch and whether it is new.

    With `beside_open` false, an open batch is returned instead, so that running twice publishes once: for a repeated
    query, a batch of the same purpose; otherwise a batch of any split.

    Raises:
        OvertakenError: An item is no longer in the pool, or for a repeated query, is in another open batch.
    """
    again = Purpose(draft.purpose).asks_again
    same_kind = f"purpose = '{draft.purpose.value}'" if again else "purpose NOT IN ('adjudication', 'review')"
    unavailable = f"SELECT item_id FROM ({OUT}) WHERE {same_kind}" if again else UNAVAILABLE

    def change(connection: Connection) -> tuple[Batch, bool]:
        if not beside_open:
            sql = f"FROM lake.batches WHERE status = 'published' AND {same_kind} ORDER BY created_at LIMIT 1"
            opened = records_of(connection, Batch, sql)
            if opened:
                return opened[0], False
        n_overtaken = connection.execute(
            bound(
                f"SELECT count(*) FROM ({unavailable}) u SEMI JOIN (SELECT unnest($ids) AS item_id) USING (item_id)",
                {"ids": list(draft.item_ids)},
            ),
        ).fetchone()
        if n_overtaken and n_overtaken[0]:
            raise OvertakenError(
                f"Another process took {n_overtaken[0]:,} of {len(draft.item_ids):,} items during the draw.",
                hint="Run the command again.",
            )
        batch_id = next_batch_id(connection, draft.purpose)
        insert_batch(connection, batch_id, draft, BatchStatus.PUBLISHED)
        return records_of(connection, Batch, "FROM lake.batches WHERE batch_id = ?", [batch_id])[0], True

    return store.write(change, f"publish a {draft.purpose.value} batch of {len(draft.item_ids)}")


def next_batch_id(connection: Connection, purpose: Purpose | Split) -> str:
    """The id of the next batch; called within a transaction."""
    number = connection.execute(
        r"SELECT 1 + coalesce(max(TRY_CAST(regexp_extract(batch_id, '^b(\d+)', 1) AS BIGINT)), 0) FROM lake.batches"
    ).fetchone()
    return f"b{number[0] if number else 1:04d}-{purpose.value}"


def insert_batch(
    connection: Connection, batch_id: str, draft: Draft, status: BatchStatus, n: int | None = None
) -> None:
    """Write a batch, its proposals and assignments; called within a transaction.

    Args:
        n: Number of items, if the caller writes them.
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
    assigned = [
        {**asdict(assignment), "position": k, "gold": int(assignment.gold)}
        for k, assignment in enumerate(draft.assignments)
    ]
    for table, rows in (("batch_items", proposed), ("assignments", assigned)):
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
"""Table -> its columns in order, with their types."""

_OPEN = "WHERE status = 'published'"


def open_batches(store: Store) -> list[Progress]:
    """Open batches with their progress, oldest first."""
    return _progress(store, _OPEN)


def published_batches(store: Store, *, again: bool | None = None) -> list[Batch]:
    """Open batches, oldest first.

    Args:
        again: True for repeated queries about answered items only, False for new items only.
    """
    batches = store.records(Batch, f"FROM lake.batches {_OPEN} ORDER BY created_at, batch_id")
    return [batch for batch in batches if again in (None, batch.purpose.asks_again)]


def batches_with_guideline(store: Store) -> list[Batch]:
    """All batches that annotators were shown, open or not, oldest first."""
    batches = store.records(Batch, "FROM lake.batches ORDER BY created_at, batch_id")
    return [batch for batch in batches if not batch.batch_id.startswith((IMPORTED, ORIGINAL))]


def count_batches(store: Store) -> int:
    """Number of all batches, open or not."""
    return int(store.rows("SELECT count(*) FROM lake.batches")[0][0])


@dataclass(frozen=True)
class BatchHashes:
    """A batch in the lake: whether it is open, and the hashes of all present and earlier texts by item."""

    is_open: bool
    hashes: dict[str, set[str]]


def batch_hashes(store: Store) -> dict[str, BatchHashes]:
    """Every batch that has a folder, by its id."""
    batches = {
        batch_id: BatchHashes(status == "published", {})
        for batch_id, status in store.rows("SELECT batch_id, status FROM lake.batches")
    }
    for batch_id, item_id, text_hash in store.rows(
        """SELECT DISTINCT batch_id, item_id, text_hash FROM lake.batch_items JOIN (
            SELECT item_id, text_hash FROM lake.items UNION SELECT item_id, text_hash FROM lake.edits
        ) USING (item_id)"""
    ):
        batches[batch_id].hashes.setdefault(item_id, set()).add(text_hash)
    return batches


def find_batch(store: Store, batch_id: str) -> Progress:
    """Load one batch with its progress.

    Raises:
        BatchError: There is no batch with this id.
    """
    matches = _progress(store, "WHERE batch_id = ?", [batch_id])
    if not matches:
        open_ids = [batch.batch_id for batch in published_batches(store)]
        raise BatchError(
            f"There is no batch {batch_id!r}.",
            hint=f"Use an open batch: {', '.join(open_ids)}" if open_ids else "Publish a batch: pal next",
        )
    return matches[0]


def items_of(store: Store, batch_id: str) -> list[BatchItem]:
    """The items of a batch in the order to show; gold items last."""
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
    """Which annotator gets which item, in the order to show; empty if anybody may answer."""
    return store.records(Assignment, "FROM lake.assignments WHERE batch_id = ? ORDER BY position", [batch_id])


def batches_of_items(store: Store, item_ids: Sequence[str], text_hashes: Sequence[str]) -> dict[str, str]:
    """The newest batch of each of these items, by item_id and by text_hash; open batches have precedence.

    Items in adjudication or review batches are left out: an answer could belong to either batch.
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


def batch_results(store: Store, random: Sequence[str], positive: str) -> list[BatchResult]:
    """The results of each batch with answers, oldest first.

    Args:
        random: Names of the strategies that draw at random.
        positive: The positive label.
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
    """The newest answer of each answered item of the batch: item_id -> answer.

    Args:
        annotator: Only answers of this annotator; None for all.
    """
    rows = store.rows(
        """SELECT item_id, arg_max(answer, (ingestion, annotated_at)) FROM lake.annotations
        WHERE batch_id = $batch AND annotator = coalesce($annotator, annotator) GROUP BY item_id""",
        {"batch": batch_id, "annotator": annotator},
    )
    return dict(rows)


def given_answers(store: Store, batch_id: str) -> dict[tuple[str, str], tuple[str, str]]:
    """The newest answer of each annotator in a batch, the oldest first: (item_id, annotator) -> answer and note."""
    rows = store.rows(
        """SELECT item_id, annotator, answer, note FROM lake.annotations WHERE batch_id = ?
        QUALIFY row_number() OVER (PARTITION BY item_id, annotator ORDER BY ingestion DESC, annotated_at DESC) = 1
        ORDER BY ingestion, annotated_at""",
        [batch_id],
    )
    return {(item_id, annotator): (answer, note) for item_id, annotator, answer, note in rows}


def answerers_in(store: Store, batch_id: str) -> dict[str, set[str]]:
    """The annotators of each answered item of the batch: item_id -> names."""
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
    """Return a batch's unanswered items to the pool; returns how many. Closing it again changes nothing."""
    progress = find_batch(store, batch_id)
    closed = store.write(
        lambda connection: connection.execute(
            bound("UPDATE lake.batches SET status = 'closed' WHERE batch_id = ? AND status = 'published'", [batch_id])
        ).fetchone(),
        f"close {batch_id}",
    )
    return progress.batch.n - progress.n_answered if closed and closed[0] else 0


def _progress(store: Store, condition: str, parameters: list[Any] | None = None) -> list[Progress]:
    return store.records(
        Progress,
        f"""WITH chosen AS MATERIALIZED (FROM lake.batches {condition}), answers AS ({answers_to_batches("chosen")})
        SELECT *, (SELECT count(*) FROM answers a WHERE a.batch_id = b.batch_id) AS n_answered,
            (SELECT coalesce(sum(least(a.n, coalesce(b.overlap, 1))), 0)::BIGINT FROM answers a
            WHERE a.batch_id = b.batch_id) AS n_answers
        FROM chosen b ORDER BY created_at, batch_id""",
        parameters,
    )
