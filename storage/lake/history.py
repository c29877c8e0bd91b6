"""Histories of answers: of single items, disputed items, and adjudicated items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from storage.errors import BatchError
from storage.lake.schema import OUT, adjudicated, answers_at, answers_to_batches, current_labels, standing_answers
from storage.lake.store import Store
from storage.records import NAMELESS, Batch, Purpose, Split

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class GivenAnswer:
    """One annotation in the lake; times in UTC.

    Attributes:
        guideline: Hash of the question, definition and descriptions that the batch showed; see its manifest.
        counts: Whether it counts for the label; after an adjudication, only the adjudicated answer does.
    """

    item_id: str
    annotator: str
    answer: str
    note: str
    batch_id: str
    purpose: str
    seconds: float | None
    annotated_at: datetime
    ingested_at: datetime
    source_file: str
    guideline: str
    counts: bool


@dataclass(frozen=True)
class ItemHistory:
    """An item with its current label and all answers, oldest first."""

    item_id: str
    text: str
    split: Split | None
    label: str | None
    answers: list[GivenAnswer]


def history_of(store: Store, item_id: str) -> ItemHistory:
    """Load all answers to an item.

    Raises:
        BatchError: There is no such item.
    """
    rows = store.rows("SELECT text FROM lake.items WHERE item_id = ?", [item_id])
    if not rows:
        near = store.rows("SELECT item_id FROM lake.items WHERE starts_with(item_id, ?) ORDER BY 1 LIMIT 3", [item_id])
        hint = f"Similar ids: {', '.join(row[0] for row in near)}" if near else "Item ids are in the batch files"
        raise BatchError(f"There is no item {item_id!r}.", hint=f"{hint}. Run the command again: pal history ITEM")
    answers = store.records(
        GivenAnswer,
        f"""SELECT a.*, b.purpose, b.label_set AS guideline, s.item_id IS NOT NULL AS counts
        FROM lake.annotations a JOIN lake.batches b USING (batch_id)
        LEFT JOIN ({standing_answers()}) s USING (item_id, annotator, batch_id, annotated_at, ingested_at,
            source_file, ingestion)
        WHERE a.item_id = ? ORDER BY a.ingestion, a.annotated_at, a.annotator""",
        [item_id],
    )
    if decisions := [answer for answer in answers if answer.purpose == Purpose.ADJUDICATION]:
        answers = [replace(answer, counts=answer is decisions[-1]) for answer in answers]
    label = store.rows(f"SELECT split, label FROM ({current_labels()}) WHERE item_id = ?", [item_id])
    split = Split(label[0][0]) if label else None
    return ItemHistory(item_id, rows[0][0], split, label[0][1] if label else None, answers)


def disputed_items(store: Store) -> list[str]:
    """Items to adjudicate, oldest answers first: items without a label that not everybody skipped.

    Items in open batches (which may still get answers) and items that an adjudicator left open are excluded.
    """
    rows = store.rows(
        f"""WITH unlabelled AS MATERIALIZED (FROM ({current_labels()}) WHERE label IS NULL)
        SELECT item_id FROM unlabelled WHERE {_DISPUTED} ORDER BY annotated_at, item_id"""
    )
    return [row[0] for row in rows]


def count_disputed(store: Store, unlabelled: Sequence[str]) -> int:
    """How many of the items that were answered and have no label are to be adjudicated."""
    sql = "WITH unlabelled AS MATERIALIZED (SELECT unnest($items) AS item_id) SELECT count(*) FROM unlabelled"
    return int(store.rows(f"{sql} WHERE {_DISPUTED}", {"items": list(unlabelled)})[0][0]) if unlabelled else 0


def answers_before(store: Store, batch: Batch) -> dict[str, list[tuple[str, str, str]]]:
    """The answers to each item of a batch when it was drawn: (annotator, answer, note), by annotator."""
    rows = store.rows(
        f"""SELECT item_id, annotator, answer, note FROM ({standing_answers(batch.lake_version)})
        SEMI JOIN (FROM lake.batch_items WHERE batch_id = ?) USING (item_id)
        WHERE answer IS NOT NULL ORDER BY item_id, annotator, answer""",
        [batch.batch_id],
    )
    answers: dict[str, list[tuple[str, str, str]]] = {}
    for item_id, annotator, answer, note in rows:
        answers.setdefault(item_id, []).append((annotator, answer, note))
    return answers


def settled_labels(store: Store) -> dict[str, str]:
    """Adjudicated labels: item_id -> label, by item_id."""
    return dict(store.rows(f"SELECT item_id, label FROM ({adjudicated()}) WHERE label IS NOT NULL ORDER BY item_id"))


def gold_items(store: Store) -> dict[str, dict[str, str]]:
    """Gold items that were mixed in for each annotator: annotator -> item_id -> label."""
    gold: dict[str, dict[str, str]] = {}
    rows = store.rows(
        f"""SELECT DISTINCT annotator, item_id, label FROM lake.assignments JOIN ({adjudicated()}) USING (item_id)
        WHERE gold = 1 AND label IS NOT NULL ORDER BY annotator, item_id"""
    )
    for annotator, item_id, label in rows:
        gold.setdefault(annotator, {})[item_id] = label
    return gold


def reviewed_items(store: Store) -> set[str]:
    """Items that were answered again in a review or an adjudication."""
    rows = store.rows(
        f"""SELECT item_id FROM lake.annotations JOIN lake.batches USING (batch_id) WHERE purpose = 'review'
        UNION SELECT item_id FROM ({adjudicated()})"""
    )
    return {row[0] for row in rows}


def annotators_of(store: Store, item_ids: Sequence[str]) -> dict[str, set[str]]:
    """The annotators who answered each of these items or have it assigned: item_id -> names."""
    rows = store.rows(
        """SELECT DISTINCT item_id, annotator FROM (SELECT item_id, annotator FROM lake.annotations
            UNION ALL SELECT item_id, annotator FROM lake.assignments)
        WHERE item_id IN (SELECT unnest($ids))""",
        {"ids": list(item_ids)},
    )
    annotators: dict[str, set[str]] = {}
    for item_id, annotator in rows:
        annotators.setdefault(item_id, set()).add(annotator)
    return annotators


def independent_answers(store: Store) -> pa.Table:
    """The newest independent answer of each annotator to each item, by item_id and annotator.

    Columns: item_id, annotator, answer (NULL if its label was removed), seconds, label (the item's current label or
    NULL). Answers of adjudicators, who see the other answers, and answers without a name are left out.
    """
    return store.read(
        f"""SELECT item_id, annotator, answer, seconds, label FROM (
            SELECT item_id, annotator, arg_max_null(answer, (ingestion, annotated_at)) AS answer,
                arg_max(seconds, (ingestion, annotated_at)) AS seconds
            FROM ({answers_at()}) JOIN lake.batches USING (batch_id)
            WHERE purpose <> 'adjudication' AND annotator NOT IN {NAMELESS}
            GROUP BY item_id, annotator
        ) JOIN ({current_labels()}) USING (item_id) ORDER BY item_id, annotator"""
    )


WAITING = f"""SELECT o.item_id FROM ({OUT}) o JOIN lake.batches b USING (batch_id)
    LEFT JOIN ({answers_to_batches(f"({OUT})")}) a ON a.batch_id = o.batch_id AND a.item_id = o.item_id
    WHERE coalesce(a.n, 0) < coalesce(b.overlap, 1)"""
"""Query for the items that need more answers in an open batch."""

_DISPUTED = f"""
    item_id IN (SELECT item_id FROM ({standing_answers(among="unlabelled")}) WHERE answer <> 'skip')
    AND item_id NOT IN (SELECT item_id FROM ({adjudicated()}))
    AND item_id NOT IN (SELECT item_id FROM ({WAITING}))"""
