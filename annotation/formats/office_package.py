"""The parts of an Office file (a zip archive of XML), whoever sends it: streamed, and within limits."""

from __future__ import annotations

import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from storage.errors import BatchError

MAX_FILE_BYTES = 200_000_000
MAX_UNPACKED_BYTES = 500_000_000
"""Of all parts that are read. A sheet of 7 columns with a format down to the last row, a million, has 220 million."""
MAX_TEXT = 1_000_000
"""Characters in one cell; Excel takes 32,767."""
MAX_TAG_BYTES = 1_000_000
SAVE_AS = "open it in a spreadsheet, save it as 'Excel workbook (.xlsx)', and put that into the inbox."

_CHUNK_BYTES = 1 << 16
_TEXTS = frozenset({"v", "f", "t"})
_HOLDERS = frozenset({"c", "si"})
_OTHERS = {
    "mimetype": "is an OpenDocument file (.ods)",
    "index/document.iwa": "is a file of Apple Numbers",
    "xl/workbook.bin": "is a binary workbook (.xlsb)",
    "xl/vbaproject.bin": "is a workbook with macros (.xlsm)",
    "word/document.xml": "is a Word document",
}
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    expat.ExpatError,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class Element(NamedTuple):
    """An element as it begins; a cell `c` and a string `si` as they end, with what their `v`, `f` and `t` say.

    Attributes:
        name: Without its namespace; the attributes have theirs.
    """

    name: str
    attributes: dict[str, str]
    texts: dict[str, list[str]]


class Package:
    """An open Office file.

    Attributes:
        path: The file, for messages.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        self._parts = {info.filename.casefold(): info for info in archive.infolist()}
        self._unpacked_bytes = 0
        others = [what for part, what in _OTHERS.items() if part in self._parts]
        if others or "_rels/.rels" not in self._parts:
            what = others[0] if others else "is a zip archive, not a workbook"
            raise BatchError(f"{path} {what}.", hint=SAVE_AS)

    def elements(self, part: str) -> Iterator[Element]:
        """The elements of a part as they are read; no blank cells that say where they stand."""
        info = self._parts[part.casefold()]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
            raise ValueError(f"{part} is packed in a way that no spreadsheet does")
        collector = _Collector()
        parser = collector.parser()
        with self._archive.open(info) as file:
            while chunk := file.read(_CHUNK_BYTES):
                self._unpacked_bytes += len(chunk)
                if self._unpacked_bytes > MAX_UNPACKED_BYTES:
                    raise too_much(self.path, f"more than {MAX_UNPACKED_BYTES:,} bytes once unpacked")
                collector.silent_bytes += len(chunk)
                if collector.silent_bytes > MAX_TAG_BYTES:  # each of which a parser reads again with every chunk
                    raise ValueError(f"a tag of {part} has more than {MAX_TAG_BYTES:,} bytes")
                parser.Parse(chunk)
                yield from collector.found
                collector.found.clear()
        parser.Parse(b"", True)

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """What a part (the package itself: empty) refers to: id -> kind and part."""
        folder, name = posixpath.split(part)
        found = {}
        for element in self.elements(posixpath.join(folder, "_rels", f"{name}.rels")):
            if element.name == "Relationship":
                target = posixpath.normpath(posixpath.join("/", folder, element.attributes["Target"]))
                found[element.attributes["Id"]] = (posixpath.basename(element.attributes["Type"]), target.lstrip("/"))
        return found


@contextmanager
def open_package(path: Path) -> Iterator[Package]:
    """Open an Office file; whatever proves wrong with it while it is read is told as such.

    Raises:
        BatchError: It is another kind of file, damaged, encrypted or beyond the limits; the hint says what to save.
    """
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if head == b"\xd0\xcf\x11\xe0":
                raise _old_container(path, file.read(MAX_FILE_BYTES))
        if path.stat().st_size > MAX_FILE_BYTES:
            raise too_much(path, f"{path.stat().st_size:,} bytes")
        with zipfile.ZipFile(path) as archive:
            yield Package(path, archive)
    except _DAMAGE as error:
        what = f"is a damaged workbook ({error})" if head.startswith(b"PK") else "is no workbook"
        raise BatchError(f"{path} {what}.", hint=SAVE_AS) from error
    except OSError as error:
        hint = "close it where it is open; check the path and its permissions."
        raise BatchError(f"{path} cannot be read: {error.strerror or error}.", hint=hint) from error


def too_much(path: Path, what: str) -> BatchError:
    """The error of a file that has more than a batch file can have."""
    return BatchError(
        f"{path} has {what}.", hint="copy the rows of the batch into a new workbook, and put that into the inbox."
    )


class _Collector:
    """The elements that a parser meets; blank cells, of which there may be millions, cost little and are left out."""

    def __init__(self) -> None:
        self.found: list[Element] = []
        self.silent_bytes = 0
        self._holder: dict[str, str] | None = None
        self._texts: dict[str, list[str]] = {}
        self._text: list[str] | None = None
        self._characters = 0
        self._in_pronunciation = False

    def parser(self) -> expat.XMLParserType:
        """A parser that reports to this."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.StartDoctypeDeclHandler = self._doctype
        return parser

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.silent_bytes = 0
        name = tag.rpartition(":")[2]
        if name in _HOLDERS:
            self._holder = attributes
        elif self._holder is None:
            self.found.append(Element(name, attributes, {}))
        elif name == "rPh":
            self._in_pronunciation = True
        elif name in _TEXTS and not self._in_pronunciation:
            self._text = self._texts.setdefault(name, [])

    def _data(self, text: str) -> None:
        self.silent_bytes = 0
        if self._text is not None:
            self._text.append(text)
            self._characters += len(text)
            if self._characters > MAX_TEXT:
                raise ValueError(f"a cell has more than {MAX_TEXT:,} characters")

    def _end(self, tag: str) -> None:
        name = tag.rpartition(":")[2]
        if name in _HOLDERS and self._holder is not None:
            if self._texts or name == "si" or "r" not in self._holder:
                self.found.append(Element(name, self._holder, self._texts))
                self._texts, self._characters = {}, 0
            self._holder = None
        elif name == "rPh":
            self._in_pronunciation = False
        self._text = None

    def _doctype(self, *_: object) -> None:
        raise ValueError("its XML has a DOCTYPE, which no spreadsheet writes")


def _old_container(path: Path, content: bytes) -> BatchError:
    if "EncryptedPackage".encode("utf-16-le") in content:
        hint = "open it in a spreadsheet, take the password off, save it, and put that into the inbox."
        return BatchError(f"{path} is encrypted with a password.", hint=hint)
    return BatchError(f"{path} is an old Excel workbook (.xls).", hint=SAVE_AS)
