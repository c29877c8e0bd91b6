"""Cells that a spreadsheet would run as formulas, in every CSV file that pal writes: those are for spreadsheets.

They begin with a byte order mark, too, by which Excel knows UTF-8. Parquet and JSON are for programs and hold every
value as it is.
"""

from __future__ import annotations

import re

_DANGEROUS = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")  # \n: what LibreOffice makes of \r


def neutralised(cell: str) -> str:
    """`cell` such that no spreadsheet runs it as a formula; `restored` undoes it.

    >>> neutralised("=1+1"), restored(neutralised("=1+1")), restored(neutralised("'=1"))
    ("'=1+1", '=1+1', "'=1")
    """
    return f"'{cell}" if _DANGEROUS.match(cell) else cell


def restored(cell: str) -> str:
    """`cell` as it was before `neutralised`."""
    return cell[1:] if cell.startswith("'") and _DANGEROUS.match(cell) else cell


def neutralised_sql(column: str) -> str:
    """`neutralised` in DuckDB's SQL, of a quoted column name."""
    pattern = _DANGEROUS.pattern.replace("'", chr(39) * 2)
    return f"CASE WHEN regexp_matches({column}, '^(?:{pattern})') THEN chr(39) || {column} ELSE {column} END"
