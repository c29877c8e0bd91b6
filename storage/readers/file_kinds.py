"""Detect from its bytes whether a file can be read, and its format and encoding."""

from __future__ import annotations

import codecs
import io
import json
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from storage.errors import SourceError

HEAD_BYTES = 65_536
BLOCK_CHARACTERS = 16_000_000
ESCAPE = "pal-escape"  # an error handler for any encoding: every invalid byte becomes a lone surrogate
BOMS = {
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose BOM is a prefix of this one
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
NAMES = {"utf-8": "UTF-8", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16 (big-endian)", "cp1252": "Windows-1252"}
OLD_OFFICE = b"\xd0\xcf\x11\xe0"
NOT_TEXTS = {
    b"PK\x03\x04": ("a workbook or zip archive", "Save the sheet as 'CSV UTF-8', or unpack the archive."),
    OLD_OFFICE: ("an old Excel workbook", "Save the sheet as 'CSV UTF-8'."),
    b"\x1f\x8b": ("compressed with gzip", "Unpack it with gunzip and use that file."),
    b"BZh": ("compressed with bzip2", "Unpack it with bunzip2 and use that file."),
    b"\xfd7zXZ": ("compressed with xz", "Unpack it with unxz and use that file."),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "Unpack it with unzstd and use that file."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it and use the files in it."),
    b"Rar!": ("a RAR archive", "Unpack it and use the files in it."),
    b"\x89PNG": ("a PNG image", ""),
    b"\xff\xd8\xff": ("a JPEG image", ""),
    b"GIF8": ("a GIF image", ""),
    b"%PDF-": ("a PDF", "Copy its texts into a CSV file, one per row."),
    b"SQLite format 3": ("an SQLite database", "Export the table as CSV and use that file."),
    b"ARROW1": ("an Arrow file", "Write it as Parquet and use that file."),
}
DEFAULT_HINT = "Use CSV, TSV, plain text (one text per line), an Excel workbook (.xlsx), JSON, RIS or Parquet."


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(ESCAPE, _escaped)


def readable_file(path: Path, *, or_workbook: bool = False) -> bytes:
    """Return the first bytes (at most `HEAD_BYTES`) of a file that may contain texts.

    Args:
        path: The file.
        or_workbook: Whether workbooks (`is_zip`) are accepted.

    Raises:
        SourceError: The file is missing, unreadable, a directory, empty, or of a format without rows of text.
    """
    if path.is_dir():
        raise SourceError(f"{path} is a directory, not a file of texts.", hint="Name a file in this directory.")
    if path.exists() and not path.is_file():  # a pipe, which can be read only once, and would be waited for
        raise SourceError(f"{path} is not a regular file.", hint="Save its content as a file and use that.")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise SourceError(f"File {path} does not exist.", hint="Check the path.") from None
    except OSError as error:
        reason = error.strerror or error
        raise SourceError(f"{path} cannot be read: {reason}.", hint="Check the file and its permissions.") from error
    if not head.lstrip(codecs.BOM_UTF8):
        raise SourceError(f"{path} is empty.", hint=DEFAULT_HINT)
    for signature, (kind, hint) in NOT_TEXTS.items():
        if head.startswith(signature) and not (or_workbook and is_zip(head)):
            raise SourceError(f"{path} is {kind}, not a file of texts.", hint=hint or DEFAULT_HINT)
    return head


def is_parquet(head: bytes) -> bool:
    """Whether a file starts with the signature of Parquet."""
    return head.startswith(b"PAR1")


def is_zip(head: bytes) -> bool:
    """Whether a file starts with the signature of a workbook: .xlsx (a zip archive) or .xls."""
    return head.startswith((b"PK\x03\x04", OLD_OFFICE))


def is_json(path: Path, head: bytes, encoding: str) -> bool:
    """Whether a text file is JSON lines or a JSON array: by its first lines, and by its suffix if they leave it open.

    Raises:
        SourceError: The content is binary.
    """
    text = head.decode(encoding, ESCAPE).lstrip("\ufeff \t\r\n")
    control = sum(character < " " and character not in "\t\n\r\v\f" for character in text)
    if control > max(16, len(text) * 0.3):
        raise SourceError(f"{path} is binary, not text.", hint=DEFAULT_HINT)
    if text.startswith("[") and text[1:].lstrip()[:1] == "{":
        return True
    if path.suffix.casefold() in {".jsonl", ".ndjson", ".json"}:
        return True
    return any(map(_is_object, text.splitlines()[:20]))


def _is_object(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def find_encoding(path: Path, head: bytes) -> str:
    """Detect the encoding of a text file: by its BOM, by the bytes of UTF-16, or by a pass over the whole file.

    The pass decides between UTF-8 and Windows-1252: the latter if more characters outside ASCII are invalid in UTF-8
    than valid.
    """
    for bom, name in BOMS.items():
        if head.startswith(bom):
            return name
    if wide := _utf16(head):
        return wide
    valid = invalid = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            text = decoder.decode(block)  # a sequence that the end of the file truncates is not counted
            if not text.isascii():
                points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
                bad = int(np.count_nonzero((points >= 0xDC80) & (points <= 0xDCFF)))
                invalid += bad
                valid += int(np.count_nonzero(points > 0x7F)) - bad
    return "cp1252" if invalid > valid else "utf-8"


FEW_IN_RUNS = 5
"""So many bytes may also be a word such as "äöü" or "€€€"."""


def refuse_other_alphabets(path: Path) -> None:
    """Refuse a file that would be read as Windows-1252 but whose characters outside ASCII are not Western accents.

    Those stand alone between ASCII letters; in Cyrillic, Chinese or Japanese encodings they make up whole words.

    Raises:
        SourceError: Over 30% of the bytes outside ASCII, and over `FEW_IN_RUNS`, are in runs of three or more.
    """
    n = n_in_runs = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            high = np.frombuffer(block, dtype=np.uint8) > 0x7F
            triples = high[2:] & high[1:-1] & high[:-2]
            in_runs = np.zeros(len(high), dtype=bool)
            for shift in range(3 if len(triples) else 0):
                in_runs[shift : shift + len(triples)] |= triples
            n, n_in_runs = n + int(np.count_nonzero(high)), n_in_runs + int(np.count_nonzero(in_runs))
    if n_in_runs > max(0.3 * n, FEW_IN_RUNS):
        raise SourceError(
            f"{path} is not UTF-8, and its words are not Western European either.",
            hint="Save it as UTF-8, or name its encoding: pal import --encoding gb18030 (or shift_jis, koi8-r ...)",
        )


def _utf16(head: bytes) -> str | None:
    """Return the UTF-16 encoding of a file without BOM: the byte order in which it has ASCII and line ends."""
    if b"\0" not in head:
        return None
    plain: dict[str, int] = {}
    for name, kind in (("utf-16-le", "<u2"), ("utf-16-be", ">u2")):
        units = np.frombuffer(head[: len(head) & ~1], dtype=kind)
        n_ascii = int(np.count_nonzero(((units >= 32) & (units < 127)) | np.isin(units, (9, 10, 13))))
        minimum = 0.01 if np.any(units == 10) else 0.5  # a stray NUL in UTF-8 looks like ASCII, but not like a line end
        plain[name] = n_ascii if n_ascii > minimum * len(units) else 0
    fewer, more = sorted(plain, key=lambda name: plain[name])
    return more if plain[more] > 10 * plain[fewer] else None


def known_encoding(name: str) -> str:
    """Return Python's name of the encoding that the user named.

    Raises:
        SourceError: Python has no text encoding of this name.
    """
    try:
        b"a".decode(name, "replace")
    except (LookupError, ValueError):
        hint = "Use --encoding utf-8, utf-16 or windows-1252, or omit the option."
        raise SourceError(f"Unknown encoding {name!r}.", hint=hint) from None
    return codecs.lookup(name).name


def open_text(file: BinaryIO, encoding: str) -> io.TextIOWrapper:
    """Wrap a binary file as text: line ends are not translated, and invalid bytes become lone surrogates."""
    errors = "surrogateescape" if encoding == "utf-8" else ESCAPE
    return io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")


def next_lines(stream: io.TextIOWrapper, count: int, *, first: bool = False) -> list[str]:
    """Read up to `count` physical lines with their line ends; fewer if lines are long, none at the end of the file.

    Args:
        stream: The file, at the position to continue from.
        count: The maximum number of lines.
        first: Whether this is the start of the file, where a BOM is dropped.
    """
    lines: list[str] = []
    characters = 0
    while len(lines) < count and characters < BLOCK_CHARACTERS:
        block = list(islice(stream, min(4096, count - len(lines))))
        if not block:
            break
        lines += block
        characters += sum(map(len, block))
    if first and lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    return lines
