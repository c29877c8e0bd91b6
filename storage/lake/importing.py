"""Imports files of texts into the lake: streamed, without duplicates, with a list of rejected rows and reasons."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from storage.errors import SourceError
from storage.files.spreadsheets import neutralised
from storage.lake.annotations import LabelledItem, free_batch_id, import_labelled, next_ingestion
from storage.lake.batches import Draft, insert_batch
from storage.lake.connection import bound, listed
from storage.lake.items import Imported, add_items, item_ids_of, stage
from storage.lake.schema import current_labels, standing_answers
from storage.lake.store import Connection, Store
from storage.readers.original_directory import open_original_pool, read_original
from storage.readers.rows import EMPTY_TEXT
from storage.readers.source import Reject, Source, shortened
from storage.records import IMPORTED, BatchStatus, Split


@dataclass(frozen=True)
class FileLabels:
    """How the labels of a file are interpreted.

    Attributes:
        split: The split of the labeled items.
        answer: Maps a label of the file to an answer, or None for no answer; raises SourceError for unknown labels.
        label_set: Digest of the label set.
    """

    split: Split
    answer: Callable[[str], str | None]
    label_set: str


@dataclass(frozen=True)
class ImportedLabels:
    """The result of importing labels.

    Attributes:
        n_new: Number of new labels.
        n_answered: Number of items that had an answer before.
        conflicts: Rows whose text has another label, as (row, answer, that label, its row or None for the lake).
    """

    n_new: int
    n_answered: int
    conflicts: list[tuple[int, str, str, int | None]]


def answers_in(source: Source, staged: Path, labels: FileLabels) -> dict[str, str | None]:
    """Map each label in a staged file to its answer, before anything is written.

    Raises:
        SourceError: A label is not in pal.toml; the error names file, row and label.
    """
    import duckdb

    sql = "SELECT label, min(row) FROM read_parquet(?) WHERE label <> '' GROUP BY label ORDER BY 2"
    with duckdb.connect() as connection:
        rows = connection.execute(bound(sql, [str(staged)])).fetchall()
    answers = {}
    for label, row in rows:
        try:
            answers[label] = labels.answer(label)
        except SourceError as error:
            what = f"{source.path}, row {row}: {shortened(label)!r} is not a label of pal.toml."
            raise SourceError(what, hint=error.hint) from error
    return answers


_GIVEN = """
    CREATE OR REPLACE TEMP TABLE given AS
    SELECT i.item_id, row, answer, first_value(answer) OVER texts AS label, first_value(row) OVER texts AS first
    FROM read_parquet($staged) s JOIN ({answers}) USING (label)
    JOIN (SELECT item_id, text_hash FROM lake.items WHERE text <> '') i ON i.text_hash = left(sha256(s.folded), 32)
    WHERE answer IS NOT NULL WINDOW texts AS (PARTITION BY i.item_id ORDER BY row)"""

_NEW = """
    CREATE OR REPLACE TEMP TABLE new_labels AS SELECT item_id, label, row_number() OVER (ORDER BY row) AS k FROM given
    ANTI JOIN (SELECT item_id FROM ({standing}) WHERE answer IS NOT NULL) USING (item_id) WHERE row = first"""


def import_labels(
    store: Store, staged: Path, answers: Mapping[str, str | None], labels: FileLabels, source: str
) -> ImportedLabels:
    """Import the labels of a staged file as an ingested batch, for texts in the lake; a text's first label counts.

    Items that have an answer that counts are skipped, so importing twice changes nothing. If all answers of an item
    lost their label or are to an earlier text, the imported label counts like a new answer.
    """

    def change(connection: Connection) -> ImportedLabels:
        rows: list[dict[str, Any]] = [{"label": label, "answer": answer} for label, answer in answers.items()]
        listed_answers = listed(rows, {"label": "VARCHAR", "answer": "VARCHAR"})
        connection.execute(bound(_GIVEN.format(answers=listed_answers), {"staged": str(staged)}))
        connection.execute(_NEW.format(standing=standing_answers()))
        counted = connection.execute(
            "SELECT (SELECT count(*) FROM new_labels), (SELECT count(DISTINCT item_id) FROM given)"
        ).fetchone()
        n_new, n_items = counted or (0, 0)
        if n_new:
            batch_id = free_batch_id(connection, f"{IMPORTED}-{labels.split.value}")
            draft = Draft(labels.split, (), (), 0, 0, labels.label_set)
            insert_batch(connection, batch_id, draft, BatchStatus.INGESTED, n_new)
            values = {"batch": batch_id, "source": source, "n": next_ingestion(connection)}
            connection.execute(
                bound(
                    f"""INSERT INTO lake.batch_items (batch_id, item_id, strategy, score, rank, position)
                    SELECT $batch, item_id, '{IMPORTED}', NULL, k, k - 1 FROM new_labels ORDER BY k""",
                    {"batch": batch_id},
                )
            )
            connection.execute(
                bound(
                    f"""INSERT INTO lake.annotations (item_id, annotator, answer, note, batch_id, annotated_at,
                    ingested_at, source_file, ingestion) SELECT item_id, '{IMPORTED}', label, '', $batch,
                    now()::TIMESTAMP, now()::TIMESTAMP, $source, $n FROM new_labels ORDER BY k""",
                    values,
                )
            )
        conflicts = connection.execute(
            f"""SELECT row, answer, label, first FROM given WHERE answer <> label
            UNION ALL SELECT row, answer, c.label, NULL FROM given g JOIN ({current_labels()}) c USING (item_id)
            WHERE row = first AND answer <> c.label ORDER BY row"""
        ).fetchall()
        connection.execute("DROP TABLE given; DROP TABLE new_labels")
        return ImportedLabels(n_new, n_items - n_new, conflicts)

    return store.write(change, f"import labels of {source}", bulk=True)


def label_rejects(path: Path, imported: ImportedLabels) -> list[Reject]:
    """The rows whose text has another label, in an earlier row or already in the lake, which counts."""
    return [
        Reject(
            str(path),
            row,
            shortened(answer),
            f"the same text has label {label!r} {'already' if first is None else f'in row {first}'}, which counts",
        )
        for row, answer, label, first in imported.conflicts
    ]


CHUNK_ROWS = 16_384
Advance = Callable[[int], None]
"""Called with the bytes read so far."""


@dataclass(frozen=True)
class ImportReport:
    """The result of an import.

    Attributes:
        n_rows: Rows of the file.
        n_new: New items.
        n_duplicates: Rows whose text is an item already.
        n_rejected: Rejected rows, which are listed in `rejects_file`.
        layout: How the file was read, in a few short lines.
        labels: Split -> number of imported labels.
        notes: Further remarks, in sentences.
        n_filled: Existing items that got new columns.
        lengths: Lengths of the texts; None if the file has no texts.
    """

    source: str
    description: str
    n_rows: int
    n_new: int
    n_duplicates: int
    n_rejected: int
    rejects_file: Path | None
    layout: list[str] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    n_filled: int = 0
    lengths: Lengths | None = None


@dataclass(frozen=True)
class Lengths:
    """Lengths of the texts of a file in characters, and placeholder texts such as `N/A`.

    Attributes:
        n_blank: Number of placeholder texts; `blank` has the first three, as (row, text).
        scripts: Scripts of the letters of the first texts with their fractions, the most frequent first: LATIN, CJK.
    """

    median: int
    longest: int
    n_blank: int = 0
    blank: tuple[tuple[int, str], ...] = ()
    scripts: tuple[tuple[str, float], ...] = ()


class Rejects:
    """A CSV file of rejected rows, which exists only if there are any."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.n = self.n_empty = 0
        path.unlink(missing_ok=True)

    @property
    def path(self) -> Path | None:
        """The file; None if nothing was rejected."""
        return self._path if self.n else None

    def add(self, rejects: Sequence[Reject]) -> None:
        """Append rows."""
        if not rejects:
            return
        with self._path.open("a", encoding="utf-8-sig" if not self.n else "utf-8", newline="") as file:
            writer = csv.writer(file)
            if not self.n:
                writer.writerow(("file", "row", "value", "reason"))
            writer.writerows(
                (neutralised(reject.file), reject.row, neutralised(reject.value), reject.reason) for reject in rejects
            )
        self.n += len(rejects)
        self.n_empty += sum(reject.reason == EMPTY_TEXT for reject in rejects)


def import_source(
    store: Store,
    source: Source,
    scratch: Path,
    rejects_file: Path,
    advance: Advance,
    labels: FileLabels | None = None,
) -> ImportReport:
    """Import the texts of one file, and optionally their labels.

    Raises:
        SourceError: A label is unknown; then nothing is imported.
    """
    rejects = Rejects(rejects_file)
    staged = scratch / f"{source.path.stem}.parquet"
    n_staged = stage(_tables(source, rejects, advance), staged)
    n_rows = n_staged + rejects.n
    answers = answers_in(source, staged, labels) if labels else {}
    imported = _add(store, staged, source, rejects)
    notes = [f"Rows without a text: {rejects.n_empty:,}."] if rejects.n_empty else []
    if imported.n_filled:
        notes.append(f"Items of earlier imports whose context was filled in: {imported.n_filled:,}.")
    n_labels = {}
    if labels:
        imported_labels = import_labels(store, staged, answers, labels, source.path.name)
        rejects.add(label_rejects(source.path, imported_labels))
        n_labels = {labels.split.value: imported_labels.n_new}
        notes += _label_notes(answers, imported_labels)
    return ImportReport(
        source.path.name,
        source.description,
        n_rows,
        imported.n_new,
        imported.n_duplicates,
        rejects.n,
        rejects.path,
        source.layout.lines(),
        n_labels,
        notes,
        imported.n_filled,
        _lengths(staged) if n_staged else None,
    )


def _label_notes(answers: Mapping[str, str | None], imported: ImportedLabels) -> list[str]:
    mapping = ", ".join(f"{label!r} as {name!r}" for label, name in answers.items() if name not in (label, None))
    notes = [f"Labels were mapped to those of pal.toml: {mapping}."] if mapping else []
    if imported.n_answered:
        notes.append(f"Labeled items that had an answer before, which is kept: {imported.n_answered:,}.")
    if imported.conflicts:
        notes.append(f"Rows whose text has another label, which counts (see the rejects): {len(imported.conflicts):,}.")
    return notes


_BLANK = "('nan', 'n/a', 'na', '#n/a', 'null', '(null)', 'none', 'nil', 'undefined', 'n.a.', 'no text', 'no abstract')"

_PUNCTUATION = r"[ -/:-@\[-`{-~]*"


def _lengths(staged: Path) -> Lengths:
    sql = f"""SELECT median(length(text))::BIGINT, max(length(text)), count(*) FILTER (is_blank),
        min((row, text), 3) FILTER (is_blank) FROM (
            SELECT row, text, folded IN {_BLANK} OR regexp_full_match(folded, '{_PUNCTUATION}') AS is_blank
            FROM read_parquet(?))"""
    with duckdb.connect() as connection:
        median, longest, n_blank, blank = connection.execute(bound(sql, [str(staged)])).fetchall()[0]
        sample = "SELECT string_agg(text[:500], '') FROM (FROM read_parquet(?) ORDER BY row LIMIT 200)"
        letters = connection.execute(sample, [str(staged)]).fetchall()[0][0]
    blanks = tuple((row, shortened(text)) for row, text in blank or ())
    return Lengths(median, longest, n_blank, blanks, scripts_of(letters))


def scripts_of(text: str) -> tuple[tuple[str, float], ...]:
    """Scripts of the letters of a text with their fractions, by the names that Unicode gives the letters.

    >>> scripts_of("Tokio 東京")
    (('LATIN', 0.7142857142857143), ('CJK', 0.2857142857142857))
    """
    counts = Counter(unicodedata.name(letter, "other").split(" ")[0] for letter in text if letter.isalpha())
    return tuple((script, n / counts.total()) for script, n in counts.most_common())


def import_original(
    store: Store,
    directory: Path,
    labels: tuple[Mapping[str, str], str],
    scratch: Path,
    rejects_file: Path,
    advance: Advance,
) -> ImportReport:
    """Import a directory of the original scripts: the pool, and the labels of each split.

    A text in several places is one item: evaluation has precedence over validation, validation over training, and any
    label over the pool. Conflicting rows are listed among the rejects.

    Args:
        labels: The original's labels "1" and "0" -> label names, and the digest of the label set.
    """
    names, label_set = labels
    files = read_original(directory)
    rejects = Rejects(rejects_file)
    rejects.add(files.rejects)
    labelled = files.labelled
    texts = labelled.select(["row", "item_id", "text"]).append_column(
        "published_at", pa.nulls(labelled.num_rows, pa.timestamp("us"))
    )
    # Rows are numbered consecutively, since several files have the same row numbers.
    texts = texts.set_column(0, "row", pa.array(range(labelled.num_rows), pa.int64()))
    stage([texts], scratch / "labelled.parquet")
    imported = add_items(store, scratch / "labelled.parquet", f"{directory.name}/labelled")
    places = labelled.select(["file", "row"]).to_pylist()
    rejects.add(_conflicts(imported, lambda row: (places[row]["file"], places[row]["row"])))
    n_rows, n_new, n_duplicates = labelled.num_rows + len(files.rejects), imported.n_new, imported.n_duplicates
    # Labels before the pool, so that an interrupted import leaves no held-out item in the pool.
    splits, notes = _one_split_each(store, labelled, rejects)
    counts = {}
    for split, items in splits.items():
        items_with_labels = [LabelledItem(i.item_id, names[i.label], i.strategy, i.score) for i in items]
        name = f"original-{split.value}"
        counts[split.value] = import_labelled(store, name, split, items_with_labels, label_set, f"{directory.name}")
    if files.pool is not None:
        source = open_original_pool(files.pool)
        n_before = rejects.n
        n_pool = stage(_tables(source, rejects, advance), scratch / "pool.parquet")
        n_rows += n_pool + rejects.n - n_before
        pool = _add(store, scratch / "pool.parquet", source, rejects)
        n_new, n_duplicates = n_new + pool.n_new, n_duplicates + pool.n_duplicates
        notes.append(f"Pool: {n_pool:,} rows, {pool.n_new:,} new items, {pool.n_duplicates:,} duplicates.")
    return ImportReport(
        str(directory),
        "directory of the original scripts",
        n_rows,
        n_new,
        n_duplicates,
        rejects.n,
        rejects.path,
        labels=counts,
        notes=notes,
    )


def _tables(source: Source, rejects: Rejects, advance: Advance) -> Iterator[pa.Table]:
    for chunk in source.chunks(CHUNK_ROWS):
        rejects.add(chunk.rejects)
        advance(chunk.bytes_read)
        yield chunk.table


def _add(store: Store, staged: Path, source: Source, rejects: Rejects) -> Imported:
    imported = add_items(store, staged, source.path.name)
    rejects.add(_conflicts(imported, lambda row: (str(source.path), row)))
    return imported


def _conflicts(imported: Imported, location: Callable[[int], tuple[str, int]]) -> list[Reject]:
    """Rejects for rows whose id belongs to another text; `location` maps a staged row to its file and row."""
    return [
        Reject(
            *location(row["row"]),
            shortened(row["text"]),
            f"id {row['item_id']} already stands for another text: {shortened(row['owner'])}"
            if row["item_id"] is not None
            else "this text was erased (pal items erase) and is not imported again",
        )
        for row in imported.conflicts.to_pylist()
    ]


def _one_split_each(
    store: Store, labelled: pa.Table, rejects: Rejects
) -> tuple[dict[Split, list[LabelledItem]], list[str]]:
    """Each labelled text in the first split that has it, and what was done with the others, in sentences."""
    item_ids = item_ids_of(store, labelled["text"])
    places: dict[str, tuple[str, str, str]] = {}
    splits: dict[Split, list[LabelledItem]] = {
        split: [] for split in (Split.EVALUATION, Split.VALIDATION, Split.TRAINING)
    }
    conflicts: list[Reject] = []
    n_repeated = 0
    for row, item_id in zip(labelled.to_pylist(), item_ids, strict=True):
        if item_id is None:
            continue  # rejected: its id belongs to another text
        location = f"{row['file']}, row {row['row']}"
        if item_id not in places:
            places[item_id] = (row["split"], row["label"], location)
            strategy = row["strategy"] or "original"
            splits[Split(row["split"])].append(LabelledItem(item_id, row["label"], strategy, row["confidence"]))
            continue
        split, label, first = places[item_id]
        if split == row["split"] and label == row["label"]:
            n_repeated += 1
            continue
        reason = f"the same text has label {label} for {split} in {first}, which counts"
        conflicts.append(Reject(row["file"], row["row"], shortened(row["text"]), reason))
    rejects.add(conflicts)
    notes = [f"Labeled: {labelled.num_rows:,} rows, {len(places):,} items."]
    if n_repeated:
        notes.append(f"Labeled rows that repeat a text of the same split and label: {n_repeated:,}.")
    if conflicts:
        notes.append(f"Labeled rows with conflicting labels or splits (see the rejects): {len(conflicts):,}.")
    return splits, notes
