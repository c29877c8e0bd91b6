"""Escape cells that a spreadsheet would execute as formulas, in every CSV file that pal writes.

CSV files also start with a byte order mark, by which Excel detects UTF-8. Parquet and JSON are for programs: their
values are unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
