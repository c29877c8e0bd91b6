"""The cells of a workbook (.xlsx), whatever program wrote it: as they show, nothing run.

openpyxl would not do for files from elsewhere: it leaves `_x000D_` as it stands, shows no formula that has no value
yet, reads no "Strict Open XML", and sets no limit to what it unpacks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from annotation.formats.csv_file import as_unicode
from annotation.formats.office_package import SAVE_AS, Package, open_package, too_much
from storage.errors import BatchError

MAX_KEPT = 200_000_000
"""Characters in all cells, each cell counted as 100 more."""
MAX_COLUMNS = 16_384


@dataclass(frozen=True)
class Sheet:
    """One sheet; hidden rows, columns and sheets are as any other.

    Attributes:
        rows: Row number -> column number -> what the cell shows; both from 1, and only cells that have something.
    """

    name: str
    rows: dict[int, dict[int, str]]


def read_sheets(path: Path) -> list[Sheet]:
    """Every sheet of a workbook, in its order.

    A number has the 15 digits that a spreadsheet keeps, a date is in ISO, a formula has its value of when the file was
    saved; where there is none it stands as it is.

    Raises:
        BatchError: It is no workbook that can be read, is damaged, or beyond the limits; the hint says what to save.
    """
    with open_package(path) as package:
        start = dict(package.related("").values())["officeDocument"]
        related, named, from_1904 = package.related(start), [], False
        for name, attributes, _ in package.elements(start):
            if name == "workbookPr":
                from_1904 = attributes.get("date1904") in ("1", "true")
            elif name == "sheet":
                identity = next((value for key, value in attributes.items() if key.endswith(":id")), "")
                named.append((attributes["name"], *related[identity]))
        cells = _Cells(package, dict(related.values()), from_1904)
        sheets = [Sheet(name, cells.rows(part)) for name, kind, part in named if kind == "worksheet"]
    if not sheets:
        raise BatchError(f"{path} has no sheet of cells.", hint=SAVE_AS)
    return sheets


class _Cells:
    """What the cells of a workbook show: its strings and styles are needed for that."""

    def __init__(self, package: Package, parts: dict[str, str], from_1904: bool) -> None:
        self._package = package
        self._from_1904 = from_1904
        self._kept = 0
        self._strings: list[str] = []
        if "sharedStrings" in parts:
            strings = package.elements(parts["sharedStrings"])
            self._strings = [self._keep(_decoded(each.texts.get("t", []))) for each in strings if each.name == "si"]
        self._date_styles = _date_styles(package, parts["styles"]) if "styles" in parts else frozenset[int]()

    def rows(self, part: str) -> dict[int, dict[int, str]]:
        """Row number -> column number -> what the cell shows."""
        rows: dict[int, dict[int, str]] = {}
        row = column = 0
        for name, attributes, texts in self._package.elements(part):
            if name == "row":
                row, column = int(float(attributes.get("r", row + 1))), 0
            elif name == "c":
                place = attributes.get("r")
                column = _column(place.rstrip("0123456789")) if place else column + 1
                if texts and (text := self._shown(attributes, texts)):
                    rows.setdefault(row, {})[column] = self._keep(text)
        return rows

    def _shown(self, attributes: dict[str, str], texts: dict[str, list[str]]) -> str:
        """What a cell shows, of its value `v`, its formula `f` and the text `t` that stands in the cell itself."""
        kind = attributes.get("t", "n")
        if kind == "inlineStr":
            return _decoded(texts.get("t", []))
        value = "".join(texts.get("v", []))
        if "f" in texts and not value and kind != "str":
            return f"={''.join(texts['f'])}"
        if kind == "str" or not value.strip():
            return _decoded([value])
        if kind == "s":
            return self._strings[int(value)]
        if kind == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        if kind != "n":
            return value
        number = float(value)
        if int(attributes.get("s", "0")) in self._date_styles and (date := _date(number, self._from_1904)):
            return date
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.15g}"

    def _keep(self, text: str) -> str:
        self._kept += len(text) + 100
        if self._kept > MAX_KEPT:
            raise too_much(self._package.path, "more cells than a batch can have")
        return text


def _date_styles(package: Package, part: str) -> frozenset[int]:
    """The styles of cells under which a number is a date."""
    from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format

    formats, styles, section = dict(BUILTIN_FORMATS), [], ""
    for name, attributes, _ in package.elements(part):
        if name in ("numFmts", "cellXfs"):  # their elements stand in other sections too
            section = name
        elif (section, name) == ("numFmts", "numFmt"):
            formats[int(attributes["numFmtId"])] = attributes["formatCode"]
        elif (section, name) == ("cellXfs", "xf"):
            styles.append(int(attributes.get("numFmtId", "0")))
    return frozenset(style for style, number in enumerate(styles) if is_date_format(formats.get(number, "General")))


def _date(number: float, from_1904: bool) -> str | None:
    """A spreadsheet's number of a day as ISO; None where it stands for none."""
    from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900, from_excel

    try:
        date = from_excel(number, CALENDAR_MAC_1904 if from_1904 else CALENDAR_WINDOWS_1900)
    except (ValueError, OverflowError):
        return None
    if isinstance(date, timedelta):
        return str(date)
    return date.isoformat().removesuffix("T00:00:00") if isinstance(date, datetime) else date.isoformat()


@cache
def _column(letters: str) -> int:
    """The number of a column, from 1."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
        if not ("A" <= letter <= "Z" and number <= MAX_COLUMNS):
            raise ValueError(f"there is no column {letters!r}")
    return number


def _decoded(pieces: list[str]) -> str:
    """A text as a workbook has it: `_x000D_` in it is the character of that number."""
    text = "".join(pieces)
    if "_x" not in text:
        return text
    return as_unicode(re.sub("_x([0-9A-Fa-f]{4})_", lambda match: chr(int(match[1], 16)), text))
