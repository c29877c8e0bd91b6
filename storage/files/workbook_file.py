"""A table as an Excel workbook with one sheet, written row by row: numbers are numbers, all else is text."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

MOST_ROWS = 1_048_575
"""Below the header."""
MOST_IN_A_CELL = 32_767
"""UTF-16 units."""
MOST_EXACT = 10**15
"""A spreadsheet keeps 15 digits of a number; longer ones (ids) are written as text."""

log = logging.getLogger(__name__)


def write_sheet(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows; characters that no spreadsheet can hold are left out, texts too long for one are cut."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("rows")
    n_cut = 0

    def cell(value: Any) -> Any:
        if value is None or (isinstance(value, int | float) and abs(value) < MOST_EXACT):
            return value
        whole = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", str(value))
        text = whole.encode("utf-16-le")[: 2 * MOST_IN_A_CELL].decode("utf-16-le", "ignore")
        nonlocal n_cut
        n_cut += text != whole
        text = re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)  # one that looks like a character written by its number
        made = WriteOnlyCell(sheet, text)
        made.data_type = "s"  # `=1+1` and `#N/A` too
        return made

    sheet.append([cell(name) for name in names])
    for row in rows:
        sheet.append([cell(value) for value in row])
    workbook.save(path)
    if n_cut:
        log.warning("%d texts were cut to %d characters, the most that a cell holds.", n_cut, MOST_IN_A_CELL)
