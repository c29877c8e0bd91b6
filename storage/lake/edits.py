"""Corrections of texts: an item keeps its id, its earlier texts and the answers to them.

Answers to an earlier text are kept, but do not count for the label (`storage.lake.schema.standing_answers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.errors import BatchError, SourceError
from storage.lake.annotations import next_ingestion
from storage.lake.connection import bound
from storage.lake.history import WAITING
from storage.lake.schema import ASKED, OUT, answers_to_batches, standing_answers
from storage.lake.store import Connection, Store
from storage.readers.spellings import folded, text_hash


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
