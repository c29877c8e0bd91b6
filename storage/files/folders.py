"""Publish a folder completely or not at all: write it under a temporary name, the manifest last, then rename it.

Also which files of a local or stored folder belong to it, and their order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from storage.errors import WorkspaceError
from storage.files.object_store import Stored

MANIFEST = "manifest.json"
"""A folder without a manifest is not published."""


def publish_folder(folder: Path, write: Callable[[Path], dict[str, Any]]) -> bool:
    """Publish a folder; return False if it already exists or another process publishes it first.

    If a folder of this name exists without a manifest, the missing files are added and its own files are kept.
    Temporary folders of killed processes are removed.

    Args:
        folder: The path of the folder.
        write: Writes the files into a temporary folder and returns the manifest.

    Raises:
        OSError: The folder cannot be written; nothing is left behind.
    """
    if (folder / MANIFEST).is_file():
        return False
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _write_manifest(part, write(part))
        for path in (*part.iterdir(), part):
            to_disk(path)
        _rename_or_complete(part, folder)
    except OSError:
        if not (folder / MANIFEST).is_file():
            raise
        return False  # another process was faster
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for leftover in folder.parent.glob(f".{folder.name}.*.part"):  # of processes that were killed or were slower
        shutil.rmtree(leftover, ignore_errors=True)
    to_disk(folder.parent)
    return True


def add_files(folder: Path, write: Callable[[Path], dict[str, Any]]) -> None:
    """Add files to a published folder, then replace its manifest; existing files are kept.

    Args:
        folder: The published folder.
        write: Writes the files into a temporary folder and returns the complete new manifest.
    """
    for leftover in folder.glob(".*.part"):  # of a killed process
        shutil.rmtree(leftover, ignore_errors=True)
    part = folder / f".{os.getpid()}.part"
    part.mkdir()
    try:
        _write_manifest(part, write(part))
        for path in part.iterdir():
            to_disk(path)
        for path in part.iterdir():
            if path.name != MANIFEST and not (folder / path.name).exists():
                path.rename(folder / path.name)
        to_disk(folder)
        os.replace(part / MANIFEST, folder / MANIFEST)  # noqa: PTH105
    finally:
        shutil.rmtree(part, ignore_errors=True)
    to_disk(folder)


def inside(folder: Path, name: str) -> Path:
    """Return the path of `name` in a folder; to be used for every path that is read from a file or an archive.

    Raises:
        WorkspaceError: The path is outside the folder (by `..`, as an absolute path, or through a link), or no path.

    >>> inside(Path("/a"), "b/c.csv").as_posix()
    '/a/b/c.csv'
    """
    relative = Path(name)
    path = folder / relative
    is_unsafe = not relative.name or bool(re.search("[\0\ud800-\udfff]", name)) or bool(relative.anchor)
    is_unsafe = is_unsafe or ".." in relative.parts
    if is_unsafe or not path.resolve().is_relative_to(folder.resolve()):
        raise WorkspaceError(f"The path {name!r} is outside {folder}.", hint="Use a file from a source you trust.")
    return path


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, such as a manifest.

    Raises:
        ValueError: The file is missing or damaged, or its content is not an object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it contains a {type(values).__name__}, not an object")
    return values


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely or not at all; an existing file is replaced."""
    with whole_file(path) as part:
        part.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` at the end; after an error `path` is unchanged.

    Raises:
        OSError: The folder is not writable; raised before the body runs.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        part.unlink()  # DuckDB would write beside an existing file
        yield part
        to_disk(part)
        os.replace(part, path)  # noqa: PTH105
    finally:
        part.unlink(missing_ok=True)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Flush a file to disk (fsync), or a folder where the system supports it."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_manifest(folder: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8", newline="\n")


def _rename_or_complete(part: Path, folder: Path) -> None:
    """Rename the temporary folder; if the folder exists without a manifest, move the missing files into it."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir() or (folder / MANIFEST).is_file():
            raise
        for path in sorted(part.iterdir(), key=lambda path: path.name == MANIFEST):
            if not (folder / path.name).exists():
                path.rename(folder / path.name)
        to_disk(folder)


def remove_left_parts(*parents: Path, suffix: str = ".part") -> None:
    """Remove temporary folders that killed processes left there; those of the last day may still be in use."""
    for leftover in (path for parent in parents for path in parent.glob(f".*{suffix}")):
        if time.time() - leftover.stat().st_mtime > 86_400:
            shutil.rmtree(leftover, ignore_errors=True)


log = logging.getLogger(__name__)

LONGEST_NAME_BYTES, LARGEST_BYTES = 200, 1_000_000_000
"""Limits of files that are downloaded from a store: names must fit on a disk, and contents into memory."""
ERRORS_SUFFIX = ".errors.csv"
"""Suffix of the lists of errors that an ingest writes beside a file, and removes again."""


def published(listing: Iterable[str], parent: str) -> list[str]:
    """Return the published folders of `parent` in a listing, sorted."""
    folders = [PurePosixPath(name).parent for name in listing if PurePosixPath(name).name == MANIFEST]
    return sorted(folder.as_posix() for folder in folders if is_in(folder.as_posix(), parent))


def names_in(listing: Iterable[str], folder: str) -> list[str]:
    """Return the files directly in a folder, sorted, the manifest last."""
    return sorted((name for name in listing if is_in(name, folder)), key=_manifest_last)


def names_to_bring(listing: Mapping[str, Stored], folder: str) -> list[str]:
    """Return the files directly in a stored folder that can be downloaded, the manifest last; log the others."""
    names = []
    for name in names_in(listing, folder):
        n_bytes, long = listing[name].size_bytes, len(PurePosixPath(name).name.encode()) > LONGEST_NAME_BYTES
        if long or n_bytes > LARGEST_BYTES:
            reason = f"its name is longer than {LONGEST_NAME_BYTES} bytes" if long else f"it has {n_bytes:,} bytes"
            log.warning("Did not download %s from the store: %s.", name, reason)
        else:
            names.append(name)
    return names


def is_in(name: str, folder: str) -> bool:
    """Whether `name` is directly in `folder`, is not hidden, and contains no backslash."""
    before, _, last = name.rpartition("/")
    return before == folder and not last.startswith(".") and "\\" not in last and last != ""


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder except hidden ones, sorted, the manifest last."""
    if not folder.is_dir():
        return []
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(files, key=lambda path: _manifest_last(path.name))


def _manifest_last(name: str) -> tuple[bool, str]:
    return PurePosixPath(name).name == MANIFEST, name


def beside(name: str, content: bytes) -> str:
    """Add a hash of the content to a file name, so that different contents never have the same name.

    >>> beside("batch.csv", b"a")
    'batch-ca978112ca1b.csv'
    """
    path = PurePosixPath(name)
    digest = sha256_of(content)[:12]
    return name if path.stem.endswith(f"-{digest}") else f"{path.stem}-{digest}{path.suffix}"


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 hash of a content in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
