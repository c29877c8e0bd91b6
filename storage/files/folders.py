"""A folder that is there whole or not at all: written beside its place, manifest last, renamed in one step.

Also which files of a folder count, here and in an object store, and in which order.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from storage.errors import WorkspaceError
from storage.files.object_store import Stored

MANIFEST = "manifest.json"
"""A folder without it does not count."""


def publish_folder(folder: Path, write: Callable[[Path], dict[str, Any]]) -> bool:
    """Make a folder; False where it is there already, also when another process was faster.

    A folder of that name without a manifest gets what it lacks: what somebody has in it stays. What a killed
    process left beside it is removed.

    Args:
        write: Writes the files into the folder it is given, and returns the manifest.

    Raises:
        OSError: It cannot be written; nothing is left behind.
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
        _take_name(part, folder)
    except OSError:
        if not (folder / MANIFEST).is_file():  # not another process that was faster
            raise
        return False
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for left in folder.parent.glob(f".{folder.name}.*.part"):  # of processes that were killed, or are too late
        shutil.rmtree(left, ignore_errors=True)
    to_disk(folder.parent)
    return True


def add_files(folder: Path, write: Callable[[Path], dict[str, Any]]) -> None:
    """Put more files into a folder that is there, then the manifest that names them; a file of that name stays.

    Args:
        write: Writes the files into the folder it is given, and returns the whole manifest.
    """
    for left in folder.glob(".*.part"):  # of a killed process
        shutil.rmtree(left, ignore_errors=True)
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
    """The path of `name` in a folder; every path that comes from a file or an archive goes through here.

    Raises:
        WorkspaceError: It leads out of the folder: by `..`, as an absolute path, or through a link.

    >>> inside(Path("/a"), "b/c.csv").as_posix()
    '/a/b/c.csv'
    """
    relative = Path(name)
    path = folder / relative
    leads_out = not name or "\0" in name or bool(relative.anchor) or ".." in relative.parts
    if leads_out or not path.resolve().is_relative_to(folder.resolve()):
        raise WorkspaceError(f"The path {name!r} leads out of {folder}.", hint="Use a file from a source you trust.")
    return path


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file, such as a manifest.

    Raises:
        ValueError: It is missing, cannot be read, or is something else; the message says which, and names the file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds {type(values).__name__}, not an object")
    return values


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, in place of one of that name."""
    with whole_file(path) as part:
        part.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; what is there at the end takes its name, after an error nothing does.

    Raises:
        OSError: It cannot be written there; this comes first.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        part.unlink()  # DuckDB writes beside a file that is there
        yield part
        to_disk(part)
        os.replace(part, path)  # noqa: PTH105
    finally:
        part.unlink(missing_ok=True)
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """fsync a file, or a folder where the system can."""
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


def _take_name(part: Path, folder: Path) -> None:
    """Give the written folder its name; move what is missing where a folder of that name has no manifest."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir() or (folder / MANIFEST).is_file():
            raise
        for path in sorted(part.iterdir(), key=lambda path: path.name == MANIFEST):
            if not (folder / path.name).exists():
                path.rename(folder / path.name)
        to_disk(folder)


def remove_left_parts(parent: Path, older_than_s: float = 86_400) -> None:
    """Remove what killed processes left half written beside the folders in `parent`; younger ones may be at work."""
    for left in parent.glob(".*.part"):
        if time.time() - left.stat().st_mtime > older_than_s:
            shutil.rmtree(left, ignore_errors=True)


log = logging.getLogger(__name__)

LONGEST_NAME_BYTES, LARGEST_BYTES = 200, 1_000_000_000
"""What an annotator may put into a store and still have it brought: a disk takes it, and so does memory."""
ERRORS_SUFFIX = ".errors.csv"
"""Of the lists that an ingest writes beside a file, and removes again."""


def published(listing: Iterable[str], parent: str) -> list[str]:
    """The folders of `parent` with a manifest, in order."""
    folders = [PurePosixPath(name).parent for name in listing if PurePosixPath(name).name == MANIFEST]
    return sorted(folder.as_posix() for folder in folders if is_in(folder.as_posix(), parent))


def names_in(listing: Iterable[str], folder: str) -> list[str]:
    """The files directly in a folder, the manifest last."""
    return sorted((name for name in listing if is_in(name, folder)), key=_manifest_last)


def names_to_bring(listing: Mapping[str, Stored], folder: str) -> list[str]:
    """The files directly in a folder of the store that can be brought, the manifest last; the others are told."""
    found = []
    for name in names_in(listing, folder):
        n_bytes, long = listing[name].size_bytes, len(PurePosixPath(name).name.encode()) > LONGEST_NAME_BYTES
        if long or n_bytes > LARGEST_BYTES:
            why = f"its name is longer than {LONGEST_NAME_BYTES} bytes" if long else f"it has {n_bytes:,} bytes"
            log.warning("%s is left in the store: %s", name, why)
        else:
            found.append(name)
    return found


def is_in(name: str, folder: str) -> bool:
    """Whether `name` is that of something directly in `folder`, and neither hidden nor a way out of it."""
    before, _, last = name.rpartition("/")
    return before == folder and not last.startswith(".") and "\\" not in last and last != ""


def files_in(folder: Path) -> list[Path]:
    """The files of a folder but for hidden ones, the manifest last."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(found, key=lambda path: _manifest_last(path.name))


def _manifest_last(name: str) -> tuple[bool, str]:
    return PurePosixPath(name).name == MANIFEST, name


def beside(name: str, content: bytes) -> str:
    """`name` with a mark of the content, so that two contents never have one name.

    >>> beside("batch.csv", b"a")
    'batch-ca978112ca1b.csv'
    """
    path = PurePosixPath(name)
    mark = sha256_of(content)[:12]
    return name if path.stem.endswith(f"-{mark}") else f"{path.stem}-{mark}{path.suffix}"


def sha256_of(content: bytes) -> str:
    """Hash of a content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
