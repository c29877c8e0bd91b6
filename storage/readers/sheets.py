"""Read the sheets of Excel workbooks (.xlsx) in a separate process with limited memory."""

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
