"""The labelled rows of a file, read as `pal import` reads its texts: what a simulation replays the loop on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import SourceError
from storage.readers.source import Layout, Reject
from storage.readers.spellings import folded_label, without_list

if TYPE_CHECKING:
    import pyarrow as pa

MOST_MALFORMED = 0.01
"""Fraction of rows that may be malformed; a simulation on the others would be one on other data."""


@dataclass(frozen=True)
class LabelledTexts:
    """The labelled rows of a file: (text, label, folded), each text once, in the order of the file.

    Attributes:
        notes: What was left out or taken as one, in sentences.
    """

    table: pa.Table
    layout: Layout
    notes: list[str]


def read_labelled(path: Path, text_column: str | None = None, label_column: str | None = None) -> LabelledTexts:
    """Read the rows that have a text and a label; equal texts (by storage's text hash) count once, with their first.

    Raises:
        SourceError: The file cannot be read, its columns cannot be told, or too many of its rows are malformed.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from storage.lake.items import folded_texts
    from storage.readers.opening import open_source
    from storage.readers.rows import LABELLED_SCHEMA

    source = open_source(path, text_column=text_column, label_column=label_column or "")
    tables, rejects = [LABELLED_SCHEMA.empty_table()], list[Reject]()
    for chunk in source.chunks():
        tables.append(chunk.table)
        rejects += chunk.rejects
    table = pa.concat_tables(tables).select(["text", "label"]).combine_chunks()
    notes = _malformed(path, rejects, table.num_rows)
    labels = _one_spelling_each(table["label"].combine_chunks())
    table = table.set_column(1, "label", labels).filter(pc.not_equal(labels, ""))
    folded = pa.chunked_array([folded_texts(part) for part in table["text"].chunks], pa.string())
    table = table.append_column("folded", folded).append_column("row", pa.array(range(table.num_rows), pa.int64()))
    first = table.group_by("folded", use_threads=False).aggregate([("row", "min"), ("label", "count_distinct")])
    if repeated := table.num_rows - first.num_rows:
        differ = int(pc.sum(pc.greater(first["label_count_distinct"], 1)).as_py() or 0)
        but = f", {differ:,} of them with another label: the first counts" if differ else ""
        notes.append(f"{repeated:,} rows repeat a text{but}.")
    kept = table.take(first["row_min"].combine_chunks().sort())
    return LabelledTexts(kept.select(["text", "label", "folded"]), source.layout, notes)


def _malformed(path: Path, rejects: list[Reject], n_good: int) -> list[str]:
    """What to say of the rows that could not be read; those with an empty text are no loss.

    Raises:
        SourceError: They are too many.
    """
    from storage.readers.rows import EMPTY_ID, EMPTY_TEXT

    malformed = [reject for reject in rejects if reject.reason not in (EMPTY_TEXT, EMPTY_ID)]
    if not malformed:
        return []
    first = malformed[0]
    said = f"{len(malformed):,} of {len(malformed) + n_good:,} rows of {path} cannot be read"
    example = f"row {first.row}, {first.value!r}: {first.reason}"
    if len(malformed) > MOST_MALFORMED * (len(malformed) + n_good):
        raise SourceError(f"{said}; {example.rstrip('.?')}.", hint="Fix these rows, or leave them out of the file.")
    return [f"{said} and are left out; {example}."]


def _one_spelling_each(labels: pa.Array) -> pa.Array:
    """The labels, each in the commonest of its spellings, of which 1 goes before 1.0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = labels.dictionary_encode()
    written = [without_list(label) for label in encoded.dictionary.to_pylist()]
    counts = {each["values"]: each["counts"] for each in pc.value_counts(encoded.indices).to_pylist()}
    spellings: dict[str, Counter[str]] = {}
    for index, label in enumerate(written):
        key = folded_label(label)
        spelling = key if key.lstrip("+-").isdecimal() else label
        spellings.setdefault(key, Counter())[spelling] += counts.get(index, 0)
    chosen = [spellings[folded_label(label)].most_common(1)[0][0] for label in written]
    return pa.array(chosen, pa.string()).take(encoded.indices)
