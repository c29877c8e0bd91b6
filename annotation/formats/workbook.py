"""A batch as an Excel workbook: answers are chosen from a list, and the file is read after any spreadsheet saved it.

The columns that identify an item (text, item_id, batch_id, text_hash) are guarded by a validation that rejects any
edit, not by sheet protection: in a protected sheet, Excel refuses to sort or delete rows with locked cells, but sorts
the unlocked columns apart from their ids. The validation only prevents accidental edits.

Text cells have the text format and a quote prefix, so no formula runs and no id becomes a number. Line ends are
converted, and characters that a spreadsheet cannot hold are left out; `annotation.checks.check_rows` allows for that.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from annotation.checks import FilledRow
from annotation.formats.csv_file import (
    CONTEXT_COLUMN,
    CONTEXT_PREFIX,
    as_unicode,
    cells_of,
    column_names,
    columns_of,
    filled_row,
    no_batch_file,
)
from annotation.label_set import SKIP, UNSURE, Handout, LabelSet
from storage.errors import BatchError, SourceError
from storage.files.spreadsheets import restored
from storage.readers.delimited import ROWS_ABOVE, header_at, rows_above
from storage.readers.sheets import Sheet, WorkbookReader
from storage.readers.spellings import HASH_CHARS, text_hash

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet.worksheet import Worksheet

MOST_IN_AN_EXCEL_CELL = 32_767
"""UTF-16 units."""

_MOST_IN_A_MESSAGE = 224
_WRITTEN_AT = datetime(2000, 1, 1)  # fixed, so that equal handouts give equal bytes
_WIDTHS = {"text": 80, CONTEXT_COLUMN: 36, "note": 28, "annotator": 14, "item_id": 14, "batch_id": 18, "text_hash": 14}
_WIDTHS |= {"workspace_id": 14}
_DEFINITION_WIDTH = 100
_MOST_POINTS = 409  # of a row's height, in Excel
_IDS = ("item_id", "batch_id", "text_hash", "workspace_id")
_IS_HASH = re.compile(f"[0-9a-f]{{{HASH_CHARS}}}")


def write_workbook(path: Path, handout: Handout) -> None:
    """Write one annotator's workbook: a sheet with the items to fill in, and a sheet with instructions.

    The list of answers has label names first and keys last; a key and Enter is the fastest way to answer.
    """
    from openpyxl import Workbook

    workbook = Workbook()
    items = workbook.worksheets[0]
    items.title = "items"
    _add_styles(workbook)
    columns = columns_of(handout)
    _write_items(items, columns, handout)
    answers = _write_definition(workbook.create_sheet("definition"), handout)
    if handout.items:
        _guard(items, columns, answers, handout.label_set)
    _save(workbook, path)


def read_workbook(path: Path, *, batch_id: str = "", workbooks: WorkbookReader | None = None) -> list[FilledRow]:
    """Read every row of a filled workbook from all sheets with a batch header, in any order of rows and columns.

    Batch rows on a sheet without a header are read with the columns of the first sheet that has one.

    Args:
        batch_id: The default for rows that name no batch.
        workbooks: A shared reader of workbooks.

    Raises:
        BatchError: The workbook cannot be read, or no sheet has a column `label` and one that identifies the item.
    """
    try:
        sheets = (workbooks or WorkbookReader()).sheets(path)
    except SourceError as error:
        raise BatchError(error.what, hint=error.hint) from error
    tables = [(sheet, *header) for sheet in sheets if (header := _header(path, sheet))]
    if not tables:
        first = next((", ".join(filter(None, cells)) for sheet in sheets for cells in sheet.rows.values()), "")
        raise no_batch_file(path, first[:80])
    rows = []
    for sheet, header_row, names in tables:
        part = sheet.name if len(tables) > 1 else ""
        for row, cells in sheet.rows.items():
            if row > header_row and any(cell.strip() for cell in cells):
                rows.append(filled_row(row, _by_column(names, cells), batch_id, part=part))
    with_header = {sheet.name for sheet, *_ in tables}
    for sheet in sheets:  # rows may have been moved to a sheet without a header
        for row, cells in sheet.rows.items() if sheet.name not in with_header else ():
            moved = _by_column(tables[0][2], cells)
            if _IS_HASH.fullmatch(moved.get("text_hash", "").strip()):
                rows.append(filled_row(row, moved, batch_id, part=sheet.name))
    return rows


def _header(path: Path, sheet: Sheet) -> tuple[int, list[str]] | None:
    """The row number of a sheet's header and the column names; None without a header."""
    numbers, records = list(sheet.rows), list(sheet.rows.values())
    index = header_at(records, lambda cells: 2 if column_names(path, cells) else 0)
    if index is None:
        return None
    if message := rows_above(path, records, index):
        raise BatchError(message, hint=ROWS_ABOVE)
    return numbers[index], column_names(path, records[index]) or []


def _by_column(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """A row's cells by column, without the formula marks of a CSV file, from which the workbook may have been made."""
    cells = [*map(as_unicode, cells), *[""] * (len(names) - len(cells))]
    row = {name: restored(cell) for name, cell in zip(names, cells, strict=False) if name}
    if text_hash(row.get("text", "")) != row.get("text_hash") and "text" in row:
        row["text"] = cells[names.index("text")]  # what looks like a mark belongs to the text
    return row


def _add_styles(workbook: Workbook) -> None:
    """Define named cell styles; all have the text format (`@`)."""
    from openpyxl.styles import Alignment, Border, Font, NamedStyle, PatternFill, Side

    edge = Side(style="thin", color="D0D5DD")
    styles = {
        "pal header": (Font(name="Calibri", size=12, bold=True, color="FFFFFF"), "1F3A5F"),
        "pal header to fill in": (Font(name="Calibri", size=12, bold=True, color="1F3A5F"), "FFD34D"),
        "pal text": (Font(name="Calibri", size=12), "FFFFFF"),
        "pal to fill in": (Font(name="Calibri", size=12, bold=True), "FFF8DF"),
        "pal id": (Font(name="Calibri", size=9, color="8A929E"), "F5F6F8"),
    }
    for name, (font, color) in styles.items():
        fill, alignment = PatternFill("solid", color), Alignment(vertical="center", wrap_text=name != "pal id")
        workbook.add_named_style(NamedStyle(name, font, fill, Border(edge, edge, edge, edge), alignment, "@"))


def _write_items(sheet: Worksheet, columns: Sequence[str], handout: Handout) -> None:
    from openpyxl.utils import get_column_letter

    for number, name in enumerate(columns, start=1):
        _write(sheet, 1, number, name, "pal header to fill in" if name == "label" else "pal header")
        width = _width(name) or max(14, 4 + max(map(len, handout.label_set.names)))
        sheet.column_dimensions[get_column_letter(number)].width = min(width, 80)
    styles = {"label": "pal to fill in", **dict.fromkeys(_IDS, "pal id")}
    for row, cells in enumerate(cells_of(handout), start=2):
        for number, name in enumerate(columns, start=1):
            _write(sheet, row, number, cells.get(name, ""), styles.get(name, "pal text"))
        shown = ("text", CONTEXT_COLUMN, *(name for name in cells if name.startswith(CONTEXT_PREFIX)))
        sheet.row_dimensions[row].height = max(_height(cells[name], _width(name)) for name in shown)
    n_rows = 1 + len(handout.items)
    sheet.row_dimensions[1].height = 22
    sheet.freeze_panes = "A2"
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(columns))}{n_rows}"
    for selection in sheet.sheet_view.selection:
        selection.activeCell = selection.sqref = "B2"
    sheet.print_title_rows = "1:1"
    sheet.print_area = f"A1:{get_column_letter(columns.index('annotator') + 1)}{n_rows}"
    _set_page(sheet)


def _width(name: str) -> int:
    return _WIDTHS.get(CONTEXT_COLUMN if name.startswith(CONTEXT_PREFIX) else name, 0)


def _write_definition(sheet: Worksheet, handout: Handout) -> str:
    """Write the sheet with the instructions; returns the cell range of the allowed answers."""
    labels = handout.label_set
    above = {
        "Question": labels.question,
        **({"Definition": labels.definition} if labels.definition else {}),
        "Fill in": "The yellow column, label, on the sheet items. Leave cells empty that you have not answered yet.",
        "Good to know": "Sort, filter and add columns as you like. Keep the gray columns; they identify the texts.",
        "Return": "Save the file and send it back as a workbook or CSV (UTF-8). If you have pal, run: pal ingest",
        "": "",
        "Answer": "",
    }
    answers = {label.name: f"Key: {label.key}" if label.has_own_key else "" for label in labels.labels}
    answers |= {
        UNSURE: "You cannot decide; somebody will look at it again.",
        SKIP: "The text cannot be labeled; it is left out.",
    }
    answers |= {label.key: f"Same as {label.name}" for label in labels.labels if label.has_own_key}
    for row, (name, text) in enumerate([*above.items(), *answers.items()], start=1):
        is_answer = row > len(above)
        _write(sheet, row, 1, name, "pal to fill in" if is_answer else "pal header" if name else "pal text")
        _write(sheet, row, 2, text, "pal text")
        sheet.row_dimensions[row].height = _height(text, _DEFINITION_WIDTH)
    sheet.column_dimensions["A"].width = 26
    sheet.column_dimensions["B"].width = _DEFINITION_WIDTH
    _set_page(sheet)
    return f"'{sheet.title}'!$A${len(above) + 1}:$A${len(above) + len(answers)}"


def _guard(sheet: Worksheet, columns: Sequence[str], answers: str, label_set: LabelSet) -> None:
    """Offer `answers` as a list, highlight answered rows, and reject edits of texts and ids."""
    from openpyxl.formatting.rule import Rule
    from openpyxl.styles import PatternFill
    from openpyxl.styles.differential import DifferentialStyle
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    letters = {name: get_column_letter(number) for number, name in enumerate(columns, start=1)}
    cells = {name: f"{letter}2:{letter}{sheet.max_row}" for name, letter in letters.items()}
    message = f"Write one of: {', '.join(label_set.allowed())}."
    if len(message) > _MOST_IN_A_MESSAGE:
        message = "Choose from the list; the sheet 'definition' explains each answer."
    choice = DataValidation("list", answers, None, True, errorTitle="Not an answer", error=message, allow_blank=True)
    message = "This cell identifies the text. Press Esc, and edit only the columns label and note."
    fixed = DataValidation("custom", "FALSE", None, True, errorTitle="Do not change this cell", error=message)
    choice.add(cells["label"])
    for name in ("text", *_IDS, *(name for name in columns if name.startswith(CONTEXT_PREFIX))):
        fixed.add(cells[name])
    sheet.add_data_validation(choice)
    sheet.add_data_validation(fixed)
    green = DifferentialStyle(fill=PatternFill("solid", bgColor="DDF3DD"))
    answered = Rule("expression", dxf=green, formula=[f"LEN(TRIM({letters['label']}2))>0"])
    sheet.conditional_formatting.add(cells["label"], answered)


def _height(text: str, width: int) -> float:
    """The row height in points for a wrapped text; LibreOffice does not compute it when it opens a workbook."""
    lines = sum(1 + sum(2 if ord(char) > 0x10FF else 1 for char in line) // width for line in text.splitlines() or [""])
    return min(6 + 16 * lines, _MOST_POINTS)


def _set_page(sheet: Worksheet) -> None:
    """Print in landscape, fitted to the page width."""
    from openpyxl.worksheet.properties import PageSetupProperties

    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.fitToHeight = 0
    sheet.sheet_properties.pageSetUpPr = PageSetupProperties(fitToPage=True)


def _write(sheet: Worksheet, row: int, column: int, text: str, style: str) -> None:
    cell = sheet.cell(row, column)
    cell.style = style
    if text:
        cell.value = _storable(text)
        cell.data_type = "s"  # `=1+1` and `#N/A` too
        cell.quotePrefix = True


def _storable(text: str) -> str:
    """`text` without characters that a spreadsheet cannot hold, escaped for a workbook."""
    text = re.sub(r"\r\n?|[\x0b\x0c\x1c-\x1f]", "\n", as_unicode(text))
    text = re.sub("[\x00-\x08\x0e-\x1b\ufffe\uffff]", "", text)
    text = text.encode("utf-16-le")[: 2 * MOST_IN_AN_EXCEL_CELL].decode("utf-16-le", "ignore")
    return re.sub("_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)  # looks like an escaped character


def _save(workbook: Workbook, path: Path) -> None:
    """Write the workbook; equal cells give equal bytes."""
    from openpyxl.writer.excel import ExcelWriter

    workbook.properties.creator = "pal"
    workbook.properties.created = workbook.properties.modified = _WRITTEN_AT
    packed = io.BytesIO()
    ExcelWriter(workbook, zipfile.ZipFile(packed, "w")).save()
    with zipfile.ZipFile(packed) as parts, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in parts.namelist():
            file.writestr(zipfile.ZipInfo(name, _WRITTEN_AT.timetuple()[:6]), parts.read(name), zipfile.ZIP_DEFLATED)
