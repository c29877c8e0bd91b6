"""What a source of texts is: its layout and chunks of rows, with the rows that cannot be taken beside them."""

from __future__ import annotations

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
    """The value as a reject shows it: one line of at most 200 characters, always printable as UTF-8.

    >>> shortened("one\\r\\ntwo")
    'one two'
    """
    line = " ".join(value[: 2 * SHOWN_CHARACTERS].split())
    readable = line.encode("utf-8", "replace").decode("utf-8")
    return readable if len(readable) <= SHOWN_CHARACTERS else readable[: SHOWN_CHARACTERS - 1] + "…"


@dataclass(frozen=True)
class Reject:
    """One row that could not be taken: where it is, what it holds (at most 200 characters) and why.

    `row` is the line an editor shows where the record starts, counted from 1; in Parquet the record's number.
    """

    file: str
    row: int
    value: str
    reason: str


@dataclass(frozen=True)
class AllRows:
    """Every row of a chunk in the order of the file, whether it has a text or not, with all columns of the file.

    Attributes:
        numbers: Where each row is in the file, as in `Reject`, shape (n,).
        ids: n ids as the file has them; None where it has no column of ids.
        texts: n texts, stripped and checked; null where a row has none that can be used.
        reasons: Why it has none, as in `Reject`; null where it has one.
        columns: The columns of the file, named by `unique_names`: native types from Parquet, else strings; null where
            a cell is empty.
    """

    numbers: NDArray[np.int64]
    ids: pa.Array | None
    texts: pa.Array
    reasons: pa.Array
    columns: pa.Table


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source as a table of its schema; `bytes_read` counts from the start of the file.

    The table has a column `context` where columns are kept: structs, or JSON texts. `all_rows` is there only where it
    was asked for; the table then has texts alone: no ids, dates, labels or context.
    """

    table: pa.Table
    rejects: list[Reject]
    bytes_read: int
    all_rows: AllRows | None = None


@dataclass(frozen=True)
class Layout:
    """What was understood of a file.

    Attributes:
        form: Format, delimiter, encoding and header in words: `CSV, comma, UTF-8, header`.
        encoding: As Python names it; empty for a binary format.
        delimiter: Between values; empty for other formats and for one text a line.
        columns: Role (text, id, date, label) -> the name of the column, or `column 2` in a file without header.
        described: The columns of text, id and date in words.
        unused: The other columns.
        kept: The columns that are kept as context.
        label_column: The column that probably holds labels; empty where there is none.
        notes: What was skipped or left out, in sentences.
        sample: The first three rows, by role.
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
        """The layout for a person, in a few short lines."""
        shown = []
        for what, names in (("Kept as context", self.kept), ("Not used", self.unused)):
            listed = [f"{name!r} (labels?)" if name == self.label_column else repr(name) for name in names[:8]]
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            shown += [f"  {what}: {', '.join(listed)}{more}"] if names else []
        rows = [" | ".join(" ".join(value.split())[:80] for value in row.values()) for row in self.sample]
        return [str(self), *(f"  {note}" for note in self.notes), *shown, *(f"  > {row}" for row in rows)]


@dataclass(frozen=True)
class Source:
    """A file of texts whose layout is known."""

    path: Path
    size_bytes: int
    layout: Layout
    _read: Callable[[int, bool], Iterator[Chunk]] = field(repr=False)

    @property
    def description(self) -> str:
        """The layout in one line."""
        return str(self.layout)

    def chunks(self, rows: int = 65_536) -> Iterator[Chunk]:
        """Read the file from its start, at most `rows` lines or records (and some 16 MB of text) at a time."""
        if rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}")
        return self._read(rows, False)

    def all_rows(self, rows: int = 65_536) -> Iterator[AllRows]:
        """Read the file as `chunks` does, but every row with all of its columns.

        Blank lines, and rows of a sheet that show nothing, are not rows. What is wrong with an id or a date does not
        matter here.
        """
        for chunk in self._read(rows, True):
            if chunk.all_rows is not None:
                yield chunk.all_rows
