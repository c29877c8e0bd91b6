"""A table as an Excel workbook with one sheet, written row by row: texts stay texts, numbers and dates are such."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

MOST_ROWS = 1_048_575
"""Below the header."""
MOST_IN_A_CELL = 32_767
"""UTF-16 units; a longer text is cut."""


def write_sheet(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows; characters that no spreadsheet can hold are left out."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("rows")

    def cell(value: Any) -> Any:
        if isinstance(value, datetime | time) and value.tzinfo is not None:
            value = value.isoformat()  # a cell has no time zone
        if value is None or isinstance(value, int | float | date | time):
            return value
        made = WriteOnlyCell(sheet, _as_kept(value if isinstance(value, str) else str(value)))
        made.data_type = "s"  # `=1+1` and `#N/A` too
        return made

    sheet.append([cell(name) for name in names])
    for row in rows:
        sheet.append([cell(value) for value in row])
    workbook.save(path)


def _as_kept(text: str) -> str:
    """`text` as a spreadsheet can hold it, and as a workbook writes that."""
    text = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", text)
    text = text.encode("utf-16-le")[: 2 * MOST_IN_A_CELL].decode("utf-16-le", "ignore")
    return re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)  # one that looks like a character written by its number
