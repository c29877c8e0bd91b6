"""Parse lines into records, strictly: a malformed record is rejected, and parsing resumes on its second line."""

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
ONE_COLUMN = "\x1f"  # means "no delimiter": this character does not occur in texts that people write
MISQUOTED = 'a quote (") opens a value and does not close it as it should'
BACKSLASH = MISQUOTED + r' (\" is not read as a quote here: write "" instead)'
LONE_CR = "\ud800"  # replaces a lone CR while rows are split: decoding never yields this character
Record = list[str]

_ESCAPE = re.compile(r'\\(["\\])')


@dataclass(frozen=True)
class Dialect:
    """How the lines of a file are parsed; well-formed records have `narrowest` to `widest` values."""

    encoding: str
    delimiter: str
    quoted: bool = True
    header_row: int = 0  # the line of the header, from 1; 0 if there is none
    narrowest: int = 1
    widest: int = 1_000_000
    above: int = 0  # lines at the top that are neither header nor rows
    escaped: bool = False  # quotes inside values are written \" instead of ""
    lone_cr_is_text: bool = False

    @property
    def first_row(self) -> int:
        """The number of the first line, from 1, that may be a row."""
        return max(self.header_row, self.above) + 1

    def reader(self, lines: Iterable[str]) -> Reader:
        """Return a strict csv reader of some lines."""
        return csv.reader(
            map(_unescaped, lines) if self.escaped else lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            skipinitialspace=True,
            strict=True,
        )

    def __str__(self) -> str:
        """Describe the dialect, as in `CSV, comma, UTF-8, header`."""
        name = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        kind = "plain text, one text per line" if self.delimiter == ONE_COLUMN else f"CSV, {name}"
        parts = [kind, NAMES.get(self.encoding, self.encoding), "header" if self.header_row else "no header"]
        if self.delimiter != ONE_COLUMN and not self.quoted:
            parts.append("quotes are text")
        return ", ".join([*parts, "quotes escaped with a backslash"] if self.escaped else parts)


def _unescaped(line: str) -> str:
    """Convert the backslash escapes of a line to the doubled quotes of CSV."""
    return _ESCAPE.sub(lambda match: '""' if match[1] == '"' else "\\", line) if "\\" in line else line


@dataclass(frozen=True)
class Records:
    """The records of some lines.

    Attributes:
        records: n well-formed records.
        rows: The line on which each record starts, from 1, shape (n,).
        rejects: The malformed rows.
        bytes_read: The position in the file after these lines.
        malformed: Line number -> values of a malformed row, as far as they can be separated.
    """

    records: list[Record]
    rows: NDArray[np.int64]
    rejects: list[Reject]
    bytes_read: int
    malformed: dict[int, Record] = field(default_factory=dict)


def read_records(path: Path, dialect: Dialect, count: int) -> Iterator[Records]:
    """Yield the records of a file, `count` lines at a time, without the header and the lines above it."""
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
            part.malformed.update({reject.row: _split(dialect, lines[reject.row - first_row]) for reject in rejects})
            if lines:
                yield replace(part, rejects=rejects + part.rejects, bytes_read=size if final else binary.tell())
            carried = lines[used:]
            first_row += used


def parse_lines(
    dialect: Dialect, lines: list[str], *, final: bool
) -> tuple[list[Record], NDArray[np.int64], list[tuple[int, str]], int]:
    """Parse lines into records.

    Args:
        dialect: How to parse them.
        lines: The lines.
        final: Whether the file ends here; if not, an unfinished record at the end is not parsed yet.

    Returns:
        The n records; the index of the line on which each starts, shape (n,); index and reason of each malformed
        line; and the number of lines that were used.
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
    """Join lines that end with a lone CR to the next line, with `LONE_CR` in place of the CR."""
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
    """Disable the garbage collector, which would traverse all records repeatedly without finding garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def blank(record: Sequence[str]) -> bool:
    """Whether all values of a record are empty or white space."""
    return not any(map(str.strip, record))


def _parse_with_care(
    dialect: Dialect, lines: list[str], *, final: bool
) -> tuple[list[Record], NDArray[np.int64], list[tuple[int, str]], int]:
    """Parse as `parse_lines` does, but record by record: after a fault, resume on the line after its first line."""
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
    """Keep the records with the right number of values and reject the others; drop blank records and the header."""
    widths = np.fromiter(map(len, records), dtype=np.int64, count=len(records))
    good = (widths >= dialect.narrowest) & (widths <= dialect.widest)
    misshaped = np.flatnonzero(~good & (rows >= dialect.first_row)).tolist()
    malformed = {int(rows[i]): records[i] for i in misshaped if not blank(records[i])}
    rejects = [
        Reject(str(path), row, shortened(dialect.delimiter.join(record)), _width_fault(dialect, len(record)))
        for row, record in malformed.items()
    ]
    good &= rows >= dialect.first_row
    return Records(records if good.all() else list(compress(records, good)), rows[good], rejects, 0, malformed)


def _split(dialect: Dialect, line: str) -> Record:
    """Split a line with malformed quotes at every delimiter."""
    return line.rstrip("\r\n").replace(LONE_CR, "\r").split(dialect.delimiter)


def _width_fault(dialect: Dialect, width: int) -> str:
    name = DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
    if width < dialect.narrowest:
        return f"too few values: {width}, expected {dialect.narrowest}"
    return f"too many values: {width}, expected {dialect.widest}; an unquoted {name} in the text?"
