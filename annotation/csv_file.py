"""A batch as CSV: written so that any spreadsheet opens it, read back in whatever way a spreadsheet saved it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from annotation.filled import FilledRow, RowError
from storage.errors import BatchError
from storage.records import BatchItem
from storage.sources.detect import find_encoding, open_text, readable_file

COLUMNS = ("text", "label", "note", "annotator", "item_id", "batch_id", "text_hash")
ERROR_COLUMN = "error"
MAX_BYTES = 200_000_000

_DANGEROUS = re.compile(r"'*[=+\-@\t\r]")


def write_csv(path: Path, batch_id: str, items: Sequence[BatchItem]) -> None:
    """Write a batch to fill in: UTF-8 with BOM, CRLF, header, one row an item."""
    rows = [
        {"text": item.text, "item_id": item.item_id, "batch_id": batch_id, "text_hash": item.text_hash}
        for item in items
    ]
    write_rows(path, rows, COLUMNS)


def write_errors(path: Path, errors: Sequence[RowError]) -> None:
    """Write the rows that were not taken, as they stood, with the reason; fixed, the file can be ingested itself."""
    columns = list(dict.fromkeys(name for error in errors for name in error.cells if name != ERROR_COLUMN))
    write_rows(path, [{**error.cells, ERROR_COLUMN: str(error)} for error in errors], [*columns, ERROR_COLUMN])


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Write rows under a header, cells that a spreadsheet would run as formulas made harmless."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([neutralised(row.get(name, "")) for name in columns] for row in rows)


def read_csv(path: Path, *, batch_id: str = "") -> list[FilledRow]:
    """Every row of a filled file: any order, extra columns, blank rows, `,` `;` or tab, any usual encoding.

    Args:
        batch_id: Of rows that name none.

    Raises:
        BatchError: The file is no batch file: it cannot be read, or has no column `label`, or none that says the item.
    """
    encoding, lines = _text(path)
    header, delimiter = _header(path, lines)
    lossy = encoding if encoding not in ("utf-8", "utf-16-le", "utf-16-be") else None
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter)
    rows: list[FilledRow] = []
    row = 1
    try:
        next(reader)
        for number, cells in enumerate(reader):
            row = number + 2
            named = dict(zip(header, (restored(cell) for cell in cells), strict=False))
            if any(cell.strip() for cell in cells):
                rows.append(_filled(row, named, batch_id, lossy))
    except csv.Error as error:
        raise BatchError(f"{path}, row {row}: {error}.", hint="open it in a spreadsheet and save it again.") from error
    return rows


def neutralised(cell: str) -> str:
    """`cell` such that no spreadsheet runs it as a formula; `restored` undoes it.

    >>> neutralised("=1+1"), restored(neutralised("=1+1")), restored(neutralised("'=1"))
    ("'=1+1", '=1+1', "'=1")
    """
    return f"'{cell}" if _DANGEROUS.match(cell) else cell


def restored(cell: str) -> str:
    """`cell` as it was before `neutralised`."""
    return cell[1:] if cell.startswith("'") and _DANGEROUS.match(cell) else cell


def _text(path: Path) -> tuple[str, str]:
    """A file's encoding and its whole text without BOM."""
    head = readable_file(path)
    if path.stat().st_size > MAX_BYTES:
        raise BatchError(f"{path} has {path.stat().st_size:,} bytes.", hint="a batch file is far smaller; split it.")
    encoding = find_encoding(path, head)
    with path.open("rb") as file:
        return encoding, open_text(file, encoding).read().removeprefix("\ufeff")


def _header(path: Path, text: str) -> tuple[list[str], str]:
    """The column names in lower case, and the delimiter under which they are those of a batch file."""
    first = text.lstrip("\r\n").splitlines()[0] if text.strip() else ""
    for delimiter in ",;\t|":
        names = [name.strip().casefold() for name in next(csv.reader([first], delimiter=delimiter), [])]
        if "label" in names and {"item_id", "text", "text_hash"} & set(names):
            return names, delimiter
    raise BatchError(
        f"{path} is no batch file: its first line {first[:80]!r} names no columns label and item_id.",
        hint=f"a batch file begins with: {','.join(COLUMNS)}. To add texts to the pool: pal import {path}",
    )


def _filled(row: int, cells: dict[str, str], batch_id: str, lossy: str | None) -> FilledRow:
    return FilledRow(
        row=row,
        batch_id=cells.get("batch_id", "").strip() or batch_id,
        item_id=cells.get("item_id", "").strip(),
        label=cells.get("label", ""),
        text=cells.get("text"),
        text_hash=cells["text_hash"].strip() if cells.get("text_hash") else None,
        note=cells.get("note", ""),
        annotator=cells.get("annotator", ""),
        lossy_encoding=lossy,
        cells=cells,
    )
