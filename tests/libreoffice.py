"""A real LibreOffice without a window for tests: it opens files, its user edits them, it saves them.

`Office` is what tests use. Run as a script, by a Python that has LibreOffice's `uno`, this file does the edits.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

WORKBOOK = ("Calc MS Excel 2007 XML", "")
OLD_WORKBOOK = ("MS Excel 97", "")
OPEN_DOCUMENT = ("calc8", "")
CSV_UTF8 = ("Text - txt - csv (StarCalc)", "44,34,76,1,,0,false,true,false")
CSV_SEMICOLON = ("Text - txt - csv (StarCalc)", "59,34,76,1,,0,false,true,false")
CSV_WINDOWS = ("Text - txt - csv (StarCalc)", "59,34,ANSI,1,,0,false,true,false")
CSV_UTF16_TABS = ("Text - txt - csv (StarCalc)", "9,34,65535,1,,0,false,true,false")
CSV_QUOTED = ("Text - txt - csv (StarCalc)", "44,34,76,1,,0,true,true,false")

Saved = tuple[str, str]
"""A filter of LibreOffice and its options."""
Edit = tuple[Any, ...]
"""The name of one of the edits below, and its arguments."""


class Office:
    """A running LibreOffice."""

    def __init__(self, pipe: str, python: str) -> None:
        self._pipe = pipe
        self._python = python

    def edit(
        self, path: Path, saves: Mapping[Path, Saved], edits: Sequence[Edit] = (), *, read_as: Saved = ("", "")
    ) -> None:
        """Open a file, edit it, and save it in every way asked for.

        Args:
            path: The file.
            saves: Where to save it -> as what.
            edits: In their order; see the functions `edit_...`.
            read_as: A filter and its options, where LibreOffice shall not find out itself.
        """
        job = {
            "pipe": self._pipe,
            "path": path.resolve().as_uri(),
            "read_as": read_as,
            "edits": edits,
            "saves": [(to.resolve().as_uri(), *how) for to, how in saves.items()],
        }
        command, content = [self._python, __file__], json.dumps(job).encode()
        for _ in range(2):
            done = subprocess.run(command, input=content, capture_output=True, timeout=3000, check=False)
            if done.returncode >= 0:  # else uno crashed, as it does at times on a busy machine
                break
        assert done.returncode == 0, f"{done.returncode}: {done.stderr.decode('utf-8', 'replace')}"


@contextmanager
def libreoffice(folder: Path) -> Iterator[Office]:
    """LibreOffice with a profile of its own in `folder`.

    The test is skipped where there is none, and fails for it where the environment has CI.
    """
    import pytest

    program = shutil.which("soffice")
    python = _python_with_uno(program) if program else None
    if program is None or python is None:
        absent = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("no soffice with Python's uno: apt-get install libreoffice-calc python3-uno")
    pipe = f"pal-{os.getpid()}"
    switches = ["--headless", "--norestore", "--nologo", "--nodefault", f"--accept=pipe,name={pipe};urp;"]
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    with subprocess.Popen(
        [program, profile, *switches],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield Office(pipe, python)
        finally:
            _end(process)


def _python_with_uno(program: str) -> str | None:
    """LibreOffice's own Python, else the system's."""
    beside = Path(program).resolve().parent
    for python in (beside / "python", beside / "python.exe", Path("/usr/bin/python3")):
        if python.exists():
            found = subprocess.run([str(python), "-c", "import uno"], capture_output=True, timeout=300, check=False)
            if found.returncode == 0:
                return str(python)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End LibreOffice and what it started: the program that is called is only a starter."""
    import signal

    with suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait(timeout=300)


# From here on: in a Python of LibreOffice. `sheet` and `document` are objects of its interface, UNO.


def edit_fill(sheet: Any, column: str, values: Mapping[str, str]) -> None:
    """Write into a column, by the row's text_hash; text stays text."""
    at, ids = _column(sheet, column), _column(sheet, "text_hash")
    for row in range(1, _size(sheet)[0]):
        value = values.get(sheet.getCellByPosition(ids, row).String)
        if value is not None:
            sheet.getCellByPosition(at, row).String = value


def edit_type(sheet: Any, column: str, values: Mapping[str, str]) -> None:
    """The same, in cells without a format: `1` becomes a number, `1/2` a date."""
    at, ids = _column(sheet, column), _column(sheet, "text_hash")
    for row in range(1, _size(sheet)[0]):
        value = values.get(sheet.getCellByPosition(ids, row).String)
        if value is not None:
            cell = sheet.getCellByPosition(at, row)
            cell.NumberFormat = 0
            cell.FormulaLocal = value


def edit_sort(sheet: Any, column: str, descending: bool = False) -> None:
    """Sort all rows under the header by a column, as the menu does."""
    import uno

    rows, columns = _size(sheet)
    field = uno.createUnoStruct("com.sun.star.table.TableSortField")
    field.Field, field.IsAscending = _column(sheet, column), not descending
    fields = uno.Any("[]com.sun.star.table.TableSortField", (field,))
    wanted = (_property("SortFields", fields), _property("ContainsHeader", True))
    uno.invoke(sheet.getCellRangeByPosition(0, 0, columns - 1, rows - 1), "sort", (wanted,))


def edit_insert_columns(sheet: Any, at: int, name: str, value: str) -> None:
    """A new column, named and filled."""
    rows = _size(sheet)[0]
    sheet.Columns.insertByIndex(at, 1)
    for row in range(rows):
        sheet.getCellByPosition(at, row).String = value if row else name


def edit_insert_rows(sheet: Any, at: int, count: int) -> None:
    """Blank rows."""
    sheet.Rows.insertByIndex(at, count)


def edit_delete_rows(sheet: Any, at: int, count: int) -> None:
    """Rows taken out."""
    sheet.Rows.removeByIndex(at, count)


def edit_move_column_to_front(sheet: Any, column: str) -> None:
    """Cut a column out and insert it before the first."""
    at, rows = _column(sheet, column) + 1, _size(sheet)[0]
    sheet.Columns.insertByIndex(0, 1)
    target = sheet.getCellByPosition(0, 0).CellAddress
    sheet.moveRange(target, sheet.getCellRangeByPosition(at, 0, at, rows - 1).RangeAddress)
    sheet.Columns.removeByIndex(at, 1)


def edit_hide_rows(sheet: Any, at: int, count: int) -> None:
    """Rows that a filter would hide."""
    for row in range(at, at + count):
        sheet.Rows.getByIndex(row).IsVisible = False


def edit_rename(sheet: Any, name: str) -> None:
    """Another name for the sheet."""
    sheet.Name = name


def _size(sheet: Any) -> tuple[int, int]:
    cursor = sheet.createCursor()
    cursor.gotoEndOfUsedArea(False)
    return cursor.RangeAddress.EndRow + 1, cursor.RangeAddress.EndColumn + 1


def _column(sheet: Any, name: str) -> int:
    return [sheet.getCellByPosition(at, 0).String for at in range(_size(sheet)[1])].index(name)


def _property(name: str, value: object) -> Any:
    import uno

    made = uno.createUnoStruct("com.sun.star.beans.PropertyValue")
    made.Name, made.Value = name, value
    return made


def _desktop(pipe: str) -> Any:
    """The running LibreOffice, once it answers."""
    import uno

    local = uno.getComponentContext()
    resolver = local.ServiceManager.createInstanceWithContext("com.sun.star.bridge.UnoUrlResolver", local)
    end = time.monotonic() + 300
    while True:
        try:
            context = resolver.resolve(f"uno:pipe,name={pipe};urp;StarOffice.ComponentContext")
            return context.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", context)
        except Exception as error:  # noqa: BLE001 - its exceptions are classes of its interface
            if time.monotonic() > end:
                raise RuntimeError(f"LibreOffice does not answer: {error}") from None
            time.sleep(0.2)


def _do(job: Mapping[str, Any]) -> None:
    desktop = _desktop(job["pipe"])
    name, options = job["read_as"]
    how = [_property("FilterName", name), _property("FilterOptions", options)] if name else []
    document = desktop.loadComponentFromURL(job["path"], "_blank", 0, tuple(how))
    if document is None:
        raise RuntimeError(f"LibreOffice does not open {job['path']}")
    try:
        for edit, *arguments in job["edits"]:
            globals()[f"edit_{edit}"](document.Sheets.getByIndex(0), *arguments)
        for to, name, options in job["saves"]:
            how = [_property("FilterName", name), _property("FilterOptions", options)]
            document.storeToURL(to, tuple(how))
    finally:
        document.close(True)


if __name__ == "__main__":
    _do(json.load(sys.stdin))
