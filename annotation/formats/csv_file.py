"""A batch as CSV: written so that any spreadsheet opens it, read back in whatever way a spreadsheet saved it."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from annotation.checks import FilledRow, RowError
from annotation.handout import Handout
from storage.errors import BatchError, SourceError
from storage.lake.items import text_hash
from storage.readers.file_kinds import find_encoding, open_text, readable_file

COLUMNS = ("text", "label", "note", "annotator", "item_id", "batch_id", "text_hash")
CONTEXT_COLUMN = "answers so far"
ERROR_COLUMN = "error"
MAX_BYTES = 200_000_000
HEADER_WITHIN = 10
"""Rows that may stand above the header: blank ones, a title, `sep=;`."""

_DANGEROUS = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")  # \n: what LibreOffice makes of \r
_TO_QUOTE = re.compile(r'[,;|\t"\r\n]|^\s|\s$')
_LONE_CR = "\ud800"  # stands for one while rows are split: it is in no text that was read
_LEGACY = ("cp1252", "mac_roman", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gbk", "cp949", "big5")


def write_csv(path: Path, handout: Handout) -> None:
    """Write a batch to fill in: UTF-8 with BOM, CRLF, header, one row an item."""
    write_rows(path, list(cells_of(handout)), columns_of(handout))


def columns_of(handout: Handout) -> tuple[str, ...]:
    """The columns of a file to fill in; one more, after the note, where there is something to show beside a text."""
    shown = (CONTEXT_COLUMN,) if any(item.context for item in handout.items) else ()
    return (*COLUMNS[:3], *shown, *COLUMNS[3:])


def cells_of(handout: Handout) -> Iterator[dict[str, str]]:
    """The cells of every row to fill in, by column; those that are missing are empty."""
    for item in handout.items:
        yield {
            "text": item.text,
            CONTEXT_COLUMN: item.context,
            "annotator": handout.annotator,
            "item_id": item.item_id,
            "batch_id": handout.batch_id,
            "text_hash": item.text_hash,
        }


def write_errors(path: Path, errors: Sequence[RowError]) -> None:
    """Write the rows that were not taken, as they stood, with the reason; fixed, the file can be ingested itself."""
    columns = list(dict.fromkeys(name for error in errors for name in error.cells if name != ERROR_COLUMN))
    write_rows(path, [{**error.cells, ERROR_COLUMN: str(error)} for error in errors], [*columns, ERROR_COLUMN])


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Write rows under a header, cells that a spreadsheet would run as formulas made harmless.

    Every cell with a character that may separate cells is quoted: LibreOffice splits at `,` `;` and tab alike.
    """
    cells = (columns, *([neutralised(row.get(name, "")) for name in columns] for row in rows))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        file.writelines(",".join(map(_quoted, line)) + "\r\n" for line in cells)


def read_csv(path: Path, *, batch_id: str = "") -> list[FilledRow]:
    """Every row of a filled file: any order, extra columns, blank rows, `,` `;` or tab, any usual encoding.

    Where an old encoding or the quotes of a tab-separated file can be read in several ways, the way counts in which
    the most texts have their text_hash.

    Args:
        batch_id: Of rows that name none.

    Raises:
        BatchError: The file is no batch file: it cannot be read, or has no column `label`, or none that says the item.
    """
    best: list[FilledRow] = []
    intact = -1
    for rows in _readings(path, batch_id):
        hashed = [row for row in rows if row.text and row.text_hash]
        found = sum(text_hash(row.text or "") == row.text_hash for row in hashed)
        if found > intact:
            best, intact = rows, found
        if found == len(hashed):
            break
    return best


def column_names(path: Path, cells: Sequence[str]) -> list[str] | None:
    """The columns of a batch file in lower case, where `cells` are its header; None where they are none.

    Raises:
        BatchError: A column that counts is there twice.
    """
    names = [name.strip().casefold() for name in cells]
    if "label" not in names or not {"item_id", "text", "text_hash"} & set(names):
        return None
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        what = f"{path} has {names.count(twice[0])} columns named {twice[0]!r}."
        raise BatchError(what, hint="keep one, rename the others.")
    return names


def filled_row(
    row: int, cells: Mapping[str, str], batch_id: str, *, lossy: str | None = None, part: str = ""
) -> FilledRow:
    """A row of its cells by column name; of `batch_id` where it names none; `lossy` and `part` as in FilledRow."""
    batch_id = cells.get("batch_id", "").strip() or batch_id
    return FilledRow(
        row=row,
        batch_id=batch_id,
        item_id=cells.get("item_id", "").strip(),
        label=cells.get("label", ""),
        text=cells.get("text"),
        text_hash=cells.get("text_hash", "").strip() or None,
        note=cells.get("note", ""),
        annotator=cells.get("annotator", ""),
        lossy_encoding=lossy,
        cells={**cells, "batch_id": batch_id},
        part=part,
        workspace_id=cells.get("workspace_id", "").strip(),
    )


def no_batch_file(path: Path, first: str) -> BatchError:
    """The error of a file without such a header; `first` is what stands in its first row."""
    return BatchError(
        f"{path} is no batch file: its first line {first!r} names no columns label and item_id.",
        hint=f"a batch file begins with: {','.join(COLUMNS)}. To add texts to the pool: pal import {path}",
    )


def neutralised(cell: str) -> str:
    """`cell` such that no spreadsheet runs it as a formula; `restored` undoes it.

    >>> neutralised("=1+1"), restored(neutralised("=1+1")), restored(neutralised("'=1"))
    ("'=1+1", '=1+1', "'=1")
    """
    return f"'{cell}" if _DANGEROUS.match(cell) else cell


def restored(cell: str) -> str:
    """`cell` as it was before `neutralised`."""
    return cell[1:] if cell.startswith("'") and _DANGEROUS.match(cell) else cell


def as_unicode(text: str) -> str:
    """`text` with every lone surrogate (a byte that was no text) as U+FFFD: no file and no lake takes one."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _TO_QUOTE.search(cell) else cell


def _readings(path: Path, batch_id: str) -> Iterator[list[FilledRow]]:
    """The rows of a file in every way that it can be read, the likeliest first."""
    encoding = _encoding(path)
    for name in _LEGACY if encoding == "cp1252" else (encoding,):
        with path.open("rb") as binary, open_text(binary, name) as file:
            text = as_unicode(file.read().removeprefix("\ufeff"))
        columns, delimiter, header_row = _header(path, text)
        lossy = None if name.startswith("utf-") else name
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE) if delimiter == "\t" else (csv.QUOTE_MINIMAL,):
            try:
                records = list(enumerate(_records(text, delimiter, quoting), start=1))
            except csv.Error as error:
                if (name, quoting) != (encoding, csv.QUOTE_MINIMAL):
                    continue
                raise BatchError(f"{path}: {error}.", hint="open it in a spreadsheet and save it again.") from error
            yield [
                filled_row(row, dict(zip(columns, map(restored, cells), strict=False)), batch_id, lossy=lossy)
                for row, cells in records
                if row > header_row and any(cell.strip() for cell in cells)
            ]


def _records(text: str, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> Iterator[list[str]]:
    """Every row of cells; a lone CR ends a row only where the first row ends with one."""
    end = re.search(r"\r\n|\n|\r", text)
    if end is None or end.group() != "\r":
        text = re.sub(r"\r(?!\n)", _LONE_CR, text)
    for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting):
        yield [cell.replace(_LONE_CR, "\r") for cell in cells]


def _encoding(path: Path) -> str:
    try:
        head = readable_file(path)
    except SourceError as error:
        hint = (
            "fill in the batch's CSV file; from a workbook save the sheet as 'CSV UTF-8' and put that into the inbox."
        )
        raise BatchError(error.what, hint=hint) from error
    if path.stat().st_size > MAX_BYTES:
        raise BatchError(f"{path} has {path.stat().st_size:,} bytes.", hint="a batch file is far smaller; split it.")
    return find_encoding(path, head)


def _header(path: Path, text: str) -> tuple[list[str], str, int]:
    """The column names in lower case, the delimiter under which they are a batch file's, and their row, from 1."""
    found = []
    for delimiter in ",;\t|":
        with contextlib.suppress(csv.Error):
            for row, cells in enumerate(islice(_records(text, delimiter), HEADER_WITHIN), start=1):
                if names := column_names(path, cells):
                    if set(COLUMNS) <= set(names):
                        return names, delimiter, row
                    found.append((names, delimiter, row))
                    break
    if found:  # a text may read like a header of few columns under a delimiter that is not the file's
        return max(found, key=lambda each: len(set(COLUMNS) & set(each[0])))
    raise no_batch_file(path, text.lstrip()[:80].partition("\n")[0].rstrip())
