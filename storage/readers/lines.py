"""Lines into records, strictly: a record that is none costs its first line, and reading resumes on the next."""

from __future__ import annotations

import csv
import gc
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from storage.readers.file_kinds import NAMES, next_lines, open_text
from storage.readers.source import MAX_CHARACTERS, TOO_LONG, Reject, shortened

if TYPE_CHECKING:
    from _csv import Reader

MAX_RECORD_CHARACTERS = 1_000_000
DELIMITERS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
ONE_COLUMN = "\x1f"  # stands for "no delimiter": it is in no text a person wrote
MISQUOTED = 'a quote (") opens a value and does not close it as it should'
BACKSLASH = MISQUOTED + r' (\" is not read as a quote here: write "" instead)'
LONE_CR = "\ud800"  # stands for one while rows are split: it is in no text that was read
Record = list[str]

_ESCAPE = re.compile(r'\\(["\\])')


@dataclass(frozen=True)
class Dialect:
    """How a file's lines become records; good records have `narrowest` to `widest` values."""

    encoding: str
    delimiter: str
    quoted: bool = True
    header_row: int = 0  # its line from 1; 0 without
    narrowest: int = 1
    widest: int = 1_000_000
    above: int = 0  # lines at the top that are neither header nor rows; counted together with the header's
    escaped: bool = False  # quotes inside values are written \" and not ""
    lone_cr_is_text: bool = False

    @property
    def first_row(self) -> int:
        """The first line, from 1, that may be a row."""
        return max(self.header_row, self.above) + 1

    def reader(self, lines: Iterable[str]) -> Reader:
        """A strict csv reader over lines."""
        return csv.reader(
            map(_unescaped, lines) if self.escaped else lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            skipinitialspace=True,
            strict=True,
        )

    def __str__(self) -> str:
        """In words: `CSV, UTF-8, comma, header`."""
        name = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        kind = "plain text, one text a line" if self.delimiter == ONE_COLUMN else f"CSV, {name}"
        parts = [kind, NAMES.get(self.encoding, self.encoding), "header" if self.header_row else "no header"]
        if self.delimiter != ONE_COLUMN and not self.quoted:
            parts.append("quotes are text")
        return ", ".join([*parts, "quotes after a backslash"] if self.escaped else parts)


def _unescaped(line: str) -> str:
    """A line whose quotes are escaped with a backslash, as CSV has them."""
    return _ESCAPE.sub(lambda match: '""' if match[1] == '"' else "\\", line) if "\\" in line else line


@dataclass(frozen=True)
class Records:
    """Records of some lines.

    Attributes:
        rows: The line each record starts on, from 1, shape (n,).
        rejects: The rows that are no record.
        unfit: Their values as far as they can be told, by row; as many as there are.
    """

    records: list[Record]
    rows: NDArray[np.int64]
    rejects: list[Reject]
    bytes_read: int
    unfit: dict[int, Record] = field(default_factory=dict)


def read_records(path: Path, dialect: Dialect, count: int) -> Iterator[Records]:
    """The records of a file, `count` lines at a time, without blank rows, the header and what stands above it."""
    size = path.stat().st_size
    with path.open("rb") as binary, open_text(binary, dialect.encoding) as stream:
        carried: list[str] = []
        first_row = 1  # the line number of carried[0], or of the next line read
        final = False
        while not final:
            fresh = next_lines(stream, count, first=first_row == 1 and not carried)
            while dialect.lone_cr_is_text and fresh and fresh[-1].endswith("\r") and (more := next_lines(stream, 1)):
                fresh += more
            if dialect.lone_cr_is_text:
                fresh = joined_at_lone_cr(fresh)
            final = not fresh
            lines = carried + fresh
            records, starts, faults, used = parse_lines(dialect, lines, final=final)
            rejects = [
                Reject(str(path), first_row + start, shortened(lines[start]), reason)
                for start, reason in faults
                if first_row + start >= dialect.first_row
            ]
            part = _well_shaped(path, dialect, records, starts + first_row)
            part.unfit.update({each.row: _split(dialect, lines[each.row - first_row]) for each in rejects})
            if lines:
                yield replace(part, rejects=rejects + part.rejects, bytes_read=size if final else binary.tell())
            carried = lines[used:]
            first_row += used


def parse_lines(
    dialect: Dialect, lines: list[str], *, final: bool
) -> tuple[list[Record], NDArray[np.int64], list[tuple[int, str]], int]:
    """Split lines into records.

    Returns:
        The records; the index of the line each starts on, shape (n,); the lines that are no record, with the
        reason; and how many lines were used (all when `final`; else an unfinished record is left for later).
    """
    try:
        with _no_collection():
            records = list(dialect.reader(lines))
        if len(records) == len(lines):
            if dialect.lone_cr_is_text:
                records = _with_lone_cr(records)
            return records, np.arange(len(lines), dtype=np.int64), [], len(lines)
    except csv.Error:
        pass
    records, starts, faults, used = _parse_with_care(dialect, lines, final=final)
    return _with_lone_cr(records) if dialect.lone_cr_is_text else records, starts, faults, used


def joined_at_lone_cr(lines: list[str]) -> list[str]:
    """Lines that end with CRLF or LF only; `LONE_CR` stands for each CR between."""
    joined: list[str] = []
    begun = ""
    for line in lines:
        if line.endswith("\r"):
            begun += line[:-1] + LONE_CR
        else:
            joined.append(begun + line)
            begun = ""
    return [*joined, begun] if begun else joined


def _with_lone_cr(records: list[Record]) -> list[Record]:
    return [[value.replace(LONE_CR, "\r") for value in record] for record in records]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which looks at every record several times and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def blank(record: Sequence[str]) -> bool:
    """Whether no value of a record holds anything but spaces."""
    return not any(map(str.strip, record))


def _parse_with_care(
    dialect: Dialect, lines: list[str], *, final: bool
) -> tuple[list[Record], NDArray[np.int64], list[tuple[int, str]], int]:
    """As `parse_lines`, record by record: after a fault, reading resumes on the line after the one it began on."""
    records: list[Record] = []
    starts: list[int] = []
    faults: list[tuple[int, str]] = []
    start = 0
    while start < len(lines):
        base = start
        reader = dialect.reader(map(lines.__getitem__, range(base, len(lines))))
        try:
            for record in reader:
                end = base + reader.line_num
                if end - start > 1 and not dialect.narrowest <= len(record) <= dialect.widest:
                    raise csv.Error(MISQUOTED)  # a stray quote that ran into another one
                records.append(record)
                starts.append(start)
                start = end
        except csv.Error:
            ran_out = base + reader.line_num >= len(lines)
            if ran_out and not final and sum(map(len, lines[start:])) <= MAX_RECORD_CHARACTERS:
                break
            reason = BACKSLASH if '\\"' in lines[start] and not dialect.escaped else MISQUOTED
            faults.append((start, TOO_LONG if len(lines[start]) > MAX_CHARACTERS else reason))
            start += 1
    return records, np.array(starts, dtype=np.int64), faults, start


def _well_shaped(path: Path, dialect: Dialect, records: list[Record], rows: NDArray[np.int64]) -> Records:
    """The records with the right number of values; the others rejected, blank ones and the header dropped."""
    widths = np.fromiter(map(len, records), dtype=np.int64, count=len(records))
    good = (widths >= dialect.narrowest) & (widths <= dialect.widest)
    misshaped = np.flatnonzero(~good & (rows >= dialect.first_row)).tolist()
    unfit = {int(rows[i]): records[i] for i in misshaped if not blank(records[i])}
    rejects = [
        Reject(str(path), row, shortened(dialect.delimiter.join(record)), _misshaped(dialect, len(record)))
        for row, record in unfit.items()
    ]
    good &= rows >= dialect.first_row
    return Records(records if good.all() else list(compress(records, good)), rows[good], rejects, 0, unfit)


def _split(dialect: Dialect, line: str) -> Record:
    """The values of a line whose quotes are wrong."""
    return line.rstrip("\r\n").replace(LONE_CR, "\r").split(dialect.delimiter)


def _misshaped(dialect: Dialect, width: int) -> str:
    name = DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
    if width < dialect.narrowest:
        return f"too few values: {width} where {dialect.narrowest} are needed"
    return f"too many values: {width} where there should be {dialect.widest}; an unquoted {name} in the text?"
