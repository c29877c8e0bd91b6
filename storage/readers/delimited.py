"""CSV, TSV and plain text: which dialect and columns a file has, then its rows in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

from storage.errors import SourceError
from storage.readers.columns import Columns, choose_columns, described
from storage.readers.lines import DELIMITERS, Dialect, Records, blank, parse_lines, read_records
from storage.readers.rows import checked
from storage.readers.source import Chunk, Source
from storage.sources.dialect import find_dialect, sample_lines


def open_delimited(
    path: Path,
    encoding: str,
    *,
    delimiter: str | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
) -> Source:
    """Find out the dialect and the columns of a delimited file.

    Raises:
        SourceError: no rows, a delimiter that cannot be, or columns that cannot be told.
    """
    lines = sample_lines(path, encoding)
    named = None if text_column is None or text_column.isdecimal() else text_column
    dialect = find_dialect(path, lines, encoding, _delimiter(delimiter), named)
    rows = [record for record in parse_lines(dialect, lines, final=True)[0] if not blank(record)]
    names = rows.pop(0) if dialect.header_row else None
    width = len(names) if names is not None else Counter(map(len, rows)).most_common(1)[0][0]
    dialect = replace(dialect, narrowest=width, widest=width)
    sample = [row for row in rows if len(row) == width]
    if sum(not line.isspace() for line in lines) < 2 and names is not None:
        raise SourceError(f"{path} holds a header and no rows.", hint="a file needs at least one text.")
    columns = choose_columns(path, names, sample, text_column, id_column)
    columns_said = described(columns, names, sample)

    def read(count: int) -> Iterator[Chunk]:
        return delimited_chunks(path, dialect, columns, count)

    return Source(path, path.stat().st_size, f"{dialect}; {columns_said}", read)


def delimited_chunks(path: Path, dialect: Dialect, columns: Columns, count: int) -> Iterator[Chunk]:
    """The checked rows of a delimited file, `count` lines at a time."""
    for part in read_records(path, dialect, count):
        yield _chunk(path, dialect, columns, part)


def _chunk(path: Path, dialect: Dialect, columns: Columns, part: Records) -> Chunk:
    def values(position: int) -> list[str]:
        return list(map(itemgetter(position), part.records))

    def shown(i: int) -> str | None:
        return None if blank(part.records[i]) else dialect.delimiter.join(part.records[i])

    ids = None if columns.item_id is None else values(columns.item_id)
    dates = None if columns.date is None else values(columns.date)
    table, rejects = checked(str(path), part.rows, values(columns.text), ids, dates, shown)
    return Chunk(table, sorted(part.rejects + rejects, key=lambda reject: reject.row), part.bytes_read)


def _delimiter(name: str | None) -> str | None:
    """A delimiter as people type it: the character itself, `\\t`, or its name."""
    named: dict[str, str] = {word: sign for sign, word in DELIMITERS.items()} | {"\\t": "\t"}
    delimiter = None if name is None else named.get(name.casefold(), name)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n '):
        raise SourceError(
            f"{name!r} cannot be a delimiter.", hint="--delimiter ',' or ';' or '|' or tab; or leave it out."
        )
    return delimiter
