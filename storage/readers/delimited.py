"""CSV, TSV and plain text: the dialect, detected from the first lines, and the rows in chunks."""

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
    Asked,
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
"""Rows that may stand above the header: blank ones, a title, `sep=;`."""

Recognize = Callable[[Record], int]
"""How surely a record is a header: 0 not, 1 where only titles stand above it, 2 in any case."""

_SEP = re.compile(r'\s*"?sep=(.)"?[\s,;]*', re.IGNORECASE)
_BETWEEN_DIGITS = re.compile(r"(?<=\d),(?=\d)")


def open_delimited(path: Path, encoding: str, asked: Asked, delimiter: str | None = None) -> Source:
    """Find out the dialect and the columns of a delimited file.

    Raises:
        SourceError: no rows, a delimiter that cannot be, or columns that cannot be told.
    """
    lines = sample_lines(path, encoding)
    dialect = find_dialect(path, lines, encoding, _delimiter(delimiter), asked)
    records, starts, _, _ = parse_lines(dialect, split_lines(dialect, lines), final=True)
    rows = [record for record, start in zip(records, starts + 1, strict=True) if start >= dialect.first_row]
    rows = [record for record in rows if not blank(record)]
    names = next((r for r, start in zip(records, starts + 1, strict=True) if start == dialect.header_row), None)
    if names is not None and not rows and not any(not line.isspace() for line in lines[dialect.first_row - 1 :]):
        raise SourceError(f"{path} holds a header and no rows.", hint="A file needs at least one text.")
    width = len(names) if names is not None else Counter(map(len, rows)).most_common(1)[0][0]
    dialect = replace(dialect, narrowest=width, widest=width)
    sample = [row for row in rows if len(row) == width]
    columns = choose_columns(path, names, sample, asked)
    form = Layout(str(dialect), encoding, "" if dialect.delimiter == ONE_COLUMN else dialect.delimiter)
    form = replace(form, notes=_skipped(dialect, lines))

    titles = unique_names(names if names is not None else [""] * width)

    def read(count: int, all_columns: bool) -> Iterator[Chunk]:
        for part in read_records(path, dialect, count):
            yield chunk_of(path, columns, part, dialect.delimiter, titles if all_columns else None)

    return Source(path, path.stat().st_size, layout_of(form, columns, names, sample, path), read)


def chunk_of(path: Path, columns: Columns, part: Records, delimiter: str, titles: Sequence[str] | None = None) -> Chunk:
    """Records that are all wide enough, checked.

    Args:
        delimiter: Joins the values of a reject.
        titles: The names of all columns, where every row is to come back with them.
    """
    from storage.readers.rows import (
        Cells,
        checked,
        string_cells,
    )  # batch files, which need the dialects alone, need no Arrow

    if titles is not None:
        chunk = chunk_of(path, columns.text_alone(), part, delimiter)
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
    """A chunk with every row of its records; of a row with too many values the last column has the rest."""
    import pyarrow as pa

    from storage.readers.rows import string_cells, with_all_rows

    width = len(titles)
    unfit = [
        [*values[: width - 1], delimiter.join(values[width - 1 :]), *[""] * width][:width]
        for values in part.unfit.values()
    ]
    numbers = np.concatenate([part.rows, np.fromiter(part.unfit, dtype=np.int64, count=len(unfit))])
    records = part.records + unfit
    if unfit:
        order = np.argsort(numbers)
        numbers, records = numbers[order], [records[i] for i in order.tolist()]
    cells = [string_cells([values[at] or None for values in records]) for at in range(width)]
    table = pa.table(cells, names=list(titles))
    return with_all_rows(chunk, numbers, table, None if id_at is None else cells[id_at])


def _delimiter(name: str | None) -> str | None:
    """A delimiter as people type it: the character itself, `\\t`, or its name."""
    named: dict[str, str] = {word: sign for sign, word in DELIMITERS.items()} | {"\\t": "\t"}
    delimiter = None if name is None else named.get(name.casefold(), name)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n '):
        raise SourceError(
            f"{name!r} cannot be a delimiter.", hint="--delimiter ',' or ';' or '|' or tab; or leave the option out."
        )
    return delimiter


def find_dialect(path: Path, lines: list[str], encoding: str, delimiter: str | None, asked: Asked = DETECT) -> Dialect:
    """The delimiter, whether quotes are syntax, and whether there is a header and what stands above it.

    Raises:
        SourceError: there is not a single record.
    """
    above = next((i + 1 for i, line in enumerate(lines[:HEADER_WITHIN]) if _SEP.fullmatch(line)), 0)
    if above and not any(line.strip() for line in lines[: above - 1]):
        found = _SEP.fullmatch(lines[above - 1])
        delimiter = delimiter or (found[1] if found else None)
        lines = ["\n"] * above + lines[above:]
    else:
        above = 0

    def is_header(record: Record) -> int:
        return _named(record, asked)

    if delimiter is None:
        delimiter = _find_delimiter(lines, encoding, is_header, path.suffix.casefold())
    dialect = fitted(Dialect(encoding, delimiter, above=above), lines, is_header)
    records, starts, _, _ = parse_lines(dialect, split_lines(dialect, lines), final=True)
    rows = [(record, int(start)) for record, start in zip(records, starts, strict=True) if not blank(record)]
    if not rows:
        raise SourceError(f"{path} holds no rows that can be read.", hint="A file needs at least one text.")
    head, body = find_header(path, [record for record, _ in rows], asked, alone=path.suffix.casefold() != ".txt")
    first = body if head is None else head
    above = rows[first - 1][1] + 1 if first else above
    return replace(dialect, above=above, header_row=0 if head is None else rows[head][1] + 1)


def find_header(path: Path, records: Sequence[Record], asked: Asked, *, alone: bool = True) -> tuple[int | None, int]:
    """Which record is the header, None for none, and which is the first row; what stands above them is neither.

    Raises:
        SourceError: Rows stand above the header.
    """
    at = header_at(records, lambda record: _named(record, asked), alone=alone)
    if at is not None:
        if what := rows_above(path, records, at):
            raise SourceError(what, hint=ROWS_ABOVE)
        return at, at + 1
    at = _titles(records)
    return (at, at + 1) if _heads(records[at], records[at + 1 :]) else (None, at)


def fitted(dialect: Dialect, lines: list[str], is_header: Recognize) -> Dialect:
    """A dialect of a known delimiter with the rest: quotes, backslashes and lone carriage returns."""
    if dialect.delimiter in {ONE_COLUMN, "\t"}:
        ways = (dialect, replace(dialect, escaped=True))
        dialect = replace(dialect, quoted=any(_quotes_are_syntax(each, lines) for each in ways))
    if dialect.quoted and any('\\"' in line for line in lines):
        dialect = min(dialect, replace(dialect, escaped=True), key=lambda each: _misfits(each, lines, is_header))
    if dialect.delimiter != ONE_COLUMN and any(line.endswith("\r") for line in lines):
        as_text = replace(dialect, lone_cr_is_text=True)
        dialect = min(dialect, as_text, key=lambda each: _misfits(each, lines, is_header))
    return dialect


def split_lines(dialect: Dialect, lines: list[str]) -> list[str]:
    """Lines as a dialect ends them."""
    return joined_at_lone_cr(lines) if dialect.lone_cr_is_text else lines


def _misfits(dialect: Dialect, lines: list[str], is_header: Recognize) -> int:
    """How many rows are no record, or not as wide as the header (else: as most)."""
    records, _, faults, _ = parse_lines(dialect, split_lines(dialect, lines), final=True)
    records = [record for record in records if not blank(record)]
    if not records:
        return len(faults)
    at = header_at(records, is_header)
    width = Counter(map(len, records)).most_common(1)[0][0] if at is None else len(records[at])
    return len(faults) + sum(len(record) != width for record in records[at or 0 :])


def header_at(records: Sequence[Record], is_header: Recognize, *, alone: bool = False) -> int | None:
    """Which record is the header: the first that is one and has nothing but titles above it.

    Args:
        alone: Whether a single name may be a header below a title.
    """
    above: list[Record] = []
    for at, record in enumerate(records[:HEADER_WITHIN]):
        sure = is_header(record) if at == 0 or len(record) > 1 or (alone and at < 3) else 0
        if sure > 1 or (sure and all(_is_title(each, len(record)) for each in above)):
            return at
        above.append(record)
    return None


ROWS_ABOVE = "Move the header to the first line, and remove what is above it and no row."


def rows_above(path: Path, records: Sequence[Record], at: int) -> str:
    """What is wrong where rows stand above the header, as after sorting a sheet with its header; empty where none do.

    A single line above it is a title, unless one of its values is made as those below it.
    """
    header, body = records[at], records[at + 1 :]
    above = [record for record in records[:at] if not _is_title(record, len(header))]
    if len(above) == 1:
        below = list(zip(*(record for record in body if len(record) == len(header)), strict=False))
        alike = (_shape(value) in map(_shape, column) for value, column in zip(above[0], below, strict=False) if value)
        above = above if any(alike) else []
    if not above:
        return ""
    first = shortened(", ".join(above[0]))
    return f"The header of {path} ({shortened(', '.join(header))!r}) is below rows, of which the first is {first!r}."


def _shape(value: str) -> str:
    """Of which kinds of characters a value is made.

    >>> _shape("x12"), _shape("Fire near town")
    ('a9', 'a a a')
    """
    return re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "a", value.strip()))


def _is_title(record: Record, width: int) -> bool:
    """Whether a record above a header of some width is no row: it has another width, or a single value."""
    return len(record) != width or 2 * sum(value.strip() != "" for value in record) <= max(2, width // 2)


def _titles(records: Sequence[Record]) -> int:
    """How many records at the top are titles: a single value where most records have more."""
    width = Counter(map(_filled, records)).most_common(1)[0][0]
    titles = 0
    while width > 1 and titles < min(HEADER_WITHIN, len(records) - 1) and _filled(records[titles]) == 1:
        titles += 1
    return titles


def _filled(record: Record) -> int:
    """How wide a record is up to its last value."""
    return max((i + 1 for i, value in enumerate(record) if value.strip()), default=0)


def _skipped(dialect: Dialect, lines: list[str]) -> list[str]:
    """What stands above the header, in sentences."""
    above = [(i + 1, line.strip()) for i, line in enumerate(lines[: dialect.above]) if line.strip()]
    return [f"Line {number} is not a row and is skipped: {shortened(line)!r}." for number, line in above]


def sample_lines(path: Path, encoding: str) -> list[str]:
    """The first lines of a file."""
    with path.open("rb") as binary, open_text(binary, encoding) as stream:
        return next_lines(stream, SAMPLE_LINES, first=True)


def _find_delimiter(lines: list[str], encoding: str, is_header: Recognize, suffix: str) -> str:
    """The delimiter under which most rows have the same number of values; `ONE_COLUMN` where none has."""
    first = next((line.strip().strip('"') for line in lines if line.strip()), "")
    if known_text(first) or text_like(first):
        return ONE_COLUMN
    likelihood = {delimiter: _likelihood(Dialect(encoding, delimiter), lines, is_header) for delimiter in DELIMITERS}
    if suffix == ".txt":  # one text a line, unless there is a header that every row fits, or one beyond doubt
        likelihood |= {each: 0.0 for each in ",;|" if likelihood[each] < 2.0}
        if likelihood["\t"] < 2.0 and not _ids_before_tabs(lines):
            likelihood["\t"] = 0.0
    if suffix in {".tsv", ".tab"} and likelihood["\t"] > 0:
        return "\t"
    best = max(likelihood, key=lambda delimiter: likelihood[delimiter])
    return best if likelihood[best] >= 0.7 else ONE_COLUMN


def _ids_before_tabs(lines: list[str]) -> bool:
    """Whether each line begins with another id, and a tab after it."""
    ids = [line.partition("\t")[0].strip() for line in lines if line.strip()]
    return len(set(ids)) == len(ids) and all(re.fullmatch(r"\S*\d\S*", each) for each in ids)


def _likelihood(dialect: Dialect, lines: list[str], is_header: Recognize) -> float:
    """The fraction of rows that have the commonest width, plus 1 or 2 for a header, as sure as it is."""
    records, _, faults, _ = parse_lines(dialect, lines, final=True)
    records = [record for record in records if not blank(record)]
    if not records:
        return 0.0
    at = header_at(records, is_header)
    if at is not None and len(records[at]) > 1:
        fitting = sum(len(record) == len(records[at]) for record in records[at:])
        return is_header(records[at]) + fitting / (len(records) - at + len(faults))
    width, number = Counter(map(len, records)).most_common(1)[0]
    prose = sum(_is_prose(line, dialect.delimiter) for line in lines)
    if width < 2 or prose > 0.8 * len(records) or (dialect.delimiter == "," and _commas_are_in_numbers(lines)):
        return 0.0
    return number / (len(records) + len(faults))


def _commas_are_in_numbers(lines: list[str]) -> bool:
    """Whether every comma is between digits, as in 10,000 or 3,5."""
    return all("," not in _BETWEEN_DIGITS.sub("", line) for line in lines)


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


def _named(record: Record, asked: Asked) -> int:
    """How surely a record names columns: by names that are known, or that the user asked for."""
    names = [name.strip() for name in record]
    number = sum(map(known_name, names))
    wanted = [name for name in (*asked.text, asked.item_id, asked.label) if name and not name.isdecimal()]
    if number > 1 or (any(map(known_text, names)) and any(map(known_label, names))):
        return 2
    if any(find_name(record, name) is not None for name in wanted):
        return 2
    return int((number == 1 and not any(map(str.isdecimal, names))) or (len(names) == 1 and text_like(names[0])))


def _heads(first: Record, body: Sequence[Record]) -> bool:
    """Whether a record of unknown names is a header: single words over longer texts, or over few labels."""
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
    values = [set(map(folded_label, column)) for column in columns]
    if any(len(name) > 30 or folded_label(name) in found for name, found in zip(names, values, strict=True)):
        return False
    return len(columns[0]) >= 10 and any(2 <= len(found) <= len(columns[0]) // 4 for found in values)
