"""Which files of a folder count, here and in an object store, and in which order."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from storage.files.folders import MANIFEST
from storage.files.object_store import Stored

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
