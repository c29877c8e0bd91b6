"""The checks that every row passes, over a whole chunk at once: rows in, a table and rejects out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from storage.readers.dates import parse_dates
from storage.readers.source import SCHEMA, Reject

MAX_CHARACTERS = 100_000
SHOWN_CHARACTERS = 200
NOT_TEXT = "holds bytes that are not text in the file's encoding"
EMPTY_TEXT = "the text is empty"
TOO_LONG = f"the text is longer than {MAX_CHARACTERS:,} characters"
NUL = "holds a NUL byte"
EMPTY_ID = "the id is empty"


def shortened(value: str) -> str:
    """The value as a reject shows it: one line of at most 200 characters, always printable as UTF-8.

    >>> shortened("one\\r\\ntwo")
    'one two'
    """
    line = " ".join(value[: 2 * SHOWN_CHARACTERS].split())
    readable = line.encode("utf-8", "replace").decode("utf-8")
    return readable if len(readable) <= SHOWN_CHARACTERS else readable[: SHOWN_CHARACTERS - 1] + "…"


def id_text(value: object) -> str | None:
    """An id as a string; a number that a spreadsheet turned into a float loses its `.0`; None for no id.

    >>> id_text(12.0), id_text(12), id_text(" a7 "), id_text(True)
    ('12', '12', 'a7', None)
    """
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value) if np.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value).strip()


def checked(
    file: str,
    rows: NDArray[np.int64],
    texts: Sequence[str] | pa.Array,
    ids: Sequence[str | None] | pa.Array | None,
    dates: Iterable[str | None] | pa.Array | None,
    shown: Callable[[int], str | None],
) -> tuple[pa.Table, list[Reject]]:
    """Strip, check and assemble the rows of one chunk.

    Args:
        file: name of the file for the rejects.
        rows: where each row is in the file, shape (n,).
        texts: n texts; null is treated as empty.
        ids: n ids, or None for a file without ids.
        dates: n dates as the file has them, or None for a file without dates.
        shown: the content of the i-th row for a reject; None when it is blank and may pass in silence.

    Returns:
        A table of `SCHEMA` with the good rows in order, and a reject for each other one.
    """
    text, text_broken = _strings(texts)
    faults = [(text_broken, NOT_TEXT)]
    item_id: pa.Array = pa.nulls(len(rows), pa.string())
    if ids is not None:
        item_id, id_broken = _strings(ids)
        faults += [(id_broken, NOT_TEXT), (_mask(pc.match_substring(item_id, "\0")), NUL)]
    faults += [
        (_mask(pc.equal(pc.binary_length(text), 0)), EMPTY_TEXT),
        (_mask(pc.match_substring(text, "\0")), NUL),
        (_long(text), TOO_LONG),
    ]
    if ids is not None:
        faults.append((_mask(pc.equal(pc.binary_length(item_id), 0)), EMPTY_ID))
    bad = np.logical_or.reduce([mask for mask, _ in faults])
    published_at = pa.nulls(len(rows), pa.timestamp("us")) if dates is None else parse_dates(dates)
    table = pa.Table.from_arrays([pa.array(rows, pa.int64()), item_id, text, published_at], schema=SCHEMA)
    if not bad.any():
        return table, []
    rejects = []
    for i in np.flatnonzero(bad).tolist():
        value = shown(i)
        if value is not None:
            reason = next(reason for mask, reason in faults if mask[i])
            rejects.append(Reject(file, int(rows[i]), shortened(value), reason))
    return table.filter(pa.array(~bad)), rejects


def _strings(values: Sequence[str | None] | pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """The values stripped of whitespace, null as empty, and which of them cannot be written as UTF-8."""
    broken = np.zeros(len(values), dtype=bool)
    if not isinstance(values, pa.Array):
        try:
            values = pa.array(values, pa.string())
        except UnicodeEncodeError:
            broken = np.fromiter(map(_unwritable, values), dtype=bool, count=len(values))
            values = pa.array(["" if b else v for v, b in zip(values, broken, strict=True)], pa.string())
    return pc.utf8_trim_whitespace(pc.fill_null(values, "")), broken


def _unwritable(value: str | None) -> bool:
    """Whether a string holds lone surrogates, which stand for bytes that could not be decoded."""
    if value is None or value.isascii():
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _long(text: pa.Array) -> NDArray[np.bool_]:
    """Which texts are too long; characters are counted only where there are enough bytes to matter."""
    if not pc.any(pc.greater(pc.binary_length(text), MAX_CHARACTERS)).as_py():
        return np.zeros(len(text), dtype=bool)
    return _mask(pc.greater(pc.utf8_length(text), MAX_CHARACTERS))


def _mask(values: Any) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=bool)


def kept(values: Sequence[Any], mask: NDArray[np.bool_]) -> list[Any]:
    """The values where the mask is true."""
    return list(values) if mask.all() else list(compress(values, mask))
