"""A source of texts: its layout, and its rows in chunks with the rejected rows beside them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

MAX_CHARACTERS = 100_000
SHOWN_CHARACTERS = 200
TOO_LONG = f"the text is longer than {MAX_CHARACTERS:,} characters"


def shortened(value: str) -> str:
    """Shorten a value for display: one line of at most `SHOWN_CHARACTERS`, always valid as UTF-8.

    >>> shortened("one\\r\\ntwo")
    'one two'
    """
    line = " ".join(value[: 2 * SHOWN_CHARACTERS].split())
    readable = line.encode("utf-8", "replace").decode("utf-8")
    return readable if len(readable) <= SHOWN_CHARACTERS else readable[: SHOWN_CHARACTERS - 1] + "…"


@dataclass(frozen=True)
class Reject:
    """A row that was rejected.

    Attributes:
        row: The line on which the record starts, from 1; in Parquet the number of the record.
        value: The content of the row, at most 200 characters.
        reason: Why it was rejected.
    """

    file: str
    row: int
    value: str
    reason: str


@dataclass(frozen=True)
class AllRows:
    """All rows of a chunk in the order of the file, with or without a text, and all columns of the file.

    Attributes:
        numbers: The line or record number of each row, as in `Reject`, shape (n,).
        ids: n ids as they are in the file; None if it has no id column.
        texts: n texts, stripped and checked; null for a row without a valid text.
        reasons: Why a row has no valid text, as in `Reject`; null for a row with one.
        columns: All columns of the file, named by `unique_names`; strings, from Parquet native types; null for an
            empty cell.
    """

    numbers: NDArray[np.int64]
    ids: pa.Array | None
    texts: pa.Array
    reasons: pa.Array
    columns: pa.Table


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source.

    Attributes:
        table: The valid rows, with the schema of the source, and a column `context` (structs, or JSON) if columns are
            kept.
        rejects: The other rows.
        bytes_read: The position in the file after these rows.
        all_rows: Every row; None unless requested. If requested, the table has only texts.
    """

    table: pa.Table
    rejects: list[Reject]
    bytes_read: int
    all_rows: AllRows | None = None


@dataclass(frozen=True)
class Layout:
    """The detected layout of a file.

    Attributes:
        form: Format, delimiter, encoding and header, as in `CSV, comma, UTF-8, header`.
        encoding: Python's name of the encoding; empty for a binary format.
        delimiter: The delimiter of values; empty for other formats and for one text per line.
        columns: Role (text, id, date, label) -> name of the column, or `column 2` in a file without a header.
        described: A description of the text, id and date columns.
        unused: The other columns.
        kept: The columns that are kept as context.
        label_column: The column that probably contains labels; empty if there is none.
        notes: Sentences about lines or columns that were skipped.
        sample: The first three rows: role -> value.
    """

    form: str
    encoding: str = ""
    delimiter: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    described: str = ""
    unused: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    label_column: str = ""
    notes: list[str] = field(default_factory=list)
    sample: list[dict[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.form}; {self.described}"

    def lines(self) -> list[str]:
        """Describe the layout in a few lines for the terminal."""
        unused = []
        for heading, names in (("Kept as context", self.kept), ("Not used", self.unused)):
            listed = [
                f"{name!r} (if these are labels: --label-column {shlex.quote(name)})"
                if name == self.label_column
                else repr(name)
                for name in names[:8]
            ]
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            unused += [f"  {heading}: {', '.join(listed)}{more}"] if names else []
        rows = [" | ".join(" ".join(value.split())[:80] for value in row.values()) for row in self.sample]
        return [str(self), *(f"  {note}" for note in self.notes), *unused, *(f"  > {row}" for row in rows)]


@dataclass(frozen=True)
class Source:
    """A file of texts and its detected layout; returned by `open_source`."""

    path: Path
    size_bytes: int
    layout: Layout
    _read: Callable[[int, bool], Iterator[Chunk]] = field(repr=False)

    @property
    def description(self) -> str:
        """The layout in one line."""
        return str(self.layout)

    def chunks(self, rows: int = 65_536) -> Iterator[Chunk]:
        """Read the file from its start, at most `rows` lines or records (and about 16 MB of text) at a time."""
        if rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}.")
        return self._read(rows, False)

    def all_rows(self, rows: int = 65_536) -> Iterator[AllRows]:
        """Read the file as `chunks` does, but yield every row with all columns.

        Blank lines and empty rows of a sheet are left out. Ids and dates are not checked.
        """
        for chunk in self._read(rows, True):
            if chunk.all_rows is not None:
                yield chunk.all_rows
