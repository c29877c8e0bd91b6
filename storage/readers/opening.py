"""Open a file of texts: `open_source` detects its format and chooses the reader.

`labelled_rows` reads the labeled texts of a file for a simulation, as `pal import` reads its texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import SourceError
from storage.readers.columns import ColumnRequest
from storage.readers.delimited import open_delimited
from storage.readers.file_kinds import (
    find_encoding,
    is_json,
    is_parquet,
    is_zip,
    known_encoding,
    readable_file,
    refuse_other_alphabets,
)
from storage.readers.json_lines import open_json
from storage.readers.parquet import open_parquet
from storage.readers.ris import is_ris, open_ris
from storage.readers.source import Layout, Reject, Source
from storage.readers.spellings import folded_label, without_list
from storage.readers.workbooks import open_workbook

if TYPE_CHECKING:
    import pyarrow as pa


def open_source(
    path: Path | str,
    *,
    text_column: str | int | Sequence[str] | None = None,
    id_column: str | int | None = None,
    label_column: str | int | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> Source:
    """Open a file of texts; format, encoding, delimiter and columns are detected unless they are given.

    Args:
        path: A file in CSV, TSV, plain text (one text per line), Excel (.xlsx), JSON, RIS or Parquet, by its content.
        text_column: The name of the text column, or its number from 1; several columns are joined.
        id_column: The name or number of the id column; a file may have none.
        label_column: The name or number of the label column, or "" to detect it; None does not read labels.
        encoding: The encoding, by any name that Python knows.
        delimiter: One character, or a name such as `tab`.

    Raises:
        SourceError: The file cannot be read, is not a file of texts, or the choice of a column is ambiguous.
    """
    texts = [str(text_column)] if isinstance(text_column, str | int) else text_column or ()
    item_id, label = (None if name is None else str(name) for name in (id_column, label_column))
    return open_columns(Path(path), ColumnRequest(tuple(texts), item_id, label), encoding, delimiter)


def open_columns(
    path: Path, request: ColumnRequest, encoding: str | None = None, delimiter: str | None = None
) -> Source:
    """Open a file of texts as `open_source` does, with context columns that are kept with the texts.

    Raises:
        SourceError: As `open_source`.
    """
    head = readable_file(path, or_workbook=True)
    if is_parquet(head):
        return open_parquet(path, request)
    if is_zip(head):
        return open_workbook(path, request)
    if encoding:
        encoding = known_encoding(encoding)
    elif (encoding := find_encoding(path, head)) == "cp1252":
        refuse_other_alphabets(path)
    if is_ris(head.decode(encoding, "replace").lstrip("\ufeff")):
        return open_ris(path, encoding, request)
    if delimiter is None and is_json(path, head, encoding):
        return open_json(path, encoding, request)
    return open_delimited(path, encoding, request, delimiter)


MAX_MALFORMED = 0.01
"""Maximum fraction of malformed rows; with more, the simulation would be of different data."""


@dataclass(frozen=True)
class LabelledTexts:
    """The labeled rows of a file without repeated texts, in the order of the file.

    Attributes:
        table: The columns `text`, `label` and `folded` (the text with its spelling normalized).
        layout: The detected layout of the file.
        notes: Sentences about rows that were left out or merged.
    """

    table: pa.Table
    layout: Layout
    notes: list[str]


def read_labelled(path: Path, text_column: str | None = None, label_column: str | None = None) -> LabelledTexts:
    """Read the rows that have both a text and a label; of rows with equal texts (see `folded`) the first is kept.

    Raises:
        SourceError: The file cannot be read, the choice of a column is ambiguous, or too many rows are malformed.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from storage.lake.items import folded_texts
    from storage.readers.rows import LABELLED_SCHEMA

    source = open_source(path, text_column=text_column, label_column=label_column or "")
    tables, rejects = [LABELLED_SCHEMA.empty_table()], list[Reject]()
    for chunk in source.chunks():
        tables.append(chunk.table)
        rejects += chunk.rejects
    table = pa.concat_tables(tables).select(["text", "label"]).combine_chunks()
    notes = _check_malformed(path, rejects, table.num_rows)
    labels = _unify_spellings(table["label"].combine_chunks())
    table = table.set_column(1, "label", labels).filter(pc.not_equal(labels, ""))
    folded = pa.chunked_array([folded_texts(part) for part in table["text"].chunks], pa.string())
    table = table.append_column("folded", folded).append_column("row", pa.array(range(table.num_rows), pa.int64()))
    first = table.group_by("folded", use_threads=False).aggregate([("row", "min"), ("label", "count_distinct")])
    if repeated := table.num_rows - first.num_rows:
        n_conflicts = int(pc.sum(pc.greater(first["label_count_distinct"], 1)).as_py() or 0)
        conflicts = f"; for {n_conflicts:,} texts the labels differ and the first one is used" if n_conflicts else ""
        notes.append(f"{repeated:,} rows repeat a text{conflicts}.")
    kept = table.take(first["row_min"].combine_chunks().sort())
    return LabelledTexts(kept.select(["text", "label", "folded"]), source.layout, notes)


def _check_malformed(path: Path, rejects: list[Reject], n_good: int) -> list[str]:
    """Return a note about rows that could not be read; rows with an empty text or id do not count.

    Raises:
        SourceError: More than `MAX_MALFORMED` of the rows could not be read.
    """
    from storage.readers.rows import EMPTY_ID, EMPTY_TEXT

    malformed = [reject for reject in rejects if reject.reason not in (EMPTY_TEXT, EMPTY_ID)]
    if not malformed:
        return []
    first = malformed[0]
    summary = f"{len(malformed):,} of {len(malformed) + n_good:,} rows of {path} cannot be read"
    example = f"row {first.row}, {first.value!r}: {first.reason}"
    if len(malformed) > MAX_MALFORMED * (len(malformed) + n_good):
        raise SourceError(f"{summary}; {example.rstrip('.?')}.", hint="Fix or remove these rows.")
    return [f"{summary} and are left out; {example}."]


def _unify_spellings(labels: pa.Array) -> pa.Array:
    """Replace each label by the most common of its spellings; an integer `1` is preferred to `1.0`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = labels.dictionary_encode()
    written = [without_list(label) for label in encoded.dictionary.to_pylist()]
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(encoded.indices).to_pylist()}
    spellings: dict[str, Counter[str]] = {}
    for index, label in enumerate(written):
        key = folded_label(label)
        spelling = key if key.lstrip("+-").isdecimal() else label
        spellings.setdefault(key, Counter())[spelling] += counts.get(index, 0)
    chosen = [spellings[folded_label(label)].most_common(1)[0][0] for label in written]
    return pa.array(chosen, pa.string()).take(encoded.indices)
