"""Reads filled files from a zip archive: checks it, unpacks it into a private folder, and removes that afterwards.

The archive is untrusted. No name in it becomes a path on disk, sizes in its directory are not believed, and archives
that can only be attacks are rejected as a whole.
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
"""Maximum compression ratio. Text reaches 5, repetitive text 50; Deflate reaches 1,000 on a single character."""

RATIO_FROM_BYTES = 10_000_000
BLOCK_BYTES = 65_536

_HEADER = struct.Struct("<4s22xHH")  # before each entry: signature, fields that the directory has too, two lengths
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_IS_UTF8 = 0x800
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, LookupError, ValueError)
_ZIP_AGAIN = "Create the zip again from the filled files."
_SEND_AGAIN = "Copy or download it again, or use the filled files directly."
_NESTED = "Unpack it and use its files; save other kinds of tables as .xlsx or 'CSV UTF-8'."


@dataclass(frozen=True)
class Part:
    """One file in an archive.

    Attributes:
        name: Its name in the archive, for messages only; U+FFFD replaces unprintable characters.
        content: Its unpacked path while the archive is open, or the error.
    """

    name: str
    content: Path | BatchError

    @property
    def path(self) -> Path:
        """Its unpacked path.

        Raises:
            BatchError: It could not be unpacked; other parts can still be read.
        """
        if isinstance(self.content, BatchError):
            raise self.content
        return self.content


@contextmanager
def opened_archive(path: Path) -> Iterator[list[Part]]:
    """Unpack a zip archive; the files, in the archive's order, are removed when the context is left.

    Folders, hidden files, lock files and system files (`__MACOSX`, `Thumbs.db`) are skipped.

    Raises:
        BatchError: The archive is damaged, encrypted, too large or empty, or an entry is unsafe.
        OSError: It cannot be read, or there is no space to unpack it.
    """
    with tempfile.TemporaryDirectory(prefix="pal-") as folder:
        yield _unpacked(path, Path(folder))


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip archive; workbooks (.xlsx) do too."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")  # the latter: an empty archive


def is_workbook(path: Path) -> bool:
    """Whether a file is a zip archive with the parts of a workbook (.xlsx); False if it is damaged."""
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
    """Open the archive; its directory has been read, and its entries do not overlap."""
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
    """A file with a limit on a single read: zipfile reads the directory at once, whatever size it claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has {size:,} bytes, more than {MOST_DIRECTORY_BYTES:,}")
        return super().read(size)


def _check_places(path: Path, archive: zipfile.ZipFile, file: io.BufferedReader) -> None:
    """Reject overlapping entries, as in Fifield (2019), A better zip bomb."""
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
            raise BatchError(f"{path}: {entry.orig_filename!r} overlaps another entry.", hint=_ZIP_AGAIN)


def _unpacked(path: Path, folder: Path) -> list[Part]:
    with _opened(path) as archive:
        entries = _candidates(path, archive.infolist())
        _check_sizes(path, entries)
        counts = Counter(entry.orig_filename for entry in entries)
        parts = []
        for number, entry in enumerate(entries, start=1):
            suffix = PurePosixPath(entry.orig_filename).suffix.lower()
            target = folder / f"{number:04d}{suffix if re.fullmatch('[.][a-z0-9]{1,8}', suffix) else ''}"
            content = _content(path, archive, entry, target, counts[entry.orig_filename])
            parts.append(Part(_shown(entry), content))
        return parts


def _candidates(path: Path, entries: Sequence[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The entries that may be filled files.

    Raises:
        BatchError: An entry has an unsafe name or type, or there are no files.
    """
    for entry in entries:
        name = entry.orig_filename
        if name.startswith("/") or re.match("[A-Za-z]:", name) or re.search(r"[\\\0]", name) or ".." in name.split("/"):
            raise BatchError(f"{path}: the path {name!r} points outside the archive.", hint=_ZIP_AGAIN)
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BatchError(f"{path}: {name!r} is a link or a device, not a file.", hint=_ZIP_AGAIN)
    names = {entry.orig_filename for entry in entries}
    if names & {"[Content_Types].xml", "mimetype", "Index/Document.iwa"}:  # of Office, OpenDocument, Apple
        hint = "Open it in a spreadsheet, save it as .xlsx or 'CSV UTF-8', and put that into the inbox."
        raise BatchError(f"{path} is a document, not an archive of filled files.", hint=hint)
    candidates = [entry for entry in entries if not _is_skipped(entry.orig_filename)]
    if not candidates:
        raise BatchError(f"{path} contains no files.", hint=_ZIP_AGAIN)
    return candidates


def _is_skipped(name: str) -> bool:
    *folders, file = name.split("/")
    hidden = any(part.startswith(".") and part != "." for part in (*folders, file))
    return not file or hidden or "__MACOSX" in folders or file.startswith("~") or file.lower() == "thumbs.db"


def _check_sizes(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Reject encrypted and oversized archives before anything is unpacked."""
    if len(entries) > MOST_ENTRIES:
        raise BatchError(
            f"{path} has {len(entries):,} files; at most {MOST_ENTRIES:,} are read.", hint="Split the archive."
        )
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED:
            what = f"{path}: {entry.orig_filename!r} is encrypted."
            raise BatchError(what, hint="Unpack it with its password and use the filled files.")
        if entry.file_size > max(RATIO_FROM_BYTES, MOST_RATIO * entry.compress_size):
            sizes = f"from {entry.compress_size:,} to {entry.file_size:,} bytes, which no table does"
            raise BatchError(f"{path}: {entry.orig_filename!r} would unpack {sizes}.", hint=_ZIP_AGAIN)
    total = sum(entry.file_size for entry in entries)
    if total > MAX_BYTES:
        raise BatchError(
            f"{path} would unpack to {total:,} bytes; at most {MAX_BYTES:,} are read.", hint="Split the archive."
        )


def _content(
    path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, n_same: int
) -> Path | BatchError:
    """Unpack one entry to `target`; on failure, nothing is left there."""
    place = f"{path}, {entry.orig_filename!r}"
    try:
        if n_same > 1:
            hint = "Remove or rename one of them, and create the zip again."
            raise BatchError(f"{place}: {n_same} files have this name.", hint=hint)
        _check_method(path, entry)
        _copy(path, archive, entry, target)
        if is_zip(target) and not is_workbook(target):
            raise BatchError(f"{place} is itself an archive.", hint=_NESTED)
    except BatchError as error:
        target.unlink(missing_ok=True)
        return error
    return target


def _check_method(path: Path, entry: zipfile.ZipInfo) -> None:
    """Reject all methods but Deflate: with others, zipfile unpacks a block at once, whatever its size."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        method = _OTHER_METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        what = f"{path}, {entry.orig_filename!r} is compressed with {method}."
        raise BatchError(what, hint="Create the zip again with the usual compression, Deflate.")


def _copy(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Write an entry block by block, never more than its size in the directory, which was checked."""
    written = 0
    try:
        with archive.open(entry) as source, target.open("xb") as unpacked:
            while block := source.read(BLOCK_BYTES):
                written += len(block)
                if written > entry.file_size:
                    break
                unpacked.write(block)
        if written != entry.file_size:
            raise EOFError("its size differs from the size in the directory")
    except _DAMAGE as error:
        raise _damaged(path, entry, error) from error


def _damaged(path: Path, entry: zipfile.ZipInfo, error: Exception) -> BatchError:
    reason = str(error).rstrip(".")
    return BatchError(f"{path}, {entry.orig_filename!r} is damaged: {reason}.", hint=_SEND_AGAIN)


def _shown(entry: zipfile.ZipInfo) -> str:
    """An entry's name for messages. Finder and `zip` write UTF-8 without the flag, which zipfile decodes as CP437."""
    name = entry.orig_filename
    if not entry.flag_bits & _IS_UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return "".join(character if character.isprintable() else "\ufffd" for character in name)
