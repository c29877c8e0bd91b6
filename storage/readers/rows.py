"""Check the rows of a chunk: `checked` returns a table of the valid rows and the rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.readers.source import MAX_CHARACTERS, TOO_LONG, AllRows, Chunk, Reject, shortened
from storage.readers.spellings import INVISIBLE, parse_dates

NOT_TEXT = "holds bytes that are not text in the file's encoding"
EMPTY_TEXT = "the text is empty"
_BLANK = rf"^[\s\pZ{INVISIBLE}]*$"
NUL = "holds a NUL byte"
EMPTY_ID = "the id is empty"
SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("item_id", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("published_at", pa.timestamp("us")),
    ]
)

LABELLED_SCHEMA = SCHEMA.append(pa.field("label", pa.string(), nullable=False))
"""The schema of a source that was opened with its labels; an empty label means that the item is not labeled."""


@dataclass(frozen=True)
class Cells:
    """The values of n rows in the columns that are read; None for a column that the file does not have.

    Attributes:
        texts: n texts; null is treated as empty.
        ids: n ids.
        dates: n dates as they are in the file.
        labels: n labels as they are in the file; empty for items that are not labeled.
        more_texts: Columns that are joined to the texts, separated by a blank line.
        context: Columns that are kept with the text, by name; or n JSON objects of them.
    """

    texts: Sequence[str | None] | pa.Array
    ids: Sequence[str | None] | pa.Array | None = None
    dates: Iterable[str | None] | pa.Array | None = None
    labels: Sequence[str | None] | pa.Array | None = None
    more_texts: Sequence[Sequence[str | None] | pa.Array] = ()
    context: Mapping[str, pa.Array] | pa.Array = field(default_factory=dict)


def checked(
    file: str, rows: NDArray[np.int64], cells: Cells, show_row: Callable[[int], str | None]
) -> tuple[pa.Table, list[Reject]]:
    """Strip and check the values of a chunk.

    Args:
        file: The name of the file, for the rejects.
        rows: The line or record number of each row in the file, shape (n,).
        cells: The values of the n rows.
        show_row: Returns the content of row i for a reject; None for a blank row, which is not reported.

    Returns:
        A table of the valid rows in order, with schema `SCHEMA` (`LABELLED_SCHEMA` if there are labels) and a column
        `context` if columns are kept; and a reject for each of the others.
    """
    text, text_broken = _joined([cells.texts, *cells.more_texts])
    faults = [(text_broken, NOT_TEXT)]
    item_id: pa.Array = pa.nulls(len(rows), pa.string())
    if cells.ids is not None:
        item_id, id_broken = _strings(cells.ids)
        faults += [(id_broken, NOT_TEXT), (_mask(pc.match_substring(item_id, "\0")), NUL)]
    if cells.labels is not None:
        label, label_broken = _strings(cells.labels)
        faults.append((label_broken, NOT_TEXT))
    faults += [
        (_mask(pc.match_substring_regex(text, _BLANK)), EMPTY_TEXT),
        (_mask(pc.match_substring(text, "\0")), NUL),
        (_long(text), TOO_LONG),
    ]
    if cells.ids is not None:
        faults.append((_mask(pc.equal(pc.binary_length(item_id), 0)), EMPTY_ID))
    bad = np.logical_or.reduce([mask for mask, _ in faults])
    published_at = pa.nulls(len(rows), pa.timestamp("us")) if cells.dates is None else parse_dates(cells.dates)
    columns = [pa.array(rows, pa.int64()), item_id, text, published_at]
    if cells.labels is not None:
        columns.append(label)
    table = pa.Table.from_arrays(columns, schema=SCHEMA if cells.labels is None else LABELLED_SCHEMA)
    if len(cells.context):
        kept = cells.context
        if isinstance(kept, Mapping):
            kept = pa.StructArray.from_arrays(list(kept.values()), list(kept))
        table = table.append_column("context", kept)
    if not bad.any():
        return table, []
    rejects = []
    for i in np.flatnonzero(bad).tolist():
        value = show_row(i)
        if value is not None:
            reason = next(reason for mask, reason in faults if mask[i])
            rejects.append(Reject(file, int(rows[i]), shortened(value), reason))
    return table.filter(pa.array(~bad)), rejects


def with_all_rows(
    chunk: Chunk, numbers: NDArray[np.int64], columns: pa.Table, ids: Sequence[str | None] | pa.Array | None
) -> Chunk:
    """Add every row of its part of the file to a checked chunk.

    Args:
        chunk: The rows that have a text, and the rejects; a row that is neither is blank.
        numbers: The line or record number of each row in the file, ascending, shape (n,).
        columns: All columns of the file, n rows.
        ids: n ids; None if the file has none.
    """
    positions = np.full(len(numbers), -1, dtype=np.int64)
    positions[np.searchsorted(numbers, chunk.table["row"].to_numpy())] = np.arange(chunk.table.num_rows)
    has_no_text = positions < 0
    reasons = np.full(len(numbers), None, dtype=object)
    reasons[has_no_text] = EMPTY_TEXT
    for reject in chunk.rejects:
        reasons[np.searchsorted(numbers, reject.row)] = reject.reason
    texts = chunk.table["text"].combine_chunks().take(pa.array(positions, mask=has_no_text))
    id_strings = None if ids is None else string_cells(ids)
    return replace(chunk, all_rows=AllRows(numbers, id_strings, texts, pa.array(reasons, pa.string()), columns))


def string_cells(values: Sequence[str | None] | pa.Array) -> pa.Array:
    """Return a column of strings; lone surrogates, which represent invalid bytes, are replaced."""
    if isinstance(values, pa.Array):
        return values
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        readable = [None if value is None else value.encode("utf-8", "replace").decode() for value in values]
        return pa.array(readable, pa.string())


def _joined(columns: Sequence[Sequence[str | None] | pa.Array]) -> tuple[pa.Array, NDArray[np.bool_]]:
    """The texts of several columns as one, with a blank line between, and which of them cannot be written as UTF-8."""
    parts = [_strings(column) for column in columns]
    if len(parts) == 1:
        return parts[0]
    texts = [pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text) for text, _ in parts]
    joined = pc.binary_join_element_wise(*texts, "\n\n", null_handling="skip")
    return joined, np.logical_or.reduce([broken for _, broken in parts])


def _strings(values: Sequence[str | None] | pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Return the stripped values, with null as empty, and a mask of those that cannot be encoded as UTF-8."""
    broken = np.zeros(len(values), dtype=bool)
    if not isinstance(values, pa.Array):
        try:
            values = pa.array(values, pa.string())
        except UnicodeEncodeError:
            broken = np.fromiter(map(_unwritable, values), dtype=bool, count=len(values))
            values = pa.array(["" if b else v for v, b in zip(values, broken, strict=True)], pa.string())
    return pc.utf8_trim_whitespace(pc.fill_null(values, "")), broken


def _unwritable(value: str | None) -> bool:
    """Whether a string contains lone surrogates, which represent bytes that could not be decoded."""
    if value is None or value.isascii():
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _long(text: pa.Array) -> NDArray[np.bool_]:
    """Return a mask of the texts that are too long; characters are counted only if a text has enough bytes."""
    if not pc.any(pc.greater(pc.binary_length(text), MAX_CHARACTERS)).as_py():
        return np.zeros(len(text), dtype=bool)
    return _mask(pc.greater(pc.utf8_length(text), MAX_CHARACTERS))


def _mask(values: Any) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=bool)
