"""A batch as CSV: written for any spreadsheet, and read in any way a spreadsheet saves it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from annotation.checks import FilledRow, RowError
from annotation.label_set import Handout
from storage.errors import BatchError, SourceError
from storage.files.spreadsheets import neutralised_rows, restored
from storage.readers.delimited import ROWS_ABOVE, SAMPLE_LINES, fitted, header_at, rows_above, split_lines
from storage.readers.file_kinds import find_encoding, open_text, readable_file
from storage.readers.lines import Dialect, blank, parse_lines
from storage.readers.spellings import text_hash

COLUMNS = ("text", "label", "note", "annotator", "item_id", "batch_id", "text_hash", "workspace_id")
CONTEXT_COLUMN = "answers so far"
CONTEXT_PREFIX = "context_"
"""Prefix of the columns that are shown beside the text and are not read back."""
ERROR_COLUMN = "error"
KNOWN_COLUMNS = frozenset((*COLUMNS, CONTEXT_COLUMN, ERROR_COLUMN, ""))
"""The columns of a published batch file, apart from those with `CONTEXT_PREFIX`."""
MAX_BYTES = 200_000_000
MOST_SHOWN = 200
"""Maximum number of characters shown of a row that cannot be split into cells."""
_TO_QUOTE = re.compile(r'[,;|\t"\r\n]|^\s|\s$')
_LEGACY = ("cp1252", "mac_roman", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gbk", "cp949", "big5")


def write_csv(path: Path, handout: Handout) -> None:
    """Write a batch to fill in: UTF-8 with BOM, CRLF, header, one row per item."""
    write_rows(path, list(cells_of(handout)), columns_of(handout))


def columns_of(handout: Handout) -> tuple[str, ...]:
    """The columns of a file to fill in; context columns, if any, follow the note."""
    context = [CONTEXT_COLUMN] if any(item.context for item in handout.items) else []
    context += dict.fromkeys(_column(name) for item in handout.items for name, _ in item.columns)
    return (*COLUMNS[:3], *context, *COLUMNS[3:])


def _column(name: str) -> str:
    return CONTEXT_PREFIX + " ".join(name.split())


def cells_of(handout: Handout) -> Iterator[dict[str, str]]:
    """The cells of every row to fill in, by column; missing cells are empty."""
    for item in handout.items:
        annotator, label, note = handout.answers.get(item.item_id, (handout.annotator, "", ""))
        yield {
            "text": item.text,
            "label": label,
            "note": note,
            CONTEXT_COLUMN: item.context,
            **{_column(name): value for name, value in item.columns},
            "annotator": annotator,
            "item_id": item.item_id,
            "batch_id": handout.batch_id,
            "text_hash": item.text_hash,
            "workspace_id": handout.workspace_id,
        }


def write_errors(path: Path, errors: Sequence[RowError]) -> None:
    """Write the rejected rows with the reasons; once corrected, the file can be ingested itself."""
    columns = list(dict.fromkeys(name for error in errors for name in error.cells if name != ERROR_COLUMN))
    write_rows(path, [{**error.cells, ERROR_COLUMN: str(error)} for error in errors], [*columns, ERROR_COLUMN])


def write_rows(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    """Write rows under a header, with formulas neutralized.

    Every cell with a character that may separate cells is quoted: LibreOffice splits at `,`, `;` and tab.
    """
    cells = (columns, *neutralised_rows([[row.get(name, "") for name in columns] for row in rows]))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        file.writelines(",".join(map(_quoted, line)) + "\r\n" for line in cells)


def read_csv(path: Path, *, batch_id: str = "") -> list[FilledRow]:
    """Read a filled file with rows in any order, extra columns, blank rows, any delimiter and any common encoding.

    If the encoding or the quotes of a tab-separated file are ambiguous, the reading is chosen in which the most texts
    match their text_hash.

    Args:
        batch_id: The default for rows that name no batch.

    Raises:
        BatchError: The file cannot be read, or has no column `label`, or none that identifies the item.
    """
    best: list[FilledRow] = []
    most_intact = -1
    for rows in _readings(path, batch_id):
        hashed = [row for row in rows if row.text and row.text_hash]
        n_intact = sum(text_hash(row.text or "") == row.text_hash for row in hashed)
        if n_intact > most_intact:
            best, most_intact = rows, n_intact
        if n_intact == len(hashed) and not any(row.cells.keys() <= {"label", "batch_id"} for row in rows):
            break
    return best


def column_names(path: Path, cells: Sequence[str]) -> list[str] | None:
    """The lower-case column names if `cells` are the header of a batch file; otherwise None.

    Raises:
        BatchError: A batch column occurs twice.
    """
    names = [name.strip().casefold() for name in cells]
    if "label" not in names or not {"item_id", "text", "text_hash"} & set(names):
        return None
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        what = f"{path} has {names.count(twice[0])} columns named {twice[0]!r}."
        raise BatchError(what, hint="Keep one and rename the others.")
    return names


def filled_row(
    row: int, cells: Mapping[str, str], batch_id: str, *, lossy: str | None = None, part: str = ""
) -> FilledRow:
    """Make a row from its cells by column name; `batch_id` is the default; `lossy` and `part` as in FilledRow."""
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
    """The error for a file without the header of a batch file; `first` is its first row."""
    return BatchError(
        f"{path} is not a batch file: its first line {first!r} has no columns label and item_id.",
        hint=f"Make the first line {','.join(COLUMNS)}. To add texts to the pool: pal import {path}",
    )


def as_unicode(text: str) -> str:
    """`text` with lone surrogates (undecodable bytes) replaced by U+FFFD: neither files nor the lake can hold them."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _TO_QUOTE.search(cell) else cell


def _readings(path: Path, batch_id: str) -> Iterator[list[FilledRow]]:
    """The rows of a file in each possible reading, the likeliest first."""
    encoding = _encoding(path)
    for name in _LEGACY if encoding == "cp1252" else (encoding,):
        with path.open("rb") as binary, open_text(binary, name) as file:
            text = as_unicode(file.read().removeprefix("\ufeff"))
        lines = io.StringIO(text, newline="").readlines()
        columns, dialect = _header(path, lines, name)
        for quoted in (True, False) if dialect.delimiter == "\t" else (True,):
            yield list(_rows(replace(dialect, quoted=quoted), lines, columns, batch_id))


def _rows(dialect: Dialect, lines: list[str], columns: Sequence[str], batch_id: str) -> Iterator[FilledRow]:
    """The rows below the header, numbered as in a spreadsheet; an unreadable line becomes a row with a fault."""
    lossy = None if dialect.encoding.startswith("utf-") else dialect.encoding
    lines = split_lines(dialect, lines)
    records, starts, faults, _ = parse_lines(dialect, lines, final=True)
    reasons = dict(faults)
    by_line = dict(zip(starts.tolist(), records, strict=True)) | dict.fromkeys(reasons)
    for row, (line, cells) in enumerate(sorted(by_line.items(), key=lambda entry: entry[0]), start=1):
        if line < dialect.first_row - 1:
            continue
        if cells is None:
            unread = filled_row(row, {"label": lines[line].strip()[:MOST_SHOWN]}, batch_id, lossy=lossy)
            yield replace(unread, fault=reasons[line])
        elif not blank(cells):
            yield filled_row(row, dict(zip(columns, map(restored, cells), strict=False)), batch_id, lossy=lossy)


def _encoding(path: Path) -> str:
    try:
        head = readable_file(path)
    except SourceError as error:
        hint = "Fill in the batch's CSV file, or save the workbook's sheet as 'CSV UTF-8' in the inbox."
        raise BatchError(error.what, hint=hint) from error
    if path.stat().st_size > MAX_BYTES:
        raise BatchError(
            f"{path} has {path.stat().st_size:,} bytes.", hint="Check that it is a batch file, or split it."
        )
    return find_encoding(path, head)


def _header(path: Path, lines: list[str], encoding: str) -> tuple[list[str], Dialect]:
    """The lower-case column names, and the dialect in which the header was recognized."""

    def is_header(cells: Sequence[str]) -> int:
        return 2 if column_names(path, cells) else 0

    readings, above = [], ""
    for delimiter in ",;\t|":
        dialect = fitted(Dialect(encoding, delimiter), lines[:SAMPLE_LINES], is_header)
        records, starts, _, _ = parse_lines(dialect, split_lines(dialect, lines[:SAMPLE_LINES]), final=True)
        number = header_at(records, is_header)
        names = None if number is None else column_names(path, records[number])
        if number is not None and names:
            readings.append((names, replace(dialect, header_row=int(starts[number]) + 1)))
            above = above or rows_above(path, records, number)
    if readings and above:
        raise BatchError(above, hint=ROWS_ABOVE)
    if readings:  # with a wrong delimiter, a text may look like a header with few columns
        return max(readings, key=lambda reading: len(set(COLUMNS) & set(reading[0])))
    raise no_batch_file(path, next((line.strip()[:80] for line in lines if line.strip()), ""))
