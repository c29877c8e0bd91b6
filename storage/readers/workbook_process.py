"""Reads workbooks (.xlsx) for `workbooks.py`, as a program of its own: whoever made the file, no harm is done.

Each line of the input is a path in JSON. The answer is lines of JSON: for every sheet its name and whether it is
hidden, then for each row that shows something `[row, cells, columns of formulas without a value]`; at last `true`, or
what is wrong with the file as `[what, hint]`.

What a file says of itself is checked before it is unpacked, and what is unpacked before it is parsed. The memory that
the parser (calamine) may have follows from that; where it wants more the process dies, and nothing else.
"""

from __future__ import annotations

import datetime
import json
import mmap
import posixpath
import resource
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import python_calamine

MAX_FILE_BYTES = 200_000_000
MAX_UNPACKED_BYTES = 500_000_000
"""Of all parts. A sheet of 7 columns with a format down to the last row, a million, has 220 million."""
MOST_RATIO, RATIO_FROM_BYTES = 200, 10_000_000
"""Deflate makes a thousandth of one character repeated, and a thirtieth of a sheet."""
MAX_CELLS = 5_000_000
MAX_CHARACTERS = 500_000_000
MEMORY_BYTES, MEMORY_FACTOR, MAX_MEMORY_BYTES = 72_000_000, 8, 1_000_000_000
"""What the parser may have: a fixed part and so much for each byte that was unpacked, and the most in all."""
CPU_S = 60
CHUNK_BYTES = 1 << 16

OLD_OFFICE = b"\xd0\xcf\x11\xe0"
OTHERS = {
    "mimetype": "is an OpenDocument file (.ods)",
    "index/document.iwa": "is a file of Apple Numbers",
    "xl/workbook.bin": "is a binary workbook (.xlsb)",
    "xl/vbaproject.bin": "is a workbook with macros (.xlsm)",
    "word/document.xml": "is a Word document",
}
SAVE_AS = "Open it in a spreadsheet, save it as 'Excel workbook (.xlsx)' and use that file."
COPY_ROWS = "Copy the rows into a new workbook and use that file."
PASSWORD = "Open it in a spreadsheet, remove the password, save it and use that file."

_FORMULAS = (b"<f>", b"<f ", b"<f/", b":f>", b":f ", b't="e"', b"t='e'")


class Refusal(Exception):
    """What is wrong with a file, and what to do."""


def main() -> None:
    """Answer until the input ends."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        path = Path(json.loads(line))
        try:
            for message in sheets_of(path):
                print(json.dumps(message))
            last: Any = True
        except Refusal as refusal:
            last = list(refusal.args)
        except MemoryError:
            last = ["needs more memory than a workbook of its size should", COPY_ROWS]
        except OSError as error:
            last = [f"cannot be read: {error.strerror or error}", "Close it where it is open; check its permissions."]
        except python_calamine.PasswordError:
            last = ["is encrypted with a password", PASSWORD]
        except BaseException as error:  # the parser's own panics are no exceptions
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            last = [f"is a damaged workbook ({error})", SAVE_AS]
        print(json.dumps(last), flush=True)


def sheets_of(path: Path) -> Iterator[Any]:
    """The messages about the sheets of a workbook.

    Raises:
        Refusal: It is another kind of file, damaged, or too large.
    """
    _limit(MEMORY_BYTES)
    with path.open("rb") as file:
        head = file.read(4)
        size = path.stat().st_size
        if head == OLD_OFFICE:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find("EncryptedPackage".encode("utf-16-le")) >= 0:
                    raise Refusal("is encrypted with a password", PASSWORD)
            raise Refusal("is an old Excel workbook (.xls)", SAVE_AS)
    if not head.startswith(b"PK"):
        raise Refusal("is not a workbook", SAVE_AS)
    if size > MAX_FILE_BYTES:
        raise Refusal(f"has {size:,} bytes", COPY_ROWS)
    with zipfile.ZipFile(path) as archive:
        parts = {info.filename.casefold(): info for info in archive.infolist()}
        others = [what for part, what in OTHERS.items() if part in parts]
        if others or "xl/workbook.xml" not in parts:
            raise Refusal(others[0] if others else "is a zip archive, not a workbook", SAVE_AS)
        _check_sizes(archive.infolist())
        unpacked, with_formulas = _unpack(archive)
        places = _places(archive, parts)
        special = {name: _special_cells(archive, parts[part]) for name, part in places.items() if part in with_formulas}
    _limit(min(MAX_MEMORY_BYTES, MEMORY_BYTES + MEMORY_FACTOR * unpacked))
    characters = n_sheets = 0
    with python_calamine.CalamineWorkbook.from_path(str(path)) as workbook:
        for sheet in workbook.sheets_metadata:
            if sheet.typ != python_calamine.SheetTypeEnum.WorkSheet or sheet.name not in places:
                continue
            n_sheets += 1
            hidden = sheet.visible != python_calamine.SheetVisibleEnum.Visible
            yield {"name": sheet.name, "hidden": hidden}
            for row in _rows(workbook.get_sheet_by_name(sheet.name), special.get(sheet.name, {})):
                characters += sum(map(len, row[1]))
                if characters > MAX_CHARACTERS:
                    raise Refusal(f"has more than {MAX_CHARACTERS:,} characters", COPY_ROWS)
                yield row
    if not n_sheets:
        raise Refusal("has no sheet of cells", SAVE_AS)


def _limit(more_bytes: int) -> None:
    """Allow so much memory beside what the process began with, and some time of the processor."""
    with suppress(ValueError, OSError):  # a system without these limits
        resource.setrlimit(resource.RLIMIT_AS, (_AT_START + more_bytes, resource.RLIM_INFINITY))
    with suppress(ValueError, OSError):
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _memory_now() -> int:
    """The address space of this process in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 64_000_000


_AT_START = _memory_now()


def _check_sizes(infos: list[zipfile.ZipInfo]) -> None:
    """Refuse what the directory alone shows to be no workbook."""
    for info in infos:
        if info.flag_bits & 0x1:
            raise ValueError(f"{info.filename} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename} is packed in a way that no spreadsheet does")
        if info.file_size > max(RATIO_FROM_BYTES, MOST_RATIO * info.compress_size):
            sizes = f"from {info.compress_size:,} to {info.file_size:,} bytes, as no sheet does"
            raise Refusal(f"has a part that would unpack {sizes}", COPY_ROWS)
    if sum(info.file_size for info in infos) > MAX_UNPACKED_BYTES:
        raise Refusal(f"has more than {MAX_UNPACKED_BYTES:,} bytes once unpacked", COPY_ROWS)


def _unpack(archive: zipfile.ZipFile) -> tuple[int, set[str]]:
    """Unpack all XML once, to know its true size; returns that, and the sheets with formulas or errors."""
    unpacked = cells = 0
    with_formulas = set()
    for info in archive.infolist():
        name = info.filename.casefold()
        if not name.endswith((".xml", ".rels")):
            continue
        with archive.open(info) as file:
            before = b""
            while chunk := file.read(CHUNK_BYTES):
                unpacked += len(chunk)
                cells += chunk.count(b"<v") + chunk.count(b"<is") + chunk.count(b":v>")
                window = before[-16:] + chunk
                if b"<!DOCTYPE" in window:
                    raise ValueError("its XML has a DOCTYPE, which no spreadsheet writes")
                if name.startswith("xl/worksheets/") and any(mark in window for mark in _FORMULAS):
                    with_formulas.add(name)
                before = chunk
                if unpacked > MAX_UNPACKED_BYTES:
                    raise Refusal(f"has more than {MAX_UNPACKED_BYTES:,} bytes once unpacked", COPY_ROWS)
        if cells > MAX_CELLS:
            raise Refusal(f"has more than {MAX_CELLS:,} cells", COPY_ROWS)
    return unpacked, with_formulas


def _places(archive: zipfile.ZipFile, parts: dict[str, zipfile.ZipInfo]) -> dict[str, str]:
    """The name of each sheet of cells -> its part."""
    related = {}
    for element in ElementTree.fromstring(archive.read(parts["xl/_rels/workbook.xml.rels"])):
        target = posixpath.normpath(posixpath.join("/xl", element.attrib["Target"])).lstrip("/")
        if element.attrib["Type"].endswith("/worksheet"):
            related[element.attrib["Id"]] = target.casefold()
    found = {}
    for element in ElementTree.fromstring(archive.read(parts["xl/workbook.xml"])).iter():
        identity = next((value for key, value in element.attrib.items() if key.endswith("}id")), "")
        if element.tag.endswith("}sheet") and related.get(identity) in parts:
            found[element.attrib["name"]] = related[identity]
    return found


def _special_cells(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> dict[tuple[int, int], tuple[str, bool]]:
    """The cells that the parser takes for empty: (row, column) from 0 -> what they show, is it a formula."""
    found: dict[tuple[int, int], tuple[str, bool]] = {}
    row, column, kind = -1, -1, ""
    texts: dict[str, list[str]] = {}
    into: list[str] | None = None

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal row, column, kind, into
        name = tag.rpartition(":")[2]
        if name == "row":
            row, column = int(float(attributes.get("r", row + 2))) - 1, -1
        elif name == "c":
            place = attributes.get("r", "").rstrip("0123456789")
            column = _column(place) if place else column + 1
            kind = attributes.get("t", "n")
            texts.clear()
        elif name in ("f", "v"):
            into = texts.setdefault(name, [])

    def end(tag: str) -> None:
        nonlocal into
        into = None
        if tag.rpartition(":")[2] == "c":
            value = "".join(texts.get("v", []))
            if kind == "e" and value:
                found[row, column] = (value, False)
            elif "f" in texts and not value and kind != "str":
                found[row, column] = (f"={''.join(texts['f'])}", True)

    def data(text: str) -> None:
        if into is not None:
            into.append(text)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    with archive.open(info) as file:
        while chunk := file.read(CHUNK_BYTES):
            parser.Parse(chunk)
    parser.Parse(b"", True)
    return found


def _column(letters: str) -> int:
    """The number of a column, from 0."""
    number = 0
    for letter in letters[:4]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _rows(sheet: Any, special: dict[tuple[int, int], tuple[str, bool]]) -> Iterator[list[Any]]:
    """Each row that shows something: its number from 1, its cells from column 1, and the columns of formulas."""
    merged = sorted(sheet.merged_cell_ranges or [])
    by_row: dict[int, list[int]] = {}
    for row, column in special:
        by_row.setdefault(row, []).append(column)
    spans: list[tuple[int, int, str]] = []  # of merged cells: the last row, the column, and what it shows
    at = 0
    last = -1
    for number, values in enumerate(sheet.iter_rows()):
        last = number
        cells = [_shown(value) for value in values]
        formulas = []
        for column in by_row.pop(number, ()):
            cells += [""] * (column + 1 - len(cells))
            cells[column], is_formula = special[number, column]
            formulas += [column] if is_formula else []
        spans = [span for span in spans if span[0] >= number]
        for _, column, text in spans:
            if column < len(cells) and not cells[column]:
                cells[column] = text
        while at < len(merged) and merged[at][0][0] <= number:
            (first, column), (until, _) = merged[at]
            if first == number < until and column < len(cells) and cells[column]:
                spans.append((until, column, cells[column]))
            at += 1
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield [number + 1, cells, formulas]
    for number in sorted(row for row in by_row if row > last):  # below the last value
        cells = [""] * (max(by_row[number]) + 1)
        for column in by_row[number]:
            cells[column] = special[number, column][0]
        yield [number + 1, cells, [column for column in by_row[number] if special[number, column][1]]]


def _shown(value: Any) -> str:
    """What a cell shows: a whole number as it is stored, others with 15 digits, a date in ISO."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return str(int(value)) if float(value).is_integer() and abs(value) < 1e18 else f"{value:.15g}"
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat().removesuffix("T00:00:00")
    return str(value)


if __name__ == "__main__":
    main()
