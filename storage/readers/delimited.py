"""CSV, TSV and plain text: the dialect, detected from the first lines, and the rows in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

from storage.errors import SourceError
from storage.readers.columns import Columns, choose_columns, described, find_name, known_name, known_text
from storage.readers.file_kinds import next_lines, open_text
from storage.readers.lines import DELIMITERS, ONE_COLUMN, Dialect, Record, Records, blank, parse_lines, read_records
from storage.readers.rows import checked
from storage.readers.source import Chunk, Source


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


SAMPLE_LINES = 2000


def find_dialect(
    path: Path, lines: list[str], encoding: str, delimiter: str | None, text_column: str | None = None
) -> Dialect:
    """The delimiter, whether quotes are syntax, and whether there is a header.

    Raises:
        SourceError: there is not a single record.
    """
    if delimiter is None:
        delimiter = _find_delimiter(lines, encoding, text_column, path.suffix)
    dialect = Dialect(encoding, delimiter)
    if delimiter in {ONE_COLUMN, "\t"}:
        dialect = replace(dialect, quoted=_quotes_are_syntax(dialect, lines))
    records, starts, _, _ = parse_lines(dialect, lines, final=True)
    rows = [(record, int(start)) for record, start in zip(records, starts, strict=True) if not blank(record)]
    if not rows:
        raise SourceError(f"{path} holds no rows that can be read.", hint="a file needs at least one text.")
    body = [record for record, _ in rows[1:]]
    header = _is_header(rows[0][0], body, text_column)
    return replace(dialect, header_row=rows[0][1] + 1 if header else 0)


def sample_lines(path: Path, encoding: str) -> list[str]:
    """The first lines of a file."""
    with path.open("rb") as binary, open_text(binary, encoding) as stream:
        return next_lines(stream, SAMPLE_LINES, first=True)


def _find_delimiter(lines: list[str], encoding: str, text_column: str | None, suffix: str) -> str:
    """The delimiter under which most rows have the same number of values; `ONE_COLUMN` where none has."""
    first = next((line.strip().strip('"') for line in lines if line.strip()), "")
    if known_text(first):
        return ONE_COLUMN
    likelihood = {delimiter: _likelihood(Dialect(encoding, delimiter), lines, text_column) for delimiter in DELIMITERS}
    if suffix.casefold() in {".tsv", ".tab"} and likelihood["\t"] > 0:
        return "\t"
    best = max(likelihood, key=lambda delimiter: likelihood[delimiter])
    return best if likelihood[best] >= 0.7 else ONE_COLUMN


def _likelihood(dialect: Dialect, lines: list[str], text_column: str | None) -> float:
    """The share of rows that have the commonest width, 0 to 1, plus 1 for a header with a known name."""
    records, _, faults, _ = parse_lines(dialect, lines, final=True)
    records = [record for record in records if not blank(record)]
    if not records:
        return 0.0
    first = records[0]
    if len(first) > 1 and (any(map(known_text, first)) or (text_column and find_name(first, text_column) is not None)):
        return 1.0 + sum(len(record) == len(first) for record in records) / (len(records) + len(faults))
    width, number = Counter(map(len, records)).most_common(1)[0]
    prose = sum(_is_prose(line, dialect.delimiter) for line in lines)
    if width < 2 or prose > 0.8 * len(records):
        return 0.0
    return number / (len(records) + len(faults))


def _is_prose(line: str, delimiter: str) -> bool:
    """Whether a space follows the first delimiter, as in prose, and no number stands before it."""
    before, _, after = line.partition(delimiter)
    return after.startswith(" ") and not before.strip(' "').isdecimal()


def _quotes_are_syntax(dialect: Dialect, lines: list[str]) -> bool:
    """Whether values that begin with a quote mostly end with one, as in CSV and not as in prose."""
    opening = sum(line.startswith('"') or dialect.delimiter + '"' in line for line in lines)
    if not opening:
        header = next((line for line in lines if line.strip()), "")
        return dialect.delimiter != ONE_COLUMN or known_text(header)
    return 2 * len(parse_lines(dialect, lines, final=True)[2]) < opening


def _is_header(first: Record, body: list[Record], text_column: str | None) -> bool:
    """Whether the first record names the columns: by a known name, or single words over longer texts."""
    names = [name.strip() for name in first]
    number = sum(map(known_name, names))
    if number > 1 or (number == 1 and not any(map(str.isdecimal, names))):
        return True
    if text_column is not None and find_name(first, text_column) is not None:
        return True
    if len(names) < 2 or len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
        return False
    if any(character.isdigit() for name in names for character in name):
        return False
    rows = [row for row in body if len(row) == len(names)]
    return any(2 * sum(" " in row[i].strip() for row in rows) > len(rows) for i in range(len(names)))
