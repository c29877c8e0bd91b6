"""Read CSV, TSV and plain text: detect the dialect from the first lines, then yield the rows in chunks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from storage.errors import SourceError
from storage.readers.columns import (
    DETECT,
    ColumnRequest,
    Columns,
    choose_columns,
    find_name,
    known_label,
    known_name,
    known_text,
    layout_of,
    text_like,
    unique_names,
)
from storage.readers.file_kinds import next_lines, open_text
from storage.readers.lines import (
    DELIMITERS,
    ONE_COLUMN,
    Dialect,
    Record,
    Records,
    blank,
    joined_at_lone_cr,
    parse_lines,
    read_records,
)
from storage.readers.source import Chunk, Layout, Source, shortened
from storage.readers.spellings import folded_label

SAMPLE_LINES = 2000
HEADER_WITHIN = 10
"""The header is searched for in this many rows; blank rows, a title or `sep=;` may precede it."""

HeaderTest = Callable[[Record], int]
"""Whether a record is a header: 0 means no, 1 yes if only titles precede it, 2 yes in any position."""

_SEP = re.compile(r'\s*"?sep=(.)"?[\s,;]*', re.IGNORECASE)
_BETWEEN_DIGITS = re.compile(r"(?<=\d),(?=\d)")


def open_delimited(path: Path, encoding: str, request: ColumnRequest, delimiter: str | None = None) -> Source:
    """Detect the dialect and the columns of a delimited file.

    Raises:
        SourceError: The file has no rows, the delimiter is invalid, or the choice of a column is ambiguous.
    """
    lines = sample_lines(path, encoding)
    dialect = find_dialect(path, lines, encoding, _delimiter(delimiter), request)
    records, starts, _, _ = parse_lines(dialect, split_lines(dialect, lines), final=True)
    rows = [record for record, start in zip(records, starts + 1, strict=True) if start >= dialect.first_row]
    rows = [record for record in rows if not blank(record)]
    names = next((r for r, start in zip(records, starts + 1, strict=True) if start == dialect.header_row), None)
    if names is not None and not rows and not any(not line.isspace() for line in lines[dialect.first_row - 1 :]):
        raise SourceError(f"{path} has a header but no rows.", hint="A file needs at least one text.")
    width = len(names) if names is not None else Counter(map(len, rows)).most_common(1)[0][0]
    dialect = replace(dialect, narrowest=width, widest=width)
    sample = [row for row in rows if len(row) == width]
    columns = choose_columns(path, names, sample, request)
    form = Layout(str(dialect), encoding, "" if dialect.delimiter == ONE_COLUMN else dialect.delimiter)
    form = replace(form, notes=_skipped_notes(dialect, lines))

    titles = unique_names(names if names is not None else [""] * width)

    def read(count: int, all_columns: bool) -> Iterator[Chunk]:
        for part in read_records(path, dialect, count):
            yield chunk_of(path, columns, part, dialect.delimiter, titles if all_columns else None)

    return Source(path, path.stat().st_size, layout_of(form, columns, names, sample, path), read)


def chunk_of(path: Path, columns: Columns, part: Records, delimiter: str, titles: Sequence[str] | None = None) -> Chunk:
    """Check records that are all wide enough and return them as a chunk.

    Args:
        path: The file, for the rejects.
        columns: The positions of the columns to read.
        part: The records.
        delimiter: Joins the values of a rejected row.
        titles: The names of all columns, if the chunk should also have every row with all columns.
    """
    # Batch files use only the dialects, and must not import Arrow.
    from storage.readers.rows import Cells, checked, string_cells

    if titles is not None:
        chunk = chunk_of(path, columns.text_only(), part, delimiter)
        return _with_all_rows(chunk, part, titles, columns.item_id, delimiter)

    def values(position: int | None) -> list[str] | None:
        return None if position is None else list(map(itemgetter(position), part.records))

    def shown(i: int) -> str | None:
        return None if blank(part.records[i]) else delimiter.join(part.records[i])

    texts = [values(at) or [] for at in columns.texts]
    context = {
        name: string_cells([cell.strip() or None for cell in values(at) or []]) for name, at in columns.context.items()
    }
    single = (values(columns.item_id), values(columns.date), values(columns.label))
    cells = Cells(texts[0], *single, more_texts=texts[1:], context=context)
    table, rejects = checked(str(path), part.rows, cells, shown)
    return Chunk(table, sorted(part.rejects + rejects, key=lambda reject: reject.row), part.bytes_read)


def _with_all_rows(chunk: Chunk, part: Records, titles: Sequence[str], id_at: int | None, delimiter: str) -> Chunk:
    """Add every row to a chunk; surplus values of a row are joined into its last column."""
    import pyarrow as pa

    from storage.readers.rows import string_cells, with_all_rows

    width = len(titles)
    malformed = [
        [*values[: width - 1], delimiter.join(values[width - 1 :]), *[""] * width][:width]
        for values in part.malformed.values()
    ]
    numbers = np.concatenate([part.rows, np.fromiter(part.malformed, dtype=np.int64, count=len(malformed))])
    records = part.records + malformed
    if malformed:
        order = np.argsort(numbers)
        numbers, records = numbers[order], [records[i] for i in order.tolist()]
    cells = [string_cells([values[at] or None for values in records]) for at in range(width)]
    table = pa.table(cells, names=list(titles))
    return with_all_rows(chunk, numbers, table, None if id_at is None else cells[id_at])


def _delimiter(name: str | None) -> str | None:
    """Return the delimiter that the user typed: the character itself, `\\t`, or its name."""
    by_name: dict[str, str] = {word: character for character, word in DELIMITERS.items()} | {"\\t": "\t"}
    delimiter = None if name is None else by_name.get(name.casefold(), name)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n '):
        hint = "Use --delimiter with ',' or ';' or '|' or tab, or omit the option."
        raise SourceError(f"{name!r} cannot be a delimiter.", hint=hint)
    return delimiter


def find_dialect(
    path: Path, lines: list[str], encoding: str, delimiter: str | None, request: ColumnRequest = DETECT
) -> Dialect:
    """Detect the delimiter, the quoting, the header and the number of lines above the header.

    Args:
        path: The file; its suffix decides between dialects that fit equally well.
        lines: The first lines of the file.
        encoding: The encoding of the file.
        delimiter: The delimiter if it is known, else None.
        request: The columns that the user requested; a header contains their names.

    Raises:
        SourceError: The file has no records, or rows precede the header.
    """
    above = next((i + 1 for i, line in enumerate(lines[:HEADER_WITHIN]) if _SEP.fullmatch(line)), 0)
    if above and not any(line.strip() for line in lines[: above - 1]):
        match = _SEP.fullmatch(lines[above - 1])
        delimiter = delimiter or (match[1] if match else None)
        lines = ["\n"] * above + lines[above:]
    else:
        above = 0

    def header_confidence(record: Record) -> int:
        return _header_confidence(record, request)

    if delimiter is None:
        delimiter = _find_delimiter(lines, encoding, header_confidence, path.suffix.casefold())
    dialect = fitted(Dialect(encoding, delimiter, above=above), lines, header_confidence)
    records, starts, _, _ = parse_lines(dialect, split_lines(dialect, lines), final=True)
    rows = [(record, int(start)) for record, start in zip(records, starts, strict=True) if not blank(record)]
    if not rows:
        raise SourceError(f"{path} has no rows that can be read.", hint="A file needs at least one text.")
    one_column = path.suffix.casefold() != ".txt"
    head, body = find_header(path, [record for record, _ in rows], request, one_column=one_column)
    first = body if head is None else head
    above = rows[first - 1][1] + 1 if first else above
    return replace(dialect, above=above, header_row=0 if head is None else rows[head][1] + 1)


def find_header(
    path: Path, records: Sequence[Record], request: ColumnRequest, *, one_column: bool = True
) -> tuple[int | None, int]:
    """Return the index of the header (None without one) and the index of the first row; records above are titles.

    Args:
        path: The file, for error messages.
        records: The first records of the file.
        request: The columns that the user requested; a header contains their names.
        one_column: Whether a header of a single name may follow a title.

    Raises:
        SourceError: Rows precede the header.
    """
    header = header_at(records, lambda record: _header_confidence(record, request), one_column=one_column)
    if header is not None:
        if message := rows_above(path, records, header):
            raise SourceError(message, hint=ROWS_ABOVE)
        return header, header + 1
    first = _count_titles(records)
    return (first, first + 1) if _looks_like_header(records[first], records[first + 1 :]) else (None, first)


def fitted(dialect: Dialect, lines: list[str], header_confidence: HeaderTest) -> Dialect:
    """Complete a dialect whose delimiter is known: quotes, backslash escapes and lone carriage returns."""

    def misfits(candidate: Dialect) -> int:
        return _count_misfits(candidate, lines, header_confidence)

    if dialect.delimiter in {ONE_COLUMN, "\t"}:
        candidates = (dialect, replace(dialect, escaped=True))
        dialect = replace(dialect, quoted=any(_quotes_are_syntax(candidate, lines) for candidate in candidates))
    if dialect.quoted and any('\\"' in line for line in lines):
        dialect = min(dialect, replace(dialect, escaped=True), key=misfits)
    if dialect.delimiter != ONE_COLUMN and any(line.endswith("\r") for line in lines):
        dialect = min(dialect, replace(dialect, lone_cr_is_text=True), key=misfits)
    return dialect


def split_lines(dialect: Dialect, lines: list[str]) -> list[str]:
    """Return the lines with the line ends of a dialect: a lone carriage return may be part of a text."""
    return joined_at_lone_cr(lines) if dialect.lone_cr_is_text else lines


def _count_misfits(dialect: Dialect, lines: list[str], header_confidence: HeaderTest) -> int:
    """Count the rows that cannot be parsed or are not as wide as the header (without one: as most rows)."""
    records, _, faults, _ = parse_lines(dialect, split_lines(dialect, lines), final=True)
    records = [record for record in records if not blank(record)]
    if not records:
        return len(faults)
    header = header_at(records, header_confidence)
    width = Counter(map(len, records)).most_common(1)[0][0] if header is None else len(records[header])
    return len(faults) + sum(len(record) != width for record in records[header or 0 :])


def header_at(records: Sequence[Record], header_confidence: HeaderTest, *, one_column: bool = False) -> int | None:
    """Return the index of the header: the first record that is one and has only titles above it; None without one.

    Args:
        records: The first records of the file.
        header_confidence: The test of a record.
        one_column: Whether a header of a single name may follow a title.
    """
    above: list[Record] = []
    for i, record in enumerate(records[:HEADER_WITHIN]):
        confidence = header_confidence(record) if i == 0 or len(record) > 1 or (one_column and i < 3) else 0
        if confidence > 1 or (confidence and all(_is_title(title, len(record)) for title in above)):
            return i
        above.append(record)
    return None


ROWS_ABOVE = "Move the header to the first line and remove any lines above it that are not rows."


def rows_above(path: Path, records: Sequence[Record], header_at: int) -> str:
    """Return the error message if rows precede the header (as after sorting a sheet with its header), else "".

    A single line above the header counts as a title, unless one of its values has the shape of those in its column.
    """
    header, body = records[header_at], records[header_at + 1 :]
    above = [record for record in records[:header_at] if not _is_title(record, len(header))]
    if len(above) == 1:
        columns = list(zip(*(record for record in body if len(record) == len(header)), strict=False))
        pairs = zip(above[0], columns, strict=False)
        above = above if any(_shape(value) in map(_shape, column) for value, column in pairs if value) else []
    if not above:
        return ""
    first = shortened(", ".join(above[0]))
    return (
        f"The header of {path} ({shortened(', '.join(header))!r}) is below other rows, the first of which is {first!r}."
    )


def _shape(value: str) -> str:
    """Reduce a value to its kinds of characters: `a` for letters, `9` for digits.

    >>> _shape("x12"), _shape("Fire near town")
    ('a9', 'a a a')
    """
    return re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "a", value.strip()))


def _is_title(record: Record, width: int) -> bool:
    """Whether a record above a header is a title: its width differs from the header's, or it has few values."""
    return len(record) != width or 2 * sum(value.strip() != "" for value in record) <= max(2, width // 2)


def _count_titles(records: Sequence[Record]) -> int:
    """Count the titles at the top: records of a single value where most records have more."""
    width = Counter(map(_filled_width, records)).most_common(1)[0][0]
    titles = 0
    while width > 1 and titles < min(HEADER_WITHIN, len(records) - 1) and _filled_width(records[titles]) == 1:
        titles += 1
    return titles


def _filled_width(record: Record) -> int:
    """Return the width of a record up to its last nonempty value."""
    return max((i + 1 for i, value in enumerate(record) if value.strip()), default=0)


def _skipped_notes(dialect: Dialect, lines: list[str]) -> list[str]:
    """Return a note for every line that is skipped above the header."""
    above = [(i + 1, line.strip()) for i, line in enumerate(lines[: dialect.above]) if line.strip()]
    return [f"Skipped line {number}, which is not a row: {shortened(line)!r}." for number, line in above]


def sample_lines(path: Path, encoding: str) -> list[str]:
    """Return the first lines of a file, from which its dialect and columns are detected."""
    with path.open("rb") as binary, open_text(binary, encoding) as stream:
        return next_lines(stream, SAMPLE_LINES, first=True)


def _find_delimiter(lines: list[str], encoding: str, header_confidence: HeaderTest, suffix: str) -> str:
    """Return the delimiter with which most rows have the same number of values, or `ONE_COLUMN` if there is none."""
    first = next((line.strip().strip('"') for line in lines if line.strip()), "")
    if known_text(first) or text_like(first):
        return ONE_COLUMN
    likelihood = {
        delimiter: _likelihood(Dialect(encoding, delimiter), lines, header_confidence) for delimiter in DELIMITERS
    }
    if suffix == ".txt":  # one text a line, unless a header is certain or fits every row
        likelihood |= {delimiter: 0.0 for delimiter in ",;|" if likelihood[delimiter] < 2.0}
        if likelihood["\t"] < 2.0 and not _start_with_ids(lines):
            likelihood["\t"] = 0.0
    if suffix in {".tsv", ".tab"} and likelihood["\t"] > 0:
        return "\t"
    best = max(likelihood, key=lambda delimiter: likelihood[delimiter])
    return best if likelihood[best] >= 0.7 else ONE_COLUMN


def _start_with_ids(lines: list[str]) -> bool:
    """Whether every line starts with a distinct id, followed by a tab."""
    ids = [line.partition("\t")[0].strip() for line in lines if line.strip()]
    return len(set(ids)) == len(ids) and all(re.fullmatch(r"\S*\d\S*", value) for value in ids)


def _likelihood(dialect: Dialect, lines: list[str], header_confidence: HeaderTest) -> float:
    """Return the fraction of rows with the most common width, plus the confidence of the header (1 or 2)."""
    records, _, faults, _ = parse_lines(dialect, lines, final=True)
    records = [record for record in records if not blank(record)]
    if not records:
        return 0.0
    header = header_at(records, header_confidence)
    if header is not None and len(records[header]) > 1:
        fitting = sum(len(record) == len(records[header]) for record in records[header:])
        return header_confidence(records[header]) + fitting / (len(records) - header + len(faults))
    width, number = Counter(map(len, records)).most_common(1)[0]
    prose = sum(_is_prose(line, dialect.delimiter) for line in lines)
    if width < 2 or prose > 0.8 * len(records) or (dialect.delimiter == "," and _commas_are_in_numbers(lines)):
        return 0.0
    return number / (len(records) + len(faults))


def _commas_are_in_numbers(lines: list[str]) -> bool:
    """Whether every comma is between digits, as in 10,000 or 3,5."""
    return all("," not in _BETWEEN_DIGITS.sub("", line) for line in lines)


def _is_prose(line: str, delimiter: str) -> bool:
    """Whether a space follows the first delimiter, as in prose, and the value before it is not a number."""
    before, _, after = line.partition(delimiter)
    return after.startswith(" ") and not before.strip(' "').isdecimal()


def _quotes_are_syntax(dialect: Dialect, lines: list[str]) -> bool:
    """Whether most values that start with a quote also end with one, as in CSV but not in prose."""
    opening = sum(line.startswith('"') or dialect.delimiter + '"' in line for line in lines)
    if not opening:
        header = next((line for line in lines if line.strip()), "")
        return dialect.delimiter != ONE_COLUMN or known_text(header)
    return 2 * len(parse_lines(dialect, lines, final=True)[2]) < opening


def _header_confidence(record: Record, request: ColumnRequest) -> int:
    """Rate a record as a header (see `HeaderTest`), by known names and by the names that the user requested."""
    names = [name.strip() for name in record]
    n_known = sum(map(known_name, names))
    requested = [name for name in (*request.text, request.item_id, request.label) if name and not name.isdecimal()]
    if n_known > 1 or (any(map(known_text, names)) and any(map(known_label, names))):
        return 2
    if any(find_name(record, name) is not None for name in requested):
        return 2
    return int((n_known == 1 and not any(map(str.isdecimal, names))) or (len(names) == 1 and text_like(names[0])))


def _looks_like_header(first: Record, body: Sequence[Record]) -> bool:
    """Whether a record without known names is a header: single words above longer texts or above few labels."""
    names = [name.strip() for name in first]
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        return False
    if any(character.isdigit() for name in names for character in name):
        return False
    columns = list(zip(*(row for row in body if len(row) == len(names)), strict=True))
    if not columns:
        return False
    if all(name.isidentifier() for name in names):
        return any(2 * sum(" " in value.strip() for value in column) > len(column) for column in columns)
    distinct = [set(map(folded_label, column)) for column in columns]
    if any(len(name) > 30 or folded_label(name) in values for name, values in zip(names, distinct, strict=True)):
        return False
    return len(columns[0]) >= 10 and any(2 <= len(values) <= len(columns[0]) // 4 for values in distinct)
