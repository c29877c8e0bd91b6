"""Files of texts into the lake: streamed, each text once, every row that is not taken listed with its reason."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from storage.files.formulas import neutralised
from storage.lake.annotations import LabelledItem, import_labelled
from storage.lake.connection import bound
from storage.lake.given_labels import FileLabels, LabelsTaken, answers_in, import_labels, label_rejects
from storage.lake.items import Imported, add_items, item_ids_of, stage
from storage.lake.store import Store
from storage.readers.original_directory import open_original_pool, read_original
from storage.readers.rows import EMPTY_TEXT
from storage.readers.source import Reject, Source, shortened
from storage.records import Split

CHUNK_ROWS = 16_384
Advance = Callable[[int], None]
"""Called with the bytes read so far."""


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        n_rows: Rows with a text, rejects not counted.
        n_new: Items that were not in the lake.
        n_duplicates: Rows whose text is an item already.
        n_rejected: Rows not taken; they are listed in `rejects_file`.
        layout: What was understood of the file, in a few short lines.
        labels: Split -> labels taken.
        notes: What else to know, in sentences.
        n_filled: Items that were in the lake and got columns that they did not have.
        lengths: Of the texts; None where the file has none.
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
    """How long the texts of a file are, in characters, and rows whose text says nothing, such as `N/A`.

    Attributes:
        n_blank: How many say nothing; `blank` has the first three, as (row, text).
        scripts: Scripts of the letters of the first texts with their fractions, the most frequent first: LATIN, CJK.
    """

    median: int
    longest: int
    n_blank: int = 0
    blank: tuple[tuple[int, str], ...] = ()
    scripts: tuple[tuple[str, float], ...] = ()


class Rejects:
    """The rows that were not taken: a CSV file that exists only if there is one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.n = self.n_empty = 0
        path.unlink(missing_ok=True)

    @property
    def path(self) -> Path | None:
        """The file; None where nothing was rejected."""
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
                (neutralised(each.file), each.row, neutralised(each.value), each.reason) for each in rejects
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
    """Take the texts of one file, and their labels where it was opened for them.

    Raises:
        SourceError: A label stands for no answer; then nothing is taken.
    """
    rejects = Rejects(rejects_file)
    staged = scratch / f"{source.path.stem}.parquet"
    n_rows = stage(_tables(source, rejects, advance), staged)
    answers = answers_in(source, staged, labels) if labels else {}
    done = _add(store, staged, source, rejects)
    notes = [f"Rows without a text: {rejects.n_empty:,}."] if rejects.n_empty else []
    if done.n_filled:
        notes.append(f"Items of earlier imports whose context was filled in: {done.n_filled:,}.")
    n_labels = {}
    if labels:
        taken = import_labels(store, staged, answers, labels, source.path.name)
        rejects.add(label_rejects(source.path, taken))
        n_labels = {labels.split.value: taken.n_new}
        notes += _label_notes(answers, taken)
    return ImportReport(
        source.path.name,
        source.description,
        n_rows,
        done.n_new,
        done.n_duplicates,
        rejects.n,
        rejects.path,
        source.layout.lines(),
        n_labels,
        notes,
        done.n_filled,
        _lengths(staged) if n_rows else None,
    )


def _label_notes(answers: Mapping[str, str | None], taken: LabelsTaken) -> list[str]:
    read = ", ".join(f"{label!r} as {name!r}" for label, name in answers.items() if name not in (label, None))
    notes = [f"Labels were read as those of pal.toml: {read}."] if read else []
    if taken.n_answered:
        notes.append(f"Labeled items that had an answer before, which is kept: {taken.n_answered:,}.")
    if taken.conflicts:
        notes.append(f"Rows with another label than an equal text above (see the rejects): {len(taken.conflicts):,}.")
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
    """Take a directory of the original scripts whole: pool, and the labels of each split.

    A text that is in two places is one item: evaluation goes before validation, validation before training, any
    label before the pool; each such row is listed among the rejects unless it only repeats what is known.

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
    # Rows are numbered through: the same row number stands in several files.
    texts = texts.set_column(0, "row", pa.array(range(labelled.num_rows), pa.int64()))
    stage([texts], scratch / "labelled.parquet")
    done = add_items(store, scratch / "labelled.parquet", f"{directory.name}/labelled")
    places = labelled.select(["file", "row"]).to_pylist()
    rejects.add(_conflicts(done, lambda row: (places[row]["file"], places[row]["row"])))
    n_rows, n_new, n_duplicates = labelled.num_rows, done.n_new, done.n_duplicates
    # Labels before the pool: an import that is cut short leaves no held out item in the pool for long.
    splits, notes = _one_place_each(store, labelled, rejects)
    counts = {}
    for split, items in splits.items():
        taken_labels = [LabelledItem(i.item_id, names[i.label], i.strategy, i.score) for i in items]
        name = f"original-{split.value}"
        counts[split.value] = import_labelled(store, name, split, taken_labels, label_set, f"{directory.name}")
    if files.pool is not None:
        source = open_original_pool(files.pool)
        n_pool = stage(_tables(source, rejects, advance), scratch / "pool.parquet")
        taken = _add(store, scratch / "pool.parquet", source, rejects)
        n_rows, n_new, n_duplicates = n_rows + n_pool, n_new + taken.n_new, n_duplicates + taken.n_duplicates
        notes.append(f"pool: {n_pool:,} rows, {taken.n_new:,} new items, {taken.n_duplicates:,} texts known already")
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
    done = add_items(store, staged, source.path.name)
    rejects.add(_conflicts(done, lambda row: (str(source.path), row)))
    return done


def _conflicts(done: Imported, place: Callable[[int], tuple[str, int]]) -> list[Reject]:
    """Rows whose id stands for another text; `place` says where a staged row stood: file and row."""
    return [
        Reject(
            *place(row["row"]),
            shortened(row["text"]),
            f"id {row['item_id']} already stands for another text: {shortened(row['owner'])}"
            if row["item_id"] is not None
            else "this text was erased (pal items erase) and is not imported again",
        )
        for row in done.conflicts.to_pylist()
    ]


def _one_place_each(
    store: Store, labelled: pa.Table, rejects: Rejects
) -> tuple[dict[Split, list[LabelledItem]], list[str]]:
    """Each labelled text in the first split that has it, and what was done with the others, in sentences."""
    item_ids = item_ids_of(store, labelled["text"])
    places: dict[str, tuple[str, str, str]] = {}
    splits: dict[Split, list[LabelledItem]] = {
        split: [] for split in (Split.EVALUATION, Split.VALIDATION, Split.TRAINING)
    }
    refused: list[Reject] = []
    n_repeated = 0
    for row, item_id in zip(labelled.to_pylist(), item_ids, strict=True):
        if item_id is None:
            continue  # its id stands for another text: it is among the rejects
        where = f"{row['file']}, row {row['row']}"
        if item_id not in places:
            places[item_id] = (row["split"], row["label"], where)
            strategy = row["strategy"] or "original"
            splits[Split(row["split"])].append(LabelledItem(item_id, row["label"], strategy, row["confidence"]))
            continue
        split, label, first = places[item_id]
        if split == row["split"] and label == row["label"]:
            n_repeated += 1
            continue
        said = f"the same text has label {label} for {split} in {first}, which is kept"
        refused.append(Reject(row["file"], row["row"], shortened(row["text"]), said))
    rejects.add(refused)
    notes = [f"labelled: {labelled.num_rows:,} rows, {len(places):,} items"]
    if n_repeated:
        notes.append(f"{n_repeated:,} labelled rows repeat a text of the same split and label; counted once")
    if refused:
        notes.append(f"{len(refused):,} labelled rows are in two places with different labels or splits; see rejects")
    return splits, notes
