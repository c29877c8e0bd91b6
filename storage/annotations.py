"""Annotations: appended exactly once, never changed; the labels that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from storage.batches import Draft, insert_batch
from storage.records import ORIGINAL, Answer, BatchStatus, Proposal, Split
from storage.schema import ANSWERS_TO_BATCHES, current_labels
from storage.store import Connection, Store, in_utc


@dataclass(frozen=True)
class Ingested:
    """What an ingest did: new annotations, answers that were known already, and whether the batch is complete."""

    n_new: int
    n_known: int
    complete: bool


def ingest(store: Store, batch_id: str, answers: Sequence[Answer], source_file: str) -> Ingested:
    """Append the answers that are new; the same file again appends none.

    An answer with a time is new where it is not there with that time. One without a time (a spreadsheet row) is new
    where it differs from the last one of the same file, or, from a file not seen before, where this annotator never
    gave it for this item: so neither a copy of an old file nor a second read takes a correction back.

    Args:
        source_file: Where the answers stand, the same for every read of one file.
    """

    def change(connection: Connection) -> Ingested:
        now = datetime.now(UTC).replace(tzinfo=None)
        new = _new_answers(_history(connection.execute(_HISTORY, [batch_id]).fetchall()), answers, source_file)
        _append(connection, [_row(answer, batch_id, now, source_file) for answer in new])
        # The guard: two ingests of one batch at the same time touch the same row, and one of them runs again.
        done = connection.execute(
            f"""UPDATE lake.batches SET status = CASE WHEN status = 'published' AND n <=
                (SELECT count(*) FROM ({ANSWERS_TO_BATCHES}) a
                    WHERE a.batch_id = $batch AND a.n >= coalesce(overlap, 1))
                THEN 'ingested' ELSE status END WHERE batch_id = $batch""",
            {"batch": batch_id},
        )
        done.fetchone()
        status = connection.execute("SELECT status FROM lake.batches WHERE batch_id = ?", [batch_id]).fetchone()
        complete = status is not None and status[0] == BatchStatus.INGESTED.value
        return Ingested(len(new), len(answers) - len(new), complete)

    return store.write(change, f"ingest {source_file} into {batch_id}")


def not_ingested(store: Store, batch_id: str, answers: Sequence[Answer], source_file: str) -> list[Answer]:
    """The answers that `ingest` would append; changes nothing."""
    return _new_answers(_history(store.rows(_HISTORY, [batch_id])), answers, source_file)


@dataclass(frozen=True)
class LabelledItem:
    """An item that came with its label: what the original's files hold."""

    item_id: str
    label: str
    strategy: str
    score: float | None


def import_labelled(
    store: Store, name: str, split: Split, labelled: Sequence[LabelledItem], label_set: str, source_file: str
) -> int:
    """Take labels that were given elsewhere, as an ingested batch named `name`; returns how many are new.

    Items that have any annotation keep what they have: importing twice changes nothing.
    """

    def change(connection: Connection) -> int:
        known = {row[0] for row in connection.execute("SELECT DISTINCT item_id FROM lake.annotations").fetchall()}
        new = [item for item in labelled if item.item_id not in known]
        if not new:
            return 0
        proposals = [Proposal(item.item_id, item.strategy, item.score, k + 1) for k, item in enumerate(new)]
        taken = connection.execute(
            "SELECT count(*) FROM lake.batches WHERE batch_id = $name OR starts_with(batch_id, $name || '-')",
            {"name": name},
        ).fetchone()
        batch_id = f"{name}-{taken[0] + 1}" if taken and taken[0] else name
        draft = Draft(split, [item.item_id for item in new], proposals, 0, 0, label_set)
        insert_batch(connection, batch_id, draft, BatchStatus.INGESTED)
        now = datetime.now(UTC).replace(tzinfo=None)
        answers = [Answer(item.item_id, item.label, ORIGINAL) for item in new]
        _append(connection, [_row(answer, batch_id, now, source_file) for answer in answers])
        return len(new)

    return store.write(change, f"import {len(labelled)} labels for {split.value}")


def labelled_texts(store: Store, split: Split, version: int) -> pa.Table:
    """The labelled items of a split at a lake version: (item_id, text, label), by item_id."""
    return store.read(
        f"""SELECT item_id, text, label FROM ({current_labels(version)})
        JOIN lake.items i AT (VERSION => {int(version)}) USING (item_id)
        WHERE split = ? AND label IS NOT NULL ORDER BY item_id""",
        [split.value],
    )


def label_counts(store: Store) -> dict[Split, dict[str, int]]:
    """How many items of each split have each label."""
    counts: dict[Split, dict[str, int]] = {split: {} for split in Split}
    rows = store.rows(f"""SELECT split, label, count(*) FROM ({current_labels()})
        WHERE label IS NOT NULL GROUP BY ALL ORDER BY ALL""")
    for split, label, n in rows:
        counts[Split(split)][label] = n
    return counts


def unlabelled_answers(store: Store) -> int:
    """How many items were answered and still have no label: skipped, unsure, or disputed."""
    return int(store.rows(f"SELECT count(*) FROM ({current_labels()}) WHERE label IS NULL")[0][0])


def read_files(store: Store) -> dict[str, str]:
    """Files of batches that were read to the end: source_file -> hash of what was read last."""
    rows = store.rows("SELECT source_file, arg_max(sha256, read_at) FROM lake.read_files GROUP BY source_file")
    return dict(rows)


def remember_read(store: Store, source_file: str, sha256: str) -> None:
    """Note that a file was read to the end, so that it is not read again until it changes."""
    store.write(
        lambda connection: connection.execute(
            "INSERT INTO lake.read_files VALUES (?, ?, now()::TIMESTAMP)", [source_file, sha256]
        ),
        f"read {source_file}",
    )


_History = dict[tuple[str, str], list[tuple[str, str, datetime, str]]]


_HISTORY = """SELECT item_id, annotator, answer, note, annotated_at, source_file FROM lake.annotations
    WHERE batch_id = ? ORDER BY ingested_at, annotated_at"""


def _history(rows: Sequence[tuple[Any, ...]]) -> _History:
    """(item, annotator) -> (answer, note, annotated_at, source_file) of every annotation, the oldest first."""
    history: _History = {}
    for item_id, annotator, *rest in rows:
        history.setdefault((item_id, annotator), []).append((rest[0], rest[1], rest[2], rest[3]))
    return history


def _new_answers(history: _History, answers: Sequence[Answer], source_file: str) -> list[Answer]:
    """The answers that `ingest` has to append, in order; `history` grows by them."""
    new = []
    for answer in answers:
        before = history.setdefault((answer.item_id, answer.annotator), [])
        given = (answer.answer, answer.note)
        if answer.annotated_at is not None:
            known = any(row[:3] == (*given, in_utc(answer.annotated_at)) for row in before)
        else:
            same_file = [row[:2] for row in before if row[3] == source_file]
            known = same_file[-1] == given if same_file else any(row[:2] == given for row in before)
        if not known:
            at = in_utc(answer.annotated_at) if answer.annotated_at else datetime.now(UTC).replace(tzinfo=None)
            before.append((*given, at, source_file))
            new.append(answer)
    return new


def _row(answer: Answer, batch_id: str, now: datetime, source_file: str) -> dict[str, Any]:
    return {
        "item_id": answer.item_id,
        "annotator": answer.annotator,
        "answer": answer.answer,
        "note": answer.note,
        "batch_id": batch_id,
        "seconds": answer.seconds,
        "annotated_at": in_utc(answer.annotated_at) if answer.annotated_at else now,
        "ingested_at": now,
        "source_file": source_file,
    }


_ANNOTATIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("item_id", "annotator", "answer", "note", "batch_id")),
        ("seconds", pa.float64()),
        ("annotated_at", pa.timestamp("us")),
        ("ingested_at", pa.timestamp("us")),
        ("source_file", pa.string()),
    ]
)


def _append(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.register("new_annotations", pa.Table.from_pylist(rows, _ANNOTATIONS))
        connection.execute("INSERT INTO lake.annotations FROM new_annotations")
        connection.unregister("new_annotations")
