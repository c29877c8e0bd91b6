"""Histories of items: their answers, disputes and adjudications, and corrections of their texts.

A corrected item keeps its id, its earlier texts and the answers to them. Answers to an earlier text are kept, but do
not count for the label (`storage.lake.schema.standing_answers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from storage.errors import BatchError, SourceError
from storage.lake.annotations import next_ingestion
from storage.lake.connection import bound
from storage.lake.items import spelled_ids
from storage.lake.schema import (
    ASKED,
    OUT,
    adjudicated,
    answers_at,
    answers_to_batches,
    current_labels,
    standing_answers,
)
from storage.lake.store import Connection, Store
from storage.readers.spellings import folded, text_hash
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
    (item_id,) = spelled_ids(store, [item_id])
    rows = store.rows("SELECT text FROM lake.items WHERE item_id = ?", [item_id])
    if not rows:
        near = store.rows("SELECT item_id FROM lake.items WHERE starts_with(item_id, ?) ORDER BY 1 LIMIT 3", [item_id])
        hint = f"Similar ids: {', '.join(row[0] for row in near)}" if near else "Item ids are in the batch files"
        raise BatchError(f"There is no item {item_id!r}.", hint=f"{hint}.")
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


@dataclass(frozen=True)
class Edited:
    """The result of a correction.

    Attributes:
        is_new: False if the item had this text already, so that nothing was changed.
        n_outdated: Answers to the earlier text, which no longer count.
        open_batches: Open batches in which the item still needs answers.
    """

    item_id: str
    is_new: bool = False
    n_outdated: int = 0
    open_batches: tuple[str, ...] = ()


@dataclass(frozen=True)
class EarlierText:
    """A text of an item before it was corrected; times in UTC."""

    item_id: str
    text: str
    text_hash: str
    edited_at: datetime


def erased_hashes(store: Store) -> frozenset[str]:
    """The hashes of the texts that were erased."""
    return frozenset(digest for (digest,) in store.rows("SELECT text_hash FROM lake.erased"))


def edit_item(store: Store, item_id: str, text: str) -> Edited:
    """Correct the text of an item in one transaction; its features are computed again when they are needed.

    Answers still count if the two texts are equal by `folded`.

    Raises:
        SourceError: The new text is empty, or has a NUL byte.
        BatchError: There is no such item, another item has this text, or it was answered in an open review batch.
    """
    if not folded(text):
        raise SourceError("The new text is empty.", hint=f"To delete an item for good: pal items erase {item_id}")
    if "\0" in text:
        raise SourceError("The new text has a NUL byte.", hint="Remove the NUL byte.")
    digest = text_hash(text)

    def change(connection: Connection) -> Edited:
        def rows(sql: str, values: Mapping[str, str]) -> list[tuple[Any, ...]]:
            return connection.execute(bound(sql, values)).fetchall()

        item = {"item": item_id}
        stored = rows("SELECT text, text_hash FROM lake.items WHERE item_id = $item", item)
        if not stored:
            raise BatchError(f"There is no item {item_id!r}.", hint="Item ids are in the batch files and exports.")
        if stored[0][0] == text:
            return Edited(item_id)
        for (duplicate,) in rows(
            "SELECT item_id FROM lake.items WHERE text_hash = $hash AND item_id <> $item", {**item, "hash": digest}
        ):
            raise BatchError(
                f"Item {duplicate} already has this text.",
                hint=f"Compare the items: pal show {duplicate}; pal show {item_id}",
            )
        if rows("FROM lake.erased WHERE text_hash = $hash", {"hash": digest}):
            raise BatchError("The new text was erased before (pal items erase).", hint="Use another text.")
        in_batches = rows(
            f"""SELECT DISTINCT o.batch_id, o.purpose, coalesce(a.n, 0) < coalesce(b.overlap, 1) FROM ({OUT}) o
                JOIN lake.batches b USING (batch_id) LEFT JOIN ({answers_to_batches(f"({OUT})")}) a
                ON a.batch_id = o.batch_id AND a.item_id = o.item_id WHERE o.item_id = $item ORDER BY 1""",
            item,
        )
        for batch_id, purpose, needs_answers in in_batches:
            if purpose == "review" and not needs_answers:
                raise BatchError(
                    f"Item {item_id} was answered in the open batch {batch_id}.", hint=f"Close it: pal close {batch_id}"
                )
        is_outdating = digest != stored[0][1]
        cut = {"cut": next_ingestion(connection) if is_outdating else None}
        connection.execute(
            bound(
                """INSERT INTO lake.edits SELECT item_id, text, text_hash, now()::TIMESTAMP, $cut,
                    (FROM lake.current_snapshot()) FROM lake.items WHERE item_id = $item""",
                item | cut,
            )
        )
        values = {**item, "text": text, "hash": digest}
        connection.execute(bound("UPDATE lake.items SET text = $text, text_hash = $hash WHERE item_id = $item", values))
        connection.execute(bound("DELETE FROM lake.features WHERE item_id = $item", item))
        (n,) = rows("SELECT count(*) FROM lake.annotations WHERE item_id = $item", item)[0]
        still_open = tuple(batch_id for batch_id, _, needs_answers in in_batches if needs_answers)
        return Edited(item_id, True, n if is_outdating else 0, still_open)

    return store.write(change, f"correct item {item_id}")


def earlier_texts(store: Store, batch_id: str) -> list[EarlierText]:
    """The earlier texts of a batch's items, oldest first."""
    return store.records(
        EarlierText,
        f"""SELECT item_id, text, text_hash, edited_at FROM lake.edits
        SEMI JOIN (SELECT item_id FROM ({ASKED}) WHERE batch_id = ?) USING (item_id) ORDER BY edited_at""",
        [batch_id],
    )


def answers_to_earlier_texts(store: Store, batch_id: str) -> set[tuple[str, str, str]]:
    """A batch's answers to earlier texts: (item_id, `folded` annotator, answer)."""
    rows = store.rows(
        """SELECT item_id, annotator, answer FROM lake.annotations a
        JOIN (SELECT item_id, max(ingestion) AS cut FROM lake.edits GROUP BY item_id) e USING (item_id)
        WHERE a.batch_id = ? AND coalesce(a.ingestion, 0) < e.cut""",
        [batch_id],
    )
    return {(item_id, folded(annotator), answer) for item_id, annotator, answer in rows}


def has_only_outdated_answers(store: Store, item_id: str) -> bool:
    """Whether all answers to an item are to earlier texts, and no open batch queries it."""
    sql = f"""SELECT 1 FROM lake.edits e WHERE item_id = $item AND e.ingestion IS NOT NULL
        AND item_id IN (SELECT item_id FROM lake.annotations WHERE item_id = $item)
        AND item_id NOT IN (SELECT item_id FROM ({standing_answers()}) WHERE item_id = $item)
        AND item_id NOT IN (FROM ({WAITING}))"""
    return bool(store.rows(f"{sql} LIMIT 1", {"item": item_id}))
