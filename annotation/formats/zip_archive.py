"""Filled files that come in one zip: checked first, unpacked into a private folder, gone when they are read.

A zip comes from elsewhere, so nothing in it is believed. No name in it becomes a path on disk, its directory does not
say how much is written, and what could only be an attack is refused as a whole.
"""

from __future__ import annotations

import contextlib
import io
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from annotation.formats.csv_file import MAX_BYTES
from storage.errors import BatchError

MOST_ENTRIES = 1_000
MOST_DIRECTORY_BYTES = 1_000_000
MOST_RATIO = 200
"""Text shrinks to a fifth, repetitive text to a fiftieth; Deflate can do a thousandth, of one character only."""

RATIO_FROM_BYTES = 10_000_000
BLOCK_BYTES = 65_536

_HEADER = struct.Struct("<4s22xHH")  # in front of each entry: signature, what the directory has too, two lengths
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_IS_UTF8 = 0x800
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, LookupError, ValueError)
_ZIP_AGAIN = "make the zip again from the filled files themselves."
_SEND_AGAIN = "copy or download it again, or take the filled files themselves."
_NESTED = "unpack it and take its files; from another kind of table save .xlsx or 'CSV UTF-8'."


@dataclass(frozen=True)
class Part:
    """One file in an archive.

    Attributes:
        name: As it stands in the archive, for messages; U+FFFD stands for what cannot be shown. Never a path.
        content: Where it lies unpacked while the archive is open, or why it does not.
    """

    name: str
    content: Path | BatchError

    @property
    def path(self) -> Path:
        """Where it lies unpacked.

        Raises:
            BatchError: It could not be unpacked; the other parts may be read all the same.
        """
        if isinstance(self.content, BatchError):
            raise self.content
        return self.content


@contextmanager
def opened_archive(path: Path) -> Iterator[list[Part]]:
    """The files of a zip archive in its order, unpacked; they are gone when the context is left.

    Folders, hidden files, lock files and what systems add (`__MACOSX`, `Thumbs.db`) are passed over.

    Raises:
        BatchError: It is damaged as a whole, encrypted, too large or empty, or an entry in it is unsafe.
        OSError: It cannot be read, or there is no space to unpack it.
    """
    with tempfile.TemporaryDirectory(prefix="pal-") as folder:
        yield _unpacked(path, Path(folder))


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip archive does; a workbook (.xlsx) is one too."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")  # the latter: of an empty one


def is_workbook(path: Path) -> bool:
    """Whether a file is a zip archive with what makes a workbook (.xlsx); False for a damaged one."""
    if not is_zip(path):
        return False
    try:
        with _opened(path) as archive:
            names = {entry.orig_filename.casefold() for entry in archive.infolist()}
    except BatchError:
        return False
    return names >= {"[content_types].xml", "xl/workbook.xml"}


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; its directory is read, and its entries are known to lie one behind the other."""
    with _BoundedReads(io.FileIO(path)) as file:
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            reason = str(error).rstrip(".")
            raise BatchError(f"{path} is a damaged zip archive: {reason}.", hint=_SEND_AGAIN) from error
        with archive:
            _check_places(path, archive, file)
            yield archive


class _BoundedReads(io.BufferedReader):
    """A file of which only so much is read at once: a directory is read whole, however large it says it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has {size:,} bytes, and {MOST_DIRECTORY_BYTES:,} are enough")
        return super().read(size)


def _check_places(path: Path, archive: zipfile.ZipFile, file: io.BufferedReader) -> None:
    """Refuse entries that share bytes: so a small file unpacks to any size (Fifield 2019, A better zip bomb)."""
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        header = b""
        if 0 <= entry.header_offset <= archive.start_dir - _HEADER.size:
            file.seek(entry.header_offset)
            header = file.read(_HEADER.size)
        if not header.startswith(b"PK\x03\x04"):
            what = f"{path} is a damaged zip archive: {entry.orig_filename!r} is not where its directory says."
            raise BatchError(what, hint=_SEND_AGAIN)
        _, name_bytes, extra_bytes = _HEADER.unpack(header)
        start, end_before = entry.header_offset, end
        end = start + _HEADER.size + name_bytes + extra_bytes + entry.compress_size
        if start < end_before or end > archive.start_dir:
            raise BatchError(f"{path}: {entry.orig_filename!r} shares bytes with another entry.", hint=_ZIP_AGAIN)


def _unpacked(path: Path, folder: Path) -> list[Part]:
    with _opened(path) as archive:
        entries = _wanted(path, archive.infolist())
        _check_sizes(path, entries)
        counts = Counter(entry.orig_filename for entry in entries)
        parts = []
        for number, entry in enumerate(entries, start=1):
            suffix = PurePosixPath(entry.orig_filename).suffix.lower()
            to = folder / f"{number:04d}{suffix if re.fullmatch('[.][a-z0-9]{1,8}', suffix) else ''}"
            content = _content(path, archive, entry, to, counts[entry.orig_filename])
            parts.append(Part(_shown(entry), content))
        return parts


def _wanted(path: Path, entries: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The entries that may be filled files.

    Raises:
        BatchError: One has a name or a type that no filled file has, or there are none.
    """
    for entry in entries:
        name = entry.orig_filename
        if name.startswith("/") or re.match("[A-Za-z]:", name) or re.search(r"[\\\0]", name) or ".." in name.split("/"):
            raise BatchError(f"{path}: the name {name!r} leads out of the archive.", hint=_ZIP_AGAIN)
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BatchError(f"{path}: {name!r} is a link or a device, not a file.", hint=_ZIP_AGAIN)
    names = {entry.orig_filename for entry in entries}
    if names & {"[Content_Types].xml", "mimetype", "Index/Document.iwa"}:  # of Office, OpenDocument, Apple
        hint = "open it in a spreadsheet, save it as .xlsx or 'CSV UTF-8', and put that into the inbox."
        raise BatchError(f"{path} is a document, not an archive of filled files.", hint=hint)
    wanted = [entry for entry in entries if not _is_passed_over(entry.orig_filename)]
    if not wanted:
        raise BatchError(f"{path} has no files in it.", hint=_ZIP_AGAIN)
    return wanted


def _is_passed_over(name: str) -> bool:
    *folders, last = name.split("/")
    hidden = any(part.startswith(".") and part != "." for part in (*folders, last))
    return not last or hidden or "__MACOSX" in folders or last.startswith("~") or last.lower() == "thumbs.db"


def _check_sizes(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse, before anything is unpacked, what is locked or would unpack to more than it may."""
    if len(entries) > MOST_ENTRIES:
        raise BatchError(f"{path} has {len(entries):,} files; at most {MOST_ENTRIES:,} are read.", hint="split it.")
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED:
            what = f"{path}: {entry.orig_filename!r} is encrypted."
            raise BatchError(what, hint="unpack it with its password and take the filled files themselves.")
        if entry.file_size > max(RATIO_FROM_BYTES, MOST_RATIO * entry.compress_size):
            sizes = f"from {entry.compress_size:,} to {entry.file_size:,} bytes, as no table does"
            raise BatchError(f"{path}: {entry.orig_filename!r} would unpack {sizes}.", hint=_ZIP_AGAIN)
    total = sum(entry.file_size for entry in entries)
    if total > MAX_BYTES:
        raise BatchError(f"{path} would unpack to {total:,} bytes; at most {MAX_BYTES:,} are read.", hint="split it.")


def _content(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path, n_same: int) -> Path | BatchError:
    """Unpack one entry to `to`; where that fails, nothing is left there."""
    place = f"{path}, {entry.orig_filename!r}"
    try:
        if n_same > 1:
            hint = "take one of them out, or give it another name, and make the zip again."
            raise BatchError(f"{place}: {n_same} files in it have this name.", hint=hint)
        _check_method(path, entry)
        _copy(path, archive, entry, to)
        if is_zip(to) and not is_workbook(to):
            raise BatchError(f"{place} is itself an archive.", hint=_NESTED)
    except BatchError as error:
        to.unlink(missing_ok=True)
        return error
    return to


def _check_method(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse all but Deflate: of other methods zipfile unpacks in one piece whatever a block of them holds."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = _OTHER_METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        what = f"{path}, {entry.orig_filename!r} is compressed with {method}."
        raise BatchError(what, hint="make the zip again with the usual compression, Deflate.")


def _copy(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, to: Path) -> None:
    """Write an entry block by block; never more than its size in the directory, which is in the sum that is allowed."""
    written = 0
    try:
        with archive.open(entry) as source, to.open("xb") as target:
            while block := source.read(BLOCK_BYTES):
                written += len(block)
                if written > entry.file_size:
                    break
                target.write(block)
        if written != entry.file_size:
            raise EOFError("it has more or fewer bytes than the directory says")
    except _DAMAGE as error:
        raise _damaged(path, entry, error) from error


def _damaged(path: Path, entry: zipfile.ZipInfo, error: Exception) -> BatchError:
    reason = str(error).rstrip(".")
    return BatchError(f"{path}, {entry.orig_filename!r} is damaged: {reason}.", hint=_SEND_AGAIN)


def _shown(entry: zipfile.ZipInfo) -> str:
    """An entry's name for messages. Finder and `zip` write UTF-8 and do not say so; zipfile then takes it for CP437."""
    name = entry.orig_filename
    if not entry.flag_bits & _IS_UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return "".join(character if character.isprintable() else "\ufffd" for character in name)
