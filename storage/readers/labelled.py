"""Read the labeled rows of a file, as `pal import` reads its texts, for a simulation."""

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
    from storage.readers.opening import open_source
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
