"""Tables for spreadsheets: an Excel workbook with one sheet, written row by row, and cells of CSV files made harmless.

Numbers are written as numbers, everything else as text. Cells that a spreadsheet would execute as formulas are escaped
in every CSV file that pal writes. CSV files also start with a byte order mark, by which Excel detects UTF-8. Parquet
and JSON are for programs: their values are unchanged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

MOST_ROWS = 1_048_575
"""Rows that fit below the header of a sheet."""
MOST_IN_A_CELL = 32_767
"""Length limit of a cell in UTF-16 code units."""
MOST_EXACT = 10**15
"""A spreadsheet keeps 15 digits of a number; longer numbers (ids) are written as text."""

log = logging.getLogger(__name__)


def write_sheet(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows; characters that are invalid in a workbook are removed, texts too long for a cell cut.

    Args:
        path: The workbook; an existing file is replaced.
        names: The names of the k columns.
        rows: Rows of k values each; None writes an empty cell.
    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("rows")
    n_cut = 0

    def cell(value: Any) -> Any:
        if value is None or (isinstance(value, int | float) and abs(value) < MOST_EXACT):
            return value
        valid = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", str(value))
        text = valid.encode("utf-16-le")[: 2 * MOST_IN_A_CELL].decode("utf-16-le", "ignore")
        nonlocal n_cut
        n_cut += text != valid
        text = re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)  # would be read as an escaped character
        text_cell = WriteOnlyCell(sheet, text)
        text_cell.data_type = "s"  # also for `=1+1` and `#N/A`
        return text_cell

    sheet.append([cell(name) for name in names])
    for row in rows:
        sheet.append([cell(value) for value in row])
    workbook.save(path)
    if n_cut:
        log.warning("Truncated %d texts to %d characters, the maximum of a cell.", n_cut, MOST_IN_A_CELL)


_DANGEROUS = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")  # LibreOffice reads \r as \n


def neutralised(cell: str) -> str:
    """Escape a cell so that no spreadsheet executes it as a formula; `restored` undoes this.

    >>> neutralised("=1+1"), restored(neutralised("=1+1")), restored(neutralised("'=1"))
    ("'=1+1", '=1+1', "'=1")
    """
    return f"'{cell}" if _DANGEROUS.match(cell) else cell


def neutralised_rows(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Escape every cell of a table."""
    return [[neutralised(cell) for cell in row] for row in rows]


def restored(cell: str) -> str:
    """Return a cell as it was before `neutralised`."""
    return cell[1:] if cell.startswith("'") and _DANGEROUS.match(cell) else cell


def neutralised_sql(column: str) -> str:
    """Return the expression in DuckDB's SQL that applies `neutralised` to a quoted column name."""
    pattern = _DANGEROUS.pattern.replace("'", chr(39) * 2)
    return f"CASE WHEN regexp_matches({column}, '^(?:{pattern})') THEN chr(39) || {column} ELSE {column} END"
