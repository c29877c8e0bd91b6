"""A batch as CSV: written so that any spreadsheet opens it, read back in whatever way a spreadsheet saved it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from annotation.checks import FilledRow, RowError
from annotation.handout import Handout
from storage.errors import BatchError, SourceError
from storage.files.formulas import neutralised_rows, restored
from storage.readers.delimited import ROWS_ABOVE, SAMPLE_LINES, fitted, header_at, rows_above, split_lines
from storage.readers.file_kinds import find_encoding, open_text, readable_file
from storage.readers.lines import Dialect, blank, parse_lines
from storage.readers.spellings import text_hash

COLUMNS = ("text", "label", "note", "annotator", "item_id", "batch_id", "text_hash", "workspace_id")
CONTEXT_COLUMN = "answers so far"
CONTEXT_PREFIX = "context_"
"""Begins the names of columns that are shown beside the text and are not read back."""
ERROR_COLUMN = "error"
KNOWN_COLUMNS = frozenset((*COLUMNS, CONTEXT_COLUMN, ERROR_COLUMN, ""))
"""What stands in a batch file before anybody filled it in, beside columns that begin with `CONTEXT_PREFIX`."""
MAX_BYTES = 200_000_000
MOST_SHOWN = 200
"""Characters of a row that cannot be told apart into cells."""
_TO_QUOTE = re.compile(r'[,;|\t"\r\n]|^\s|\s$')
_LEGACY = ("cp1252", "mac_roman", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gbk", "cp949", "big5")


def write_csv(path: Path, handout: Handout) -> None:
    """Write a batch to fill in: UTF-8 with BOM, CRLF, header, one row an item."""
    write_rows(path, list(cells_of(handout)), columns_of(handout))


def columns_of(handout: Handout) -> tuple[str, ...]:
    """The columns of a file to fill in; one more, after the note, where there is something to show beside a text."""
    shown = [CONTEXT_COLUMN] if any(item.context for item in handout.items) else []
    shown += dict.fromkeys(_column(name) for item in handout.items for name, _ in item.columns)
    return (*COLUMNS[:3], *shown, *COLUMNS[3:])


def _column(name: str) -> str:
    return CONTEXT_PREFIX + " ".join(name.split())


def cells_of(handout: Handout) -> Iterator[dict[str, str]]:
    """The cells of every row to fill in, by column; those that are missing are empty."""
    for item in handout.items:
        yield {
            "text": item.text,
            CONTEXT_COLUMN: item.context,
            **{_column(name): value for name, value in item.columns},
            "annotator": handout.annotator,
            "item_id": item.item_id,
            "batch_id": handout.batch_id,
            "text_hash": item.text_hash,
            "workspace_id": handout.workspace_id,
        }


def write_errors(path: Path, errors: Sequence[RowError]) -> None:
    """Write the rows that were not taken, as they stood, with the reason; fixed, the file can be ingested itself."""
    columns = list(dict.fromkeys(name for error in errors for name in error.cells if name != ERROR_COLUMN))
    write_rows(path, [{**error.cells, ERROR_COLUMN: str(error)} for error in errors], [*columns, ERROR_COLUMN])


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Write rows under a header, cells that a spreadsheet would run as formulas made harmless.

    Every cell with a character that may separate cells is quoted: LibreOffice splits at `,` `;` and tab alike.
    """
    cells = (columns, *neutralised_rows([[row.get(name, "") for name in columns] for row in rows]))
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
        if found == len(hashed) and not any(row.cells.keys() <= {"label", "batch_id"} for row in rows):
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
        lines = io.StringIO(text, newline="").readlines()
        columns, dialect = _header(path, lines, name)
        for quoted in (True, False) if dialect.delimiter == "\t" else (True,):
            yield list(_rows(replace(dialect, quoted=quoted), lines, columns, batch_id))


def _rows(dialect: Dialect, lines: list[str], columns: Sequence[str], batch_id: str) -> Iterator[FilledRow]:
    """The rows below the header, counted as in a spreadsheet; one that is none has all of it as its label."""
    lossy = None if dialect.encoding.startswith("utf-") else dialect.encoding
    lines = split_lines(dialect, lines)
    records, starts, faults, _ = parse_lines(dialect, lines, final=True)
    found = dict(zip(starts.tolist(), records, strict=True)) | {at: None for at, _ in faults}
    for row, (at, cells) in enumerate(sorted(found.items(), key=lambda each: each[0]), start=1):
        if at < dialect.first_row - 1:
            continue
        if cells is None:
            yield filled_row(row, {"label": lines[at].strip()[:MOST_SHOWN]}, batch_id, lossy=lossy)
        elif not blank(cells):
            yield filled_row(row, dict(zip(columns, map(restored, cells), strict=False)), batch_id, lossy=lossy)


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


def _header(path: Path, lines: list[str], encoding: str) -> tuple[list[str], Dialect]:
    """The column names in lower case, and the dialect under which they are a batch file's."""

    def is_header(cells: Sequence[str]) -> int:
        return 2 if column_names(path, cells) else 0

    found, above = [], ""
    for delimiter in ",;\t|":
        dialect = fitted(Dialect(encoding, delimiter), lines[:SAMPLE_LINES], is_header)
        records, starts, _, _ = parse_lines(dialect, split_lines(dialect, lines[:SAMPLE_LINES]), final=True)
        at = header_at(records, is_header)
        names = None if at is None else column_names(path, records[at])
        if at is not None and names:
            found.append((names, replace(dialect, header_row=int(starts[at]) + 1)))
            above = above or rows_above(path, records, at)
    if found and above:
        raise BatchError(above, hint=ROWS_ABOVE)
    if found:  # a text may read like a header of few columns under a delimiter that is not the file's
        return max(found, key=lambda each: len(set(COLUMNS) & set(each[0])))
    raise no_batch_file(path, next((line.strip()[:80] for line in lines if line.strip()), ""))
