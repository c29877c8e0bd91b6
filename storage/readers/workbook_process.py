"""Read workbooks (.xlsx) from untrusted sources in a process of its own; started by `sheets.py`.

Each line of the input is a path in JSON. The output is lines of JSON: for every sheet its name and whether it is
hidden; then for each row that is not empty `[row, cells, columns of formulas without a value]`; finally `true`, or the
reason why the file cannot be read as `[reason, hint]`.

The declared sizes are checked before unpacking, the actual ones before parsing. They limit the memory of the parser
(calamine); if it needs more, only this process ends.
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
"""Of all parts together. A sheet with 7 columns formatted down to the last of a million rows has 220 million."""
MAX_RATIO, RATIO_FROM_BYTES = 200, 10_000_000
"""Deflate compresses a repeated character about 1,000 times, and a sheet about 30 times."""
MAX_CELLS = 5_000_000
MAX_CHARACTERS = 500_000_000
MEMORY_BYTES, MEMORY_FACTOR, MAX_MEMORY_BYTES = 72_000_000, 8, 1_000_000_000
"""Memory of the parser: a fixed part, a factor for each unpacked byte, and the maximum."""
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

SpecialCells = dict[tuple[int, int], tuple[str, bool]]
"""Row and column, from 0 -> content, and whether it is a formula."""

_FORMULAS = (b"<f>", b"<f ", b"<f/", b":f>", b":f ", b't="e"', b"t='e'")


class Refusal(Exception):
    """A file was refused; the arguments are the reason and a hint."""


def main() -> None:
    """Read one workbook for each line of the input until it ends."""
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
        except BaseException as error:  # a panic of the parser is not an Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            last = [f"is a damaged workbook ({error})", SAVE_AS]
        print(json.dumps(last), flush=True)


def sheets_of(path: Path) -> Iterator[Any]:
    """Yield the messages about the sheets of a workbook, as the module describes them.

    Raises:
        Refusal: The file is not a workbook, is damaged, or is too large.
    """
    _limit_resources(MEMORY_BYTES)
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
        others = [description for part, description in OTHERS.items() if part in parts]
        if others or "xl/workbook.xml" not in parts:
            raise Refusal(others[0] if others else "is a zip archive, not a workbook", SAVE_AS)
        _check_sizes(archive.infolist())
        unpacked, with_formulas = _unpack(archive)
        part_of = _sheet_parts(archive, parts)
        special = {
            name: _special_cells(archive, parts[part]) for name, part in part_of.items() if part in with_formulas
        }
    _limit_resources(min(MAX_MEMORY_BYTES, MEMORY_BYTES + MEMORY_FACTOR * unpacked))
    yield from _parse(path, set(part_of), special)


def _parse(path: Path, names: set[str], special: dict[str, SpecialCells]) -> Iterator[Any]:
    """Parse the sheets with the given names, and yield the messages about them."""
    characters = n_sheets = 0
    with python_calamine.CalamineWorkbook.from_path(str(path)) as workbook:
        for sheet in workbook.sheets_metadata:
            if sheet.typ != python_calamine.SheetTypeEnum.WorkSheet or sheet.name not in names:
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
        raise Refusal("has no worksheet", SAVE_AS)


def _limit_resources(more_bytes: int) -> None:
    """Limit the memory of this process to what it started with plus `more_bytes`, and its CPU time to `CPU_S`."""
    with suppress(ValueError, OSError):  # systems without these limits
        resource.setrlimit(resource.RLIMIT_AS, (_AT_START + more_bytes, resource.RLIM_INFINITY))
    with suppress(ValueError, OSError):
        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _memory_now() -> int:
    """Return the size of the address space of this process in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 64_000_000


_AT_START = _memory_now()


def _check_sizes(infos: list[zipfile.ZipInfo]) -> None:
    """Check encryption, compression and declared sizes of all parts in the directory of the archive."""
    for info in infos:
        if info.flag_bits & 0x1:
            raise ValueError(f"{info.filename} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename} uses a compression method that no spreadsheet uses")
        if info.file_size > max(RATIO_FROM_BYTES, MAX_RATIO * info.compress_size):
            sizes = f"from {info.compress_size:,} to {info.file_size:,} bytes, which no sheet does"
            raise Refusal(f"has a part that would expand {sizes}", COPY_ROWS)
    if sum(info.file_size for info in infos) > MAX_UNPACKED_BYTES:
        raise Refusal(f"has more than {MAX_UNPACKED_BYTES:,} bytes once unpacked", COPY_ROWS)


def _unpack(archive: zipfile.ZipFile) -> tuple[int, set[str]]:
    """Unpack all XML once; return its actual size in bytes, and the parts of sheets with formulas or errors."""
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
                    raise ValueError("its XML contains a DOCTYPE, which no spreadsheet writes")
                if name.startswith("xl/worksheets/") and any(mark in window for mark in _FORMULAS):
                    with_formulas.add(name)
                before = chunk
                if unpacked > MAX_UNPACKED_BYTES:
                    raise Refusal(f"has more than {MAX_UNPACKED_BYTES:,} bytes once unpacked", COPY_ROWS)
        if cells > MAX_CELLS:
            raise Refusal(f"has more than {MAX_CELLS:,} cells", COPY_ROWS)
    return unpacked, with_formulas


def _sheet_parts(archive: zipfile.ZipFile, parts: dict[str, zipfile.ZipInfo]) -> dict[str, str]:
    """Map the name of each worksheet to its part of the archive."""
    targets = {}
    for element in ElementTree.fromstring(archive.read(parts["xl/_rels/workbook.xml.rels"])):
        target = posixpath.normpath(posixpath.join("/xl", element.attrib["Target"])).lstrip("/")
        if element.attrib["Type"].endswith("/worksheet"):
            targets[element.attrib["Id"]] = target.casefold()
    sheet_parts = {}
    for element in ElementTree.fromstring(archive.read(parts["xl/workbook.xml"])).iter():
        identity = next((value for key, value in element.attrib.items() if key.endswith("}id")), "")
        if element.tag.endswith("}sheet") and targets.get(identity) in parts:
            sheet_parts[element.attrib["name"]] = targets[identity]
    return sheet_parts


def _special_cells(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> SpecialCells:
    """Return the cells of a sheet that the parser treats as empty."""
    cells: SpecialCells = {}
    row, column, kind = -1, -1, ""
    texts: dict[str, list[str]] = {}
    into: list[str] | None = None

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal row, column, kind, into
        name = tag.rpartition(":")[2]
        if name == "row":
            row, column = int(float(attributes.get("r", row + 2))) - 1, -1
        elif name == "c":
            letters = attributes.get("r", "").rstrip("0123456789")
            column = _column(letters) if letters else column + 1
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
                cells[row, column] = (value, False)
            elif "f" in texts and not value and kind != "str":
                cells[row, column] = (f"={''.join(texts['f'])}", True)

    def data(text: str) -> None:
        if into is not None:
            into.append(text)

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    with archive.open(info) as file:
        while chunk := file.read(CHUNK_BYTES):
            parser.Parse(chunk)
    parser.Parse(b"", True)
    return cells


def _column(letters: str) -> int:
    """Return the number, from 0, of the column with these letters."""
    number = 0
    for letter in letters[:4]:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _rows(sheet: Any, special: SpecialCells) -> Iterator[list[Any]]:
    """Yield each row that is not empty: its number from 1, its cells, and the columns of formulas from 0."""
    merged = sorted(sheet.merged_cell_ranges or [])
    by_row: dict[int, list[int]] = {}
    for row, column in special:
        by_row.setdefault(row, []).append(column)
    spans: list[tuple[int, int, str]] = []  # merged cells that reach the current row: last row, column, value
    next_merge = 0
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
        while next_merge < len(merged) and merged[next_merge][0][0] <= number:
            (first, column), (until, _) = merged[next_merge]
            if first == number < until and column < len(cells) and cells[column]:
                spans.append((until, column, cells[column]))
            next_merge += 1
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield [number + 1, cells, formulas]
    for number in sorted(row for row in by_row if row > last):  # below the last row that the parser knows
        cells = [""] * (max(by_row[number]) + 1)
        for column in by_row[number]:
            cells[column] = special[number, column][0]
        yield [number + 1, cells, [column for column in by_row[number] if special[number, column][1]]]


def _shown(value: Any) -> str:
    """Return the content of a cell as a string: integers in full, other numbers with 15 digits, dates in ISO 8601."""
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
