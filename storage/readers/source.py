"""What a source of texts is: a description and chunks of rows, with the rows that cannot be taken beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("item_id", pa.string()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("published_at", pa.timestamp("us")),
    ]
)


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
class Chunk:
    """Some rows of a source as a table of `SCHEMA`; `bytes_read` counts from the start of the file."""

    table: pa.Table
    rejects: list[Reject]
    bytes_read: int


@dataclass(frozen=True)
class Source:
    """A file of texts whose layout is known: `description` says in one line what was found out."""

    path: Path
    size_bytes: int
    description: str
    _read: Callable[[int], Iterator[Chunk]] = field(repr=False)

    def chunks(self, rows: int = 65_536) -> Iterator[Chunk]:
        """Read the file from its start, at most `rows` lines or records (and some 16 MB of text) at a time."""
        if rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}")
        return self._read(rows)
