"""Annotations, which are appended exactly once and never changed, and the labels derived from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from storage.lake.batches import Draft, insert_batch
from storage.lake.connection import bound, listed
from storage.lake.schema import current_labels
from storage.lake.store import Connection, Store, in_utc
from storage.readers.spellings import folded, spelled_first
from storage.records import ORIGINAL, Answer, BatchStatus, Proposal, Split

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Contradiction:
    """Files of one ingest with different answers of one annotator to one item.

    Attributes:
        answers: (source_file, answer) of each file.
    """

    item_id: str
    annotator: str
    answers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ingested:
    """The result of ingesting a file's answers to a batch.

    Attributes:
        n_new: Answers that count from now on.
        n_known: Answers that were in the lake already.
        complete: Whether the batch is complete.
        n_corrected: New answers that replace an earlier answer of the same annotator.
        known_since: When the same bytes were first ingested (UTC); None if they were not.
        contradictions: Why nothing of the file was ingested; empty if it was.
    """

    n_new: int
    n_known: int
    complete: bool
    n_corrected: int = 0
    known_since: datetime | None = None
    contradictions: tuple[Contradiction, ...] = ()


@dataclass(frozen=True)
class HandIn:
    """How a file was handed in.

    Attributes:
        sha256: Hash of its bytes; empty if it is not recorded.
        stays: Whether it is filled in where it is and read again as it grows, so that only additions are new.
        saved_at: When it was last saved.
        is_journal: Whether it is the journal of a terminal session.
        again: Whether to count it as new answers even if the same bytes were ingested before.
        parts: SHA-256 of its files, if it is an archive.
    """

    sha256: str = ""
    stays: bool = True
    saved_at: datetime | None = None
    is_journal: bool = False
    again: bool = False
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileAnswers:
    """The answers to one batch in one file; the answers of an annotator to an item are ordered oldest first.

    Attributes:
        source_file: The file's name, the same for every read.
    """

    source_file: str
    batch_id: str
    answers: Sequence[Answer]
    hand_in: HandIn = HandIn()


def ingest(store: Store, batch_id: str, answers: Sequence[Answer], source_file: str) -> Ingested:
    """Append the answers of one file to one batch, like `ingest_files`."""
    return ingest_files(store, [FileAnswers(source_file, batch_id, answers)])[0]


def ingest_files(store: Store, files: Sequence[FileAnswers], read: Mapping[str, str] | None = None) -> list[Ingested]:
    """Append all new answers in one commit; ingesting the same files again appends nothing.

    Answers count in the order of ingestion, whatever their times; terminal journals come last. Bytes that were ingested
    before add nothing, and a file that stays adds only new answers. If two files contradict each other, no answer of
    either is appended; but an answer given in a terminal after the other file was saved is a correction.

    Args:
        read: Files that need not be read again until they change: source_file -> hash of the content. A file that
            contradicts another one is read again.

    Returns:
        The result for each of `files`, with its batch as of that file.
    """

    def change(connection: Connection) -> list[Ingested]:
        ingest = _Ingest(connection, files)
        order = sorted(range(len(files)), key=lambda k: files[k].hand_in.is_journal)
        results = dict(zip(order, map(ingest.take, [files[k] for k in order]), strict=True))
        ingest.save()
        _remember_read(connection, {k: v for k, v in (read or {}).items() if k not in ingest.contradictions})
        return [results[k] for k in range(len(files))]

    if not files and not read:
        return []
    return store.write(change, f"ingest {len({file.source_file for file in files} | {*(read or ())})} files")


def ingested_hashes(store: Store) -> frozenset[str]:
    """SHA-256 of every ingested file, including files of archives."""
    return frozenset(sha256 for (sha256,) in store.rows("SELECT DISTINCT sha256 FROM lake.ingested_files"))


def not_ingested(store: Store, file: FileAnswers) -> list[Answer]:
    """The answers that ingesting only this file would append; changes nothing."""
    rows = store.rows(f"{_HISTORY} WHERE batch_id = ? {_OLDEST_FIRST}", [file.batch_id])
    history = _history(rows).get(file.batch_id, {})
    by_key: dict[_Key, list[Answer]] = {}
    for answer in file.answers:
        by_key.setdefault((answer.item_id, answer.annotator), []).append(answer)
    return [
        answer
        for key, answers in by_key.items()
        for answer in _new_answers(history.get(key, []), answers, file.hand_in, file.source_file)
    ]


def annotator_spellings(store: Store) -> dict[str, str]:
    """The spelling of each annotator's name by its `folded` form: the first one used; earlier names map to today's."""
    return spelled_first(name for (name,) in store.rows(_ANNOTATORS)) | _renamed(store.rows(_RENAMED))


_RENAMED = "SELECT name, annotator FROM lake.renamed_annotators"


def _renamed(rows: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """The present name of each renamed annotator by the `folded` earlier name."""
    return {folded(name): annotator for name, annotator in rows}


@dataclass(frozen=True)
class LabelledItem:
    """An item imported with its label, as in the files of the original scripts."""

    item_id: str
    label: str
    strategy: str
    score: float | None


def import_labelled(
    store: Store, name: str, split: Split, labelled: Sequence[LabelledItem], label_set: str, source_file: str
) -> int:
    """Import labels given elsewhere as an ingested batch named `name`; returns how many are new.

    Items that have annotations are skipped, so importing twice changes nothing.
    """

    def change(connection: Connection) -> int:
        annotated = {row[0] for row in connection.execute("SELECT DISTINCT item_id FROM lake.annotations").fetchall()}
        new = [item for item in labelled if item.item_id not in annotated]
        if not new:
            return 0
        proposals = [Proposal(item.item_id, item.strategy, item.score, k + 1) for k, item in enumerate(new)]
        batch_id = free_batch_id(connection, name)
        draft = Draft(split, [item.item_id for item in new], proposals, 0, 0, label_set)
        insert_batch(connection, batch_id, draft, BatchStatus.INGESTED)
        now = utc_now()
        answers = [Answer(item.item_id, item.label, ORIGINAL) for item in new]
        ingestion = {"ingestion": next_ingestion(connection)}
        _append(connection, [_row(answer, batch_id, now, source_file) | ingestion for answer in answers])
        return len(new)

    return store.write(change, f"import {len(labelled)} labels for {split.value}")


def free_batch_id(connection: Connection, name: str) -> str:
    """An unused id for a batch of imported labels: `name`, or `name` with a number."""
    sql = "SELECT count(*) FROM lake.batches WHERE batch_id = $name OR starts_with(batch_id, $name || '-')"
    used = connection.execute(bound(sql, {"name": name})).fetchone()
    return f"{name}-{used[0] + 1}" if used and used[0] else name


def labelled_texts(store: Store, split: Split, version: int) -> pa.Table:
    """The labeled items of a split at a lake version, except erased ones: (item_id, text, label), by item_id."""
    return store.read(
        f"""SELECT item_id, text, label FROM ({current_labels(version)})
        JOIN lake.items i AT (VERSION => {int(version)}) USING (item_id)
        WHERE split = ? AND label IS NOT NULL AND text <> '' ORDER BY item_id""",
        [split.value],
    )


def label_counts(store: Store) -> dict[Split, dict[str, int]]:
    """How many items of each split have each label."""
    return answered_items(store)[0]


def answered_items(store: Store) -> tuple[dict[Split, dict[str, int]], list[str]]:
    """How many items of each split have each label, and which answered items have none.

    Answered items without a label were skipped, or are unsure or disputed.
    """
    counts: dict[Split, dict[str, int]] = {split: {} for split in Split}
    unlabelled: list[str] = []
    for split, label, n, items in store.rows(
        f"""SELECT split, label, count(*), list(item_id) FILTER (label IS NULL) FROM ({current_labels()})
        GROUP BY ALL ORDER BY split, label"""
    ):
        if label is None:
            unlabelled += items
        else:
            counts[Split(split)][label] = n
    return counts, unlabelled


def recent_seconds(store: Store) -> list[float]:
    """Durations of the newest 200 timed answers; breaks of more than five minutes are left out."""
    sql = """SELECT seconds FROM lake.annotations WHERE seconds BETWEEN 0.1 AND 300
        ORDER BY ingestion DESC, annotated_at DESC LIMIT 200"""
    return [row[0] for row in store.rows(sql)]


def read_files(store: Store) -> dict[str, str]:
    """Files of batches that were read completely: source_file -> hash of the content read last."""
    newest = "arg_max(sha256, (coalesce(n, 0), read_at))"
    return dict(store.rows(f"SELECT source_file, {newest} FROM lake.read_files GROUP BY source_file"))


@dataclass(frozen=True)
class _StoredAnswer:
    """The fields of a stored annotation that new answers are compared with."""

    answer: str
    note: str
    annotated_at: datetime
    source_file: str

    @property
    def value(self) -> tuple[str, str]:
        return self.answer, self.note


_Key = tuple[str, str]
"""Item and annotator."""
_History = dict[_Key, list[_StoredAnswer]]
"""Every annotation of a batch, oldest first."""

_HISTORY = "SELECT batch_id, item_id, annotator, answer, note, annotated_at, source_file FROM lake.annotations"
_OLDEST_FIRST = "ORDER BY ingestion, annotated_at, ingested_at"
_ANNOTATORS = """SELECT annotator FROM (SELECT annotator, min(ingestion) AS k FROM lake.annotations GROUP BY annotator
    UNION ALL SELECT DISTINCT annotator, NULL FROM lake.assignments) ORDER BY k NULLS LAST, annotator"""


def _history(rows: Sequence[tuple[Any, ...]]) -> dict[str, _History]:
    """The history of each batch."""
    histories: dict[str, _History] = {}
    for batch_id, item_id, annotator, *fields in rows:
        histories.setdefault(batch_id, {}).setdefault((item_id, annotator), []).append(_StoredAnswer(*fields))
    return histories


@dataclass
class _BatchState:
    """A batch while answers are added to it.

    Attributes:
        own_ids: The items needed to complete it, without gold items.
    """

    status: str = ""
    n: int = 0
    overlap: int = 1
    own_ids: set[str] = field(default_factory=set)
    history: _History = field(default_factory=dict)

    def close_if_complete(self) -> None:
        """Mark an open batch as ingested if all items have enough answers."""
        if self.status != BatchStatus.PUBLISHED:
            return
        answerers = Counter(item_id for item_id, _ in self.history if item_id in self.own_ids)
        if self.n <= sum(n >= self.overlap for n in answerers.values()):
            self.status = BatchStatus.INGESTED.value


def _batch_states(connection: Connection, batch_ids: Collection[str]) -> dict[str, _BatchState]:
    """The state of each batch; an unknown batch has no status."""
    batches = {batch_id: _BatchState() for batch_id in batch_ids}
    if not batches:
        return batches
    condition = bound("WHERE batch_id IN (SELECT unnest($ids))", {"ids": sorted(batch_ids)})
    for batch_id, history in _history(connection.execute(f"{_HISTORY} {condition} {_OLDEST_FIRST}").fetchall()).items():
        batches[batch_id].history = history
    rows = connection.execute(
        f"SELECT batch_id, status, n, coalesce(overlap, 1) FROM lake.batches {condition}"
    ).fetchall()
    for batch_id, status, n, overlap in rows:
        batches[batch_id].status, batches[batch_id].n, batches[batch_id].overlap = status, n, overlap
    for batch_id, item_id in connection.execute(
        f"SELECT batch_id, item_id FROM lake.batch_items {condition}"
    ).fetchall():
        batches[batch_id].own_ids.add(item_id)
    return batches


class _Ingest:
    """One ingest within its transaction: the state of the lake and the rows to append.

    Attributes:
        contradictions: source_file -> why none of its answers is ingested.
    """

    def __init__(self, connection: Connection, files: Sequence[FileAnswers]) -> None:
        self._connection, self._now = connection, utc_now()
        names = [name for (name,) in connection.execute(_ANNOTATORS).fetchall()]
        spellings = spelled_first([*names, *(answer.annotator for file in files for answer in file.answers)])
        self._spellings = spellings | _renamed(connection.execute(_RENAMED).fetchall())
        self._batches = _batch_states(connection, {file.batch_id for file in files})
        self._first_ingested = _first_ingests(connection, {file.hand_in.sha256 for file in files} - {""})
        self._hashes = {sha256: file.source_file for file in files for sha256 in file.hand_in.parts}
        self._numbers: dict[str, int] = {}
        self._next = next_ingestion(connection)
        self._rows: list[dict[str, Any]] = []
        self._grown: set[str] = set()
        self.contradictions = self._find_contradictions(files)

    def take(self, file: FileAnswers) -> Ingested:
        """Append the new answers of a file to a batch."""
        batch, known_since = self._batches[file.batch_id], self._known_since(file)
        if contradictions := self.contradictions.get(file.source_file):
            return Ingested(0, 0, batch.status == BatchStatus.INGESTED, contradictions=tuple(contradictions))
        number, n_new, n_corrected = self._numbers.setdefault(file.source_file, self._next), 0, 0
        ingested_at = self._now + timedelta(microseconds=len(self._numbers) - 1)
        for (item_id, annotator), answers in self._by_key(file).items():
            stored = batch.history.setdefault((item_id, annotator), [])
            for k, answer in enumerate(
                _new_answers(stored, answers, file.hand_in, file.source_file, is_known=known_since is not None)
            ):
                differs = not stored or stored[-1].value != (answer.answer, answer.note)
                is_new = differs or (answer.annotated_at is not None and not _is_event(stored, answer))
                if not is_new and not file.hand_in.stays:
                    continue
                n_new, n_corrected = n_new + is_new, n_corrected + (differs and bool(stored))
                row = _row(replace(answer, annotator=annotator), file.batch_id, ingested_at, file.source_file)
                self._rows.append(row | {"ingestion": number + k})
                self._next = max(self._next, number + k + 1)
                stored.append(_StoredAnswer(answer.answer, answer.note, row["annotated_at"], file.source_file))
                self._grown.add(file.batch_id)
        if file.batch_id in self._grown:
            batch.close_if_complete()
        n_known = len(file.answers) - n_new
        return Ingested(n_new, n_known, batch.status == BatchStatus.INGESTED, n_corrected, known_since)

    def save(self) -> None:
        """Write the collected rows."""
        _append(self._connection, self._rows)
        if self._grown:
            # Two simultaneous ingests of one batch update the same row, so that one of them is retried.
            complete = [name for name in self._grown if self._batches[name].status == BatchStatus.INGESTED]
            self._connection.execute(
                bound(
                    """UPDATE lake.batches SET status = CASE WHEN batch_id IN (SELECT unnest($complete))
                    THEN 'ingested' ELSE status END WHERE batch_id IN (SELECT unnest($grown))""",
                    {"complete": sorted(complete), "grown": sorted(self._grown)},
                )
            ).fetchone()
        columns = {"sha256": "VARCHAR", "source_file": "VARCHAR", "ingestion": "BIGINT", "ingested_at": "TIMESTAMP"}
        rows = [
            dict(zip(columns, (sha256, source_file, self._numbers[source_file], self._now), strict=True))
            for sha256, source_file in self._hashes.items()
            if source_file in self._numbers
        ]
        if rows:
            self._connection.execute(f"INSERT INTO lake.ingested_files {listed(rows, columns)}")

    def _known_since(self, file: FileAnswers) -> datetime | None:
        """When the bytes of a file were first ingested; None for a file that stays."""
        if not file.hand_in.sha256:
            return None
        if (since := self._first_ingested.get(file.hand_in.sha256)) is None or file.hand_in.again:
            is_copy = self._hashes.setdefault(file.hand_in.sha256, file.source_file) != file.source_file
            since = self._now if is_copy else None
        return None if file.hand_in.stays else since

    def _by_key(self, file: FileAnswers) -> dict[_Key, list[Answer]]:
        by_key: dict[_Key, list[Answer]] = {}
        for answer in file.answers:
            by_key.setdefault((answer.item_id, self._spellings[folded(answer.annotator)]), []).append(answer)
        return by_key

    def _find_contradictions(self, files: Sequence[FileAnswers]) -> dict[str, list[Contradiction]]:
        new_by_key: dict[_Key, list[tuple[FileAnswers, Answer]]] = {}
        for file in files:
            is_known = not file.hand_in.stays and not file.hand_in.again and file.hand_in.sha256 in self._first_ingested
            history = self._batches[file.batch_id].history
            for key, answers in self._by_key(file).items():
                stored = history.get(key, [])
                if new := _new_answers(stored, answers, file.hand_in, file.source_file, is_known=is_known):
                    new_by_key.setdefault(key, []).append((file, new[-1]))
        contradictions: dict[str, list[Contradiction]] = {}
        for (item_id, annotator), new_answers in new_by_key.items():
            if _contradict(new_answers):
                sources = tuple((file.source_file, answer.answer) for file, answer in new_answers)
                for file, _ in new_answers:
                    contradictions.setdefault(file.source_file, []).append(Contradiction(item_id, annotator, sources))
        return contradictions


def _contradict(answers: Sequence[tuple[FileAnswers, Answer]]) -> bool:
    """Whether one annotator's answers to one item in several files contradict each other.

    An answer given in a terminal after the other file was saved is a correction of it, and so is one in the terminal
    for a later batch.
    """
    in_files = {answer.answer for file, answer in answers if not file.hand_in.is_journal}
    in_journals: dict[str, set[str]] = {}
    for file, answer in answers:
        if file.hand_in.is_journal:
            in_journals.setdefault(file.batch_id, set()).add(answer.answer)
    if len(in_files) > 1 or any(len(given) > 1 for given in in_journals.values()):
        return True
    saved = [file.hand_in.saved_at for file, _ in answers if not file.hand_in.is_journal]
    corrected = [a.annotated_at for file, a in answers if file.hand_in.is_journal and a.answer not in in_files]
    return not all(a and s and in_utc(a) > in_utc(s) for a in corrected for s in saved)


def _new_answers(
    stored: Sequence[_StoredAnswer],
    answers: Sequence[Answer],
    hand_in: HandIn,
    source_file: str,
    *,
    is_known: bool = False,
) -> list[Answer]:
    """One annotator's answers to one item that were not in their file before.

    Args:
        stored: The annotations in the lake, oldest first.
        is_known: Whether the file's bytes were ingested before.
    """
    if is_known:
        return [answer for answer in answers if (answer.answer, answer.note) not in {row.value for row in stored}]
    new = []
    for k, answer in enumerate(answers):
        value = (answer.answer, answer.note)
        if hand_in.stays and not hand_in.again and answer.annotated_at is None:
            is_stored = next((row.value for row in reversed(stored) if row.source_file == source_file), None) == value
        elif (hand_in.stays and not hand_in.again) or k + 1 < len(answers):
            is_stored = answer.annotated_at is not None and _is_event(stored, answer)
        else:
            is_stored = False  # the last answer in a file that is handed in counts as new
        if not is_stored:
            new.append(answer)
    return new


def _is_event(stored: Sequence[_StoredAnswer], answer: Answer) -> bool:
    """Whether the lake has the same answer with the same time."""
    event = (answer.answer, answer.note, answer.annotated_at and in_utc(answer.annotated_at))
    return any((*row.value, row.annotated_at) == event for row in stored)


def _first_ingests(connection: Connection, hashes: Collection[str]) -> dict[str, datetime]:
    """First ingestion of each hash: sha256 -> time in UTC."""
    if not hashes:
        return {}
    sql = """SELECT sha256, arg_min(ingested_at, ingestion) FROM lake.ingested_files
        WHERE sha256 IN (SELECT unnest($hashes)) GROUP BY sha256"""
    return dict(connection.execute(bound(sql, {"hashes": sorted(hashes)})).fetchall())


def _remember_read(connection: Connection, read: Mapping[str, str]) -> None:
    """Record the hashes of files that were read."""
    if read:
        rows = [{"source_file": source_file, "sha256": sha256} for source_file, sha256 in read.items()]
        new = listed(rows, dict.fromkeys(("source_file", "sha256"), "VARCHAR"))
        connection.execute(
            f"""INSERT INTO lake.read_files (source_file, sha256, read_at, n) SELECT source_file, sha256,
            now()::TIMESTAMP, (SELECT 1 + coalesce(max(n), 0) FROM lake.read_files) FROM ({new})"""
        )


def utc_now() -> datetime:
    """The present time in UTC without a zone, as stored in the lake; nothing is ordered by it."""
    return datetime.now(UTC).replace(tzinfo=None)


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
"""The columns of the table, in order, with their types."""


def next_ingestion(connection: Connection) -> int:
    """The number of the current ingestion: higher than all before, independent of clocks."""
    row = connection.execute("SELECT 1 + coalesce(max(ingestion), 0) FROM lake.annotations").fetchone()
    return int(row[0]) if row else 1


def _append(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(f"INSERT INTO lake.annotations ({', '.join(_COLUMNS)}) {listed(rows, _COLUMNS)}")
