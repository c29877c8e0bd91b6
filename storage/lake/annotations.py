"""Annotations: appended exactly once, never changed; the labels that follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from storage.lake.batches import Draft, insert_batch
from storage.lake.connection import bound, listed
from storage.lake.schema import current_labels
from storage.lake.store import Connection, Store, in_utc
from storage.records import ORIGINAL, Answer, BatchStatus, Proposal, Split

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Ingested:
    """What an ingest did: new annotations, answers that were known already, and whether the batch is complete."""

    n_new: int
    n_known: int
    complete: bool


@dataclass(frozen=True)
class FileAnswers:
    """The answers to one batch in one file.

    Attributes:
        source_file: Where they stand, the same for every read of one file.
    """

    source_file: str
    batch_id: str
    answers: Sequence[Answer]


def ingest(store: Store, batch_id: str, answers: Sequence[Answer], source_file: str) -> Ingested:
    """Append the answers of one file to one batch that are new, as `ingest_files` does."""
    return ingest_files(store, [FileAnswers(source_file, batch_id, answers)])[0]


def ingest_files(store: Store, files: Sequence[FileAnswers], read: Mapping[str, str] | None = None) -> list[Ingested]:
    """Append the answers that are new, file after file in one commit; the same files again append none, in no commit.

    An answer with a time is new where it is not there with that time. One without a time (a spreadsheet row) is new
    where it differs from the last one of the same file, or, from a file not seen before, where this annotator never
    gave it for this item: so neither a copy of an old file nor a second read takes a correction back.

    Args:
        read: Files that need not be read again until they change: source_file -> hash of what was read.

    Returns:
        What became of each of `files`, with its batch as it stood after that file.
    """

    def change(connection: Connection) -> list[Ingested]:
        now = datetime.now(UTC).replace(tzinfo=None)
        batches = _standing(connection, {file.batch_id for file in files})
        ingestion = _next_ingestion(connection)
        results, rows, grown = [], [], set()
        for k, file in enumerate(files):
            at = now + timedelta(microseconds=k)  # of answers without a time, those of a later file are the newer ones
            batch = batches[file.batch_id]
            new = _new_answers(batch.history, file.answers, file.source_file, at)
            rows += [_row(answer, file.batch_id, at, file.source_file) | {"ingestion": ingestion} for answer in new]
            if new:
                grown.add(file.batch_id)
                batch.close_if_complete()
            results.append(Ingested(len(new), len(file.answers) - len(new), batch.status == BatchStatus.INGESTED))
        _append(connection, rows)
        if grown:
            # The guard: two ingests of one batch at the same time touch the same row, and one of them runs again.
            complete = [batch_id for batch_id in grown if batches[batch_id].status == BatchStatus.INGESTED]
            connection.execute(
                bound(
                    """UPDATE lake.batches SET status = CASE WHEN batch_id IN (SELECT unnest($complete))
                    THEN 'ingested' ELSE status END WHERE batch_id IN (SELECT unnest($grown))""",
                    {"complete": sorted(complete), "grown": sorted(grown)},
                )
            ).fetchone()
        for source_file, sha256 in (read or {}).items():
            connection.execute(
                bound("INSERT INTO lake.read_files VALUES (?, ?, now()::TIMESTAMP)", [source_file, sha256])
            )
        return results

    if not files and not read:
        return []
    return store.write(change, f"ingest {len({file.source_file for file in files} | {*(read or ())})} files")


def not_ingested(store: Store, batch_id: str, answers: Sequence[Answer], source_file: str) -> list[Answer]:
    """The answers that `ingest` would append; changes nothing."""
    rows = store.rows(f"{_HISTORY} WHERE batch_id = ? {_OLDEST_FIRST}", [batch_id])
    return _new_answers(_history(rows).get(batch_id, {}), answers, source_file, datetime.now(UTC).replace(tzinfo=None))


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
            bound(
                "SELECT count(*) FROM lake.batches WHERE batch_id = $name OR starts_with(batch_id, $name || '-')",
                {"name": name},
            ),
        ).fetchone()
        batch_id = f"{name}-{taken[0] + 1}" if taken and taken[0] else name
        draft = Draft(split, [item.item_id for item in new], proposals, 0, 0, label_set)
        insert_batch(connection, batch_id, draft, BatchStatus.INGESTED)
        now = datetime.now(UTC).replace(tzinfo=None)
        answers = [Answer(item.item_id, item.label, ORIGINAL) for item in new]
        ingestion = {"ingestion": _next_ingestion(connection)}
        _append(connection, [_row(answer, batch_id, now, source_file) | ingestion for answer in answers])
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
    return answered_items(store)[0]


def answered_items(store: Store) -> tuple[dict[Split, dict[str, int]], int]:
    """How many items of each split have each label, and how many have none though they were answered.

    Those without were skipped, or are unsure or disputed.
    """
    counts: dict[Split, dict[str, int]] = {split: {} for split in Split}
    unlabelled = 0
    for split, label, n in store.rows(
        f"SELECT split, label, count(*) FROM ({current_labels()}) GROUP BY ALL ORDER BY ALL"
    ):
        if label is None:
            unlabelled += n
        else:
            counts[Split(split)][label] = n
    return counts, unlabelled


def read_files(store: Store) -> dict[str, str]:
    """Files of batches that were read to the end: source_file -> hash of what was read last."""
    rows = store.rows("SELECT source_file, arg_max(sha256, read_at) FROM lake.read_files GROUP BY source_file")
    return dict(rows)


def remember_read(store: Store, source_file: str, sha256: str) -> None:
    """Note that a file was read to the end, so that it is not read again until it changes."""
    store.write(
        lambda connection: connection.execute(
            bound("INSERT INTO lake.read_files VALUES (?, ?, now()::TIMESTAMP)", [source_file, sha256])
        ),
        f"read {source_file}",
    )


_History = dict[tuple[str, str], list[tuple[str, str, datetime, str]]]
"""(item, annotator) -> (answer, note, annotated_at, source_file) of every annotation, the oldest first."""

_HISTORY = "SELECT batch_id, item_id, annotator, answer, note, annotated_at, source_file FROM lake.annotations"
_OLDEST_FIRST = "ORDER BY ingested_at, annotated_at"


def _history(rows: Sequence[tuple[Any, ...]]) -> dict[str, _History]:
    """The history of each batch."""
    histories: dict[str, _History] = {}
    for batch_id, item_id, annotator, *rest in rows:
        of_batch = histories.setdefault(batch_id, {})
        of_batch.setdefault((item_id, annotator), []).append((rest[0], rest[1], rest[2], rest[3]))
    return histories


@dataclass
class _Standing:
    """A batch while answers are added to it.

    Attributes:
        own: The items that it is complete with, which gold ones are none of.
    """

    status: str = ""
    n: int = 0
    overlap: int = 1
    own: set[str] = field(default_factory=set)
    history: _History = field(default_factory=dict)

    def close_if_complete(self) -> None:
        """Set the status of an open batch in which all items have the answers that they need."""
        if self.status != BatchStatus.PUBLISHED:
            return
        answerers = Counter(item_id for item_id, _ in self.history if item_id in self.own)
        if self.n <= sum(n >= self.overlap for n in answerers.values()):
            self.status = BatchStatus.INGESTED.value


def _standing(connection: Connection, batch_ids: Collection[str]) -> dict[str, _Standing]:
    """How each of these batches stands; one that the lake does not know has no status."""
    batches = {batch_id: _Standing() for batch_id in batch_ids}
    if not batches:
        return batches
    asked = bound("WHERE batch_id IN (SELECT unnest($ids))", {"ids": sorted(batch_ids)})
    for batch_id, history in _history(connection.execute(f"{_HISTORY} {asked} {_OLDEST_FIRST}").fetchall()).items():
        batches[batch_id].history = history
    rows = connection.execute(f"SELECT batch_id, status, n, coalesce(overlap, 1) FROM lake.batches {asked}").fetchall()
    for batch_id, status, n, overlap in rows:
        batches[batch_id].status, batches[batch_id].n, batches[batch_id].overlap = status, n, overlap
    for batch_id, item_id in connection.execute(f"SELECT batch_id, item_id FROM lake.batch_items {asked}").fetchall():
        batches[batch_id].own.add(item_id)
    return batches


def _new_answers(history: _History, answers: Sequence[Answer], source_file: str, now: datetime) -> list[Answer]:
    """The answers that `ingest` has to append, in order; `history` grows by them.

    Args:
        now: The time of an answer without one.
    """
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
            at = in_utc(answer.annotated_at) if answer.annotated_at else now
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


_COLUMNS = {
    **dict.fromkeys(("item_id", "annotator", "answer", "note", "batch_id"), "VARCHAR"),
    "seconds": "DOUBLE",
    **dict.fromkeys(("annotated_at", "ingested_at"), "TIMESTAMP"),
    "source_file": "VARCHAR",
    "ingestion": "BIGINT",
}
"""Of the table, in order."""


def _next_ingestion(connection: Connection) -> int:
    """The number of the commit that ingests now: higher than all before, whatever the clocks said."""
    row = connection.execute("SELECT 1 + coalesce(max(ingestion), 0) FROM lake.annotations").fetchone()
    return int(row[0]) if row else 1


def _append(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(f"INSERT INTO lake.annotations ({', '.join(_COLUMNS)}) {listed(rows, _COLUMNS)}")
