"""Annotations: appended exactly once, never changed; the labels that follow from them."""

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
    """Files of one ingest in which one annotator answers one item in more than one way.

    Attributes:
        given: (source_file, answer) of each.
    """

    item_id: str
    annotator: str
    given: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ingested:
    """What became of a file's answers to a batch.

    Attributes:
        n_new: Answers that count from now on.
        n_known: Answers that the lake had.
        complete: Whether the batch is complete.
        n_corrected: Of the new ones those that replace an answer of the same annotator.
        known_since: When these very bytes were first ingested (UTC); None where they were not.
        contradictions: Why nothing of the file was ingested; empty where it was.
    """

    n_new: int
    n_known: int
    complete: bool
    n_corrected: int = 0
    known_since: datetime | None = None
    contradictions: tuple[Contradiction, ...] = ()


@dataclass(frozen=True)
class HandIn:
    """How a file came in.

    Attributes:
        sha256: Of its bytes; empty where they are not remembered.
        stays: It is filled in where it is, and read again as it grows: what it said before, it does not say again.
        saved_at: When it was last saved.
        is_journal: The terminal adds every answer to it as it is given.
        again: Take it as a later answer, even if these bytes were ingested before.
        parts: SHA-256 of the files in it, where it is an archive.
    """

    sha256: str = ""
    stays: bool = True
    saved_at: datetime | None = None
    is_journal: bool = False
    again: bool = False
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileAnswers:
    """The answers to one batch in one file, of each annotator to each item the oldest first.

    Attributes:
        source_file: Its name, the same for every read of one file.
    """

    source_file: str
    batch_id: str
    answers: Sequence[Answer]
    hand_in: HandIn = HandIn()


def ingest(store: Store, batch_id: str, answers: Sequence[Answer], source_file: str) -> Ingested:
    """Append the answers of one file that stays to one batch, as `ingest_files` does."""
    return ingest_files(store, [FileAnswers(source_file, batch_id, answers)])[0]


def ingest_files(store: Store, files: Sequence[FileAnswers], read: Mapping[str, str] | None = None) -> list[Ingested]:
    """Append the answers that are new, in one commit; the same files again append none, in no commit.

    Answers count in the order in which they are ingested, whatever their times say; those of terminals come last.
    Bytes that were ingested before add nothing, a file that stays only what it did not say before. Where two files
    contradict each other, none of their answers is appended; but an answer that was given in a terminal after the other
    file was saved is a correction.

    Args:
        read: Files that need not be read again until they change: source_file -> hash of what was read. One that
            contradicts another is read again.

    Returns:
        What became of each of `files`, with its batch as it stood after that file.
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
    """SHA-256 of every file that was ingested, those in archives included."""
    return frozenset(sha256 for (sha256,) in store.rows("SELECT DISTINCT sha256 FROM lake.ingested_files"))


def not_ingested(store: Store, file: FileAnswers) -> list[Answer]:
    """The answers that ingesting this file alone would append; changes nothing."""
    rows = store.rows(f"{_HISTORY} WHERE batch_id = ? {_OLDEST_FIRST}", [file.batch_id])
    history = _history(rows).get(file.batch_id, {})
    given: dict[_Key, list[Answer]] = {}
    for answer in file.answers:
        given.setdefault((answer.item_id, answer.annotator), []).append(answer)
    return [
        answer
        for key, answers in given.items()
        for answer in _unsaid(history.get(key, []), answers, file.hand_in, file.source_file)
    ]


def annotator_spellings(store: Store) -> dict[str, str]:
    """How each annotator's name is written, by its `folded` form: as it was first, earlier names as the name of now."""
    return spelled_first(name for (name,) in store.rows(_ANNOTATORS)) | _renamed(store.rows(_RENAMED))


_RENAMED = "SELECT name, annotator FROM lake.renamed_annotators"


def _renamed(rows: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """The name of now of every annotator by a `folded` earlier one."""
    return {folded(name): annotator for name, annotator in rows}


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
    """`name` for a batch of labels that were given elsewhere, with a number after it where there was one before."""
    sql = "SELECT count(*) FROM lake.batches WHERE batch_id = $name OR starts_with(batch_id, $name || '-')"
    taken = connection.execute(bound(sql, {"name": name})).fetchone()
    return f"{name}-{taken[0] + 1}" if taken and taken[0] else name


def labelled_texts(store: Store, split: Split, version: int) -> pa.Table:
    """The labelled items of a split at a lake version, but for erased ones: (item_id, text, label), by item_id."""
    return store.read(
        f"""SELECT item_id, text, label FROM ({current_labels(version)})
        JOIN lake.items i AT (VERSION => {int(version)}) USING (item_id)
        WHERE split = ? AND label IS NOT NULL AND text <> '' ORDER BY item_id""",
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


def recent_seconds(store: Store) -> list[float]:
    """How long the newest 200 answers took whose time is known; breaks of more than five minutes are left out."""
    sql = """SELECT seconds FROM lake.annotations WHERE seconds BETWEEN 0.1 AND 300
        ORDER BY ingestion DESC, annotated_at DESC LIMIT 200"""
    return [row[0] for row in store.rows(sql)]


def read_files(store: Store) -> dict[str, str]:
    """Files of batches that were read to the end: source_file -> hash of what was read last."""
    newest = "arg_max(sha256, (coalesce(n, 0), read_at))"
    return dict(store.rows(f"SELECT source_file, {newest} FROM lake.read_files GROUP BY source_file"))


@dataclass(frozen=True)
class _Said:
    """An annotation as far as a later one is compared with it; the time as the lake keeps it."""

    answer: str
    note: str
    annotated_at: datetime
    source_file: str

    @property
    def given(self) -> tuple[str, str]:
        return self.answer, self.note


_Key = tuple[str, str]
"""Item and annotator."""
_History = dict[_Key, list[_Said]]
"""Every annotation of a batch, the oldest first."""

_HISTORY = "SELECT batch_id, item_id, annotator, answer, note, annotated_at, source_file FROM lake.annotations"
_OLDEST_FIRST = "ORDER BY ingestion, annotated_at, ingested_at"
_ANNOTATORS = """SELECT annotator FROM (SELECT annotator, min(ingestion) AS k FROM lake.annotations GROUP BY annotator
    UNION ALL SELECT DISTINCT annotator, NULL FROM lake.assignments) ORDER BY k NULLS LAST, annotator"""


def _history(rows: Sequence[tuple[Any, ...]]) -> dict[str, _History]:
    """The history of each batch."""
    histories: dict[str, _History] = {}
    for batch_id, item_id, annotator, *said in rows:
        histories.setdefault(batch_id, {}).setdefault((item_id, annotator), []).append(_Said(*said))
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


class _Ingest:
    """One ingest inside of its transaction: what the lake has, and what is appended to it.

    Attributes:
        contradictions: source_file -> why nothing of it is ingested.
    """

    def __init__(self, connection: Connection, files: Sequence[FileAnswers]) -> None:
        self._connection, self._now = connection, utc_now()
        names = [name for (name,) in connection.execute(_ANNOTATORS).fetchall()]
        spellings = spelled_first([*names, *(each.annotator for file in files for each in file.answers)])
        self._spellings = spellings | _renamed(connection.execute(_RENAMED).fetchall())
        self._batches = _standing(connection, {file.batch_id for file in files})
        self._known = _first_ingests(connection, {file.hand_in.sha256 for file in files} - {""})
        self._hashes = {sha256: file.source_file for file in files for sha256 in file.hand_in.parts}
        self._numbers: dict[str, int] = {}
        self._next = next_ingestion(connection)
        self._rows: list[dict[str, Any]] = []
        self._grown: set[str] = set()
        self.contradictions = self._find_contradictions(files)

    def take(self, file: FileAnswers) -> Ingested:
        """Append what is new in a file's answers to a batch."""
        batch, known_since = self._batches[file.batch_id], self._known_since(file)
        if contradictions := self.contradictions.get(file.source_file):
            return Ingested(0, 0, batch.status == BatchStatus.INGESTED, contradictions=tuple(contradictions))
        number, n_new, n_corrected = self._numbers.setdefault(file.source_file, self._next), 0, 0
        at = self._now + timedelta(microseconds=len(self._numbers) - 1)
        for (item_id, annotator), answers in self._by_key(file).items():
            said = batch.history.setdefault((item_id, annotator), [])
            for k, answer in enumerate(
                _unsaid(said, answers, file.hand_in, file.source_file, is_known=known_since is not None)
            ):
                differs = not said or said[-1].given != (answer.answer, answer.note)
                is_new = differs or (answer.annotated_at is not None and not _is_event(said, answer))
                if not is_new and not file.hand_in.stays:
                    continue
                n_new, n_corrected = n_new + is_new, n_corrected + (differs and bool(said))
                row = _row(replace(answer, annotator=annotator), file.batch_id, at, file.source_file)
                self._rows.append(row | {"ingestion": number + k})
                self._next = max(self._next, number + k + 1)
                said.append(_Said(answer.answer, answer.note, row["annotated_at"], file.source_file))
                self._grown.add(file.batch_id)
        if file.batch_id in self._grown:
            batch.close_if_complete()
        n_known = len(file.answers) - n_new
        return Ingested(n_new, n_known, batch.status == BatchStatus.INGESTED, n_corrected, known_since)

    def save(self) -> None:
        """Write what was taken."""
        _append(self._connection, self._rows)
        if self._grown:
            # The guard: two ingests of one batch at the same time touch the same row, and one of them runs again.
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
        """When the bytes of a file that does not stay were first ingested."""
        if not file.hand_in.sha256:
            return None
        if (since := self._known.get(file.hand_in.sha256)) is None or file.hand_in.again:
            is_copy = self._hashes.setdefault(file.hand_in.sha256, file.source_file) != file.source_file
            since = self._now if is_copy else None
        return None if file.hand_in.stays else since

    def _by_key(self, file: FileAnswers) -> dict[_Key, list[Answer]]:
        found: dict[_Key, list[Answer]] = {}
        for answer in file.answers:
            found.setdefault((answer.item_id, self._spellings[folded(answer.annotator)]), []).append(answer)
        return found

    def _find_contradictions(self, files: Sequence[FileAnswers]) -> dict[str, list[Contradiction]]:
        given: dict[tuple[str, str, str], list[tuple[FileAnswers, Answer]]] = {}
        for file in files:
            is_known = not file.hand_in.stays and not file.hand_in.again and file.hand_in.sha256 in self._known
            history = self._batches[file.batch_id].history
            for key, answers in self._by_key(file).items():
                if unsaid := _unsaid(history.get(key, []), answers, file.hand_in, file.source_file, is_known=is_known):
                    given.setdefault((file.batch_id, *key), []).append((file, unsaid[-1]))
        found: dict[str, list[Contradiction]] = {}
        for (_, item_id, annotator), each in given.items():
            if _contradict(each):
                sources = tuple((file.source_file, answer.answer) for file, answer in each)
                for file, _ in each:
                    found.setdefault(file.source_file, []).append(Contradiction(item_id, annotator, sources))
        return found


def _contradict(given: Sequence[tuple[FileAnswers, Answer]]) -> bool:
    """Whether answers of one annotator to one item in several files contradict each other.

    An answer in a terminal that was given after the other file was saved is a correction of it.
    """
    terminal = {answer.answer for file, answer in given if file.hand_in.is_journal}
    others = {answer.answer for file, answer in given if not file.hand_in.is_journal}
    if len(terminal | others) == 1 or len(terminal) > 1 or len(others) > 1:
        return len(terminal | others) > 1
    saved = [file.hand_in.saved_at for file, _ in given if not file.hand_in.is_journal]
    answered = [answer.annotated_at for file, answer in given if file.hand_in.is_journal]
    return not all(a and s and in_utc(a) > in_utc(s) for a in answered for s in saved)


def _unsaid(
    said: Sequence[_Said], answers: Sequence[Answer], hand_in: HandIn, source_file: str, *, is_known: bool = False
) -> list[Answer]:
    """One annotator's answers to one item that their file did not give before.

    Args:
        said: What the lake has of them, the oldest first.
        is_known: The file's bytes were ingested before.
    """
    if is_known:
        return [each for each in answers if (each.answer, each.note) not in {row.given for row in said}]
    found = []
    for k, answer in enumerate(answers):
        given = (answer.answer, answer.note)
        if hand_in.stays and not hand_in.again and answer.annotated_at is None:
            is_said = next((row.given for row in reversed(said) if row.source_file == source_file), None) == given
        elif (hand_in.stays and not hand_in.again) or k + 1 < len(answers):
            is_said = answer.annotated_at is not None and _is_event(said, answer)
        else:
            is_said = False  # the last answer in a file that is handed in counts from now on
        if not is_said:
            found.append(answer)
    return found


def _is_event(said: Sequence[_Said], answer: Answer) -> bool:
    """Whether the lake has an answer with its time."""
    event = (answer.answer, answer.note, answer.annotated_at and in_utc(answer.annotated_at))
    return any((*row.given, row.annotated_at) == event for row in said)


def _first_ingests(connection: Connection, hashes: Collection[str]) -> dict[str, datetime]:
    """When files of these contents were first ingested: sha256 -> time in UTC."""
    if not hashes:
        return {}
    sql = """SELECT sha256, arg_min(ingested_at, ingestion) FROM lake.ingested_files
        WHERE sha256 IN (SELECT unnest($hashes)) GROUP BY sha256"""
    return dict(connection.execute(bound(sql, {"hashes": sorted(hashes)})).fetchall())


def _remember_read(connection: Connection, read: Mapping[str, str]) -> None:
    """Note what was read of files."""
    if read:
        rows = [{"source_file": source_file, "sha256": sha256} for source_file, sha256 in read.items()]
        new = listed(rows, dict.fromkeys(("source_file", "sha256"), "VARCHAR"))
        connection.execute(
            f"""INSERT INTO lake.read_files (source_file, sha256, read_at, n) SELECT source_file, sha256,
            now()::TIMESTAMP, (SELECT 1 + coalesce(max(n), 0) FROM lake.read_files) FROM ({new})"""
        )


def utc_now() -> datetime:
    """The time as the lake keeps times. It is shown with answers, and nothing is ordered by it."""
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
"""Of the table, in order."""


def next_ingestion(connection: Connection) -> int:
    """The number of the commit that ingests now: higher than all before, whatever the clocks said."""
    row = connection.execute("SELECT 1 + coalesce(max(ingestion), 0) FROM lake.annotations").fetchone()
    return int(row[0]) if row else 1


def _append(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(f"INSERT INTO lake.annotations ({', '.join(_COLUMNS)}) {listed(rows, _COLUMNS)}")
