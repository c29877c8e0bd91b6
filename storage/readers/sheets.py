"""Read Excel workbooks (.xlsx) in a separate process with limited memory.

Texts are read from the first visible sheet that has rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage.errors import SourceError
from storage.readers.columns import ColumnRequest, choose_columns, layout_of, unique_names
from storage.readers.delimited import SAMPLE_LINES, chunk_of, find_header
from storage.readers.lines import Records, blank
from storage.readers.source import Chunk, Layout, Reject, Source, shortened

_PROGRAM = Path(__file__).with_name("workbook_process.py")


@dataclass(frozen=True)
class Sheet:
    """One sheet.

    Attributes:
        rows: Row number, from 1 -> cells from the first column on; empty rows are left out.
        formulas: Row and column, both from 1, of formulas saved without a value; their cells contain the formula.
    """

    name: str
    hidden: bool
    rows: dict[int, list[str]]
    formulas: frozenset[tuple[int, int]]


class WorkbookReader:
    """Reads workbooks in one process, which starts with the first workbook and ends with this object."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def sheets(self, path: Path) -> list[Sheet]:
        """Read every sheet of a workbook in order, including hidden rows and columns.

        Numbers have the 15 digits that a spreadsheet keeps, dates are in ISO 8601, formulas have the value from when
        the file was saved. Cells that are merged vertically all have the same value.

        Raises:
            SourceError: The file is not a workbook, is damaged, or is too large.
        """
        sheets: list[Sheet] = []
        formulas: set[tuple[int, int]] = set()
        for message in self._messages(path):
            if isinstance(message, dict):
                formulas = set()
                sheets.append(Sheet(message["name"], message["hidden"], {}, frozenset()))
            else:
                row, cells, columns = message
                sheets[-1].rows[row] = cells
                if columns:
                    formulas |= {(row, column + 1) for column in columns}
                    sheets[-1] = replace(sheets[-1], formulas=frozenset(formulas))
        return sheets

    def _messages(self, path: Path) -> Iterator[Any]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="ascii",
            )
            weakref.finalize(self, _end, self._process)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(str(path.absolute())) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            if message is True:
                return
            if isinstance(message, list) and isinstance(message[0], str):
                fault, hint = message
                raise SourceError(f"{path} {fault}.", hint=hint)
            yield message
        _end(process)
        self._process = None
        raise SourceError(
            f"{path} needs more memory or time than a workbook of its size should.",
            hint="Copy the rows into a new workbook and use that file.",
        )


def _end(process: subprocess.Popen[str]) -> None:
    """Stop the process; it is safe to call this more than once."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # a request that was not sent
                pipe.close()


NO_VALUE = "holds a formula whose value was not saved: open the file in a spreadsheet and save it"


def open_workbook(path: Path, request: ColumnRequest) -> Source:
    """Detect the sheet and the columns to read: the first visible sheet with rows below a header, else the first.

    Raises:
        SourceError: The file cannot be read or has no rows, or the choice of a column is ambiguous.
    """
    sheets = [sheet for sheet in WorkbookReader().sheets(path) if sheet.rows]
    if not sheets:
        raise SourceError(f"{path} has no rows.", hint="A file needs at least one text.")
    sheet = next((sheet for sheet in sheets if not sheet.hidden and len(sheet.rows) > 1), sheets[0])
    notes = [f"Skipped sheet {other.name!r}." for other in sheets if other is not sheet]
    numbers, records = list(sheet.rows), list(sheet.rows.values())
    width = max(map(len, records))
    records = [record + [""] * (width - len(record)) for record in records]
    head, body = find_header(path, records[:SAMPLE_LINES], request)
    names = records[head] if head is not None else None
    notes += [
        f"Skipped row {numbers[i]}, which is not data: {shortened(' '.join(filter(None, records[i])))!r}."
        for i in range(body - (head is not None))
    ]
    if body == len(records):
        raise SourceError(f"{path} has a header but no rows.", hint="A file needs at least one text.")
    sample = records[body : body + SAMPLE_LINES]
    columns = choose_columns(path, names, sample, request)
    titles = unique_names(names if names is not None else [""] * width)
    size = path.stat().st_size

    def read(count: int, all_columns: bool) -> Iterator[Chunk]:
        import numpy as np

        checked = {*columns.texts} if all_columns else columns.used - {*columns.context.values()}
        used = {position + 1 for position in checked}
        valueless = {row for row, column in sheet.formulas if column in used}
        for start in range(body, len(records), count):
            rows = range(start, min(start + count, len(records)))
            good = [i for i in rows if numbers[i] not in valueless and not blank(records[i])]
            malformed = {numbers[i]: records[i] for i in rows if numbers[i] in valueless}
            rejects = [
                Reject(str(path), row, shortened(" ".join(filter(None, record))), NO_VALUE)
                for row, record in malformed.items()
            ]
            good_numbers = np.array([numbers[i] for i in good], dtype=np.int64)
            bytes_read = size * rows.stop // len(records)
            part = Records([records[i] for i in good], good_numbers, rejects, bytes_read, malformed)
            yield chunk_of(path, columns, part, " ", titles if all_columns else None)

    form = Layout(f"Excel workbook, sheet {sheet.name!r}, {'header' if names else 'no header'}", notes=notes)
    return Source(path, size, layout_of(form, columns, names, sample, path), read)
