"""Which files of a folder count, here and in an object store, and in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from storage.folders import MANIFEST

ERRORS_SUFFIX = ".errors.csv"
"""Of the lists that an ingest writes beside a file, and removes again."""


def published(listing: Iterable[str], parent: str) -> list[str]:
    """The folders of `parent` with a manifest, in order."""
    folders = [PurePosixPath(name).parent for name in listing if PurePosixPath(name).name == MANIFEST]
    return sorted(folder.as_posix() for folder in folders if is_in(folder.as_posix(), parent))


def names_in(listing: Iterable[str], folder: str) -> list[str]:
    """The files directly in a folder, the manifest last."""
    return sorted((name for name in listing if is_in(name, folder)), key=_manifest_last)


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
