"""Files of the inbox while they are ingested: claimed, then put away as they were read, or put back.

One process at a time ingests from an inbox. A file that a crashed one had claimed is put back first, and read again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from annotation.batch import sha256_of
from storage.errors import BatchError
from storage.workspace import Workspace

CLAIMED = ".claimed"
"""Folder in the inbox of the files that an ingest is reading."""

PATIENCE_S = 600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileState:
    """What a file was when it was read."""

    size: int
    changed_ns: int
    sha256: str


def state_of(path: Path) -> FileState:
    """What a file is now.

    Raises:
        OSError: It cannot be read.
    """
    before = path.stat()
    return FileState(before.st_size, before.st_mtime_ns, sha256_of(path))


@contextmanager
def alone_in(workspace: Workspace) -> Iterator[None]:
    """Let no other process of this machine ingest from the inbox meanwhile; put back what a crashed one left.

    Raises:
        BatchError: Another one has been at it for `PATIENCE_S`.
    """
    inbox = workspace.inbox
    inbox.mkdir(parents=True, exist_ok=True)
    lock = workspace.inbox_lock()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Another ingest or a backup is running; waiting until it ends.")
        try:
            lock.acquire(timeout=PATIENCE_S)
        except Timeout as error:
            raise BatchError(f"Another ingest from {inbox} is still running.", hint="Try again later.") from error
    try:
        for path in claimed_files(inbox):
            log.info("Put %s back into the inbox: an ingest that crashed had claimed it.", put_back(inbox, path).name)
        yield
    finally:
        lock.release()


def claim(inbox: Path, path: Path) -> Path:
    """Move a file of the inbox to where nobody else takes it; returns where it is.

    Raises:
        OSError: It cannot be moved.
    """
    (inbox / CLAIMED).mkdir(exist_ok=True)
    place = inbox / CLAIMED / path.name
    os.replace(path, place)  # noqa: PTH105
    return place


def put_back(inbox: Path, path: Path) -> Path:
    """Move a claimed file back into the inbox, under its name or, where that is taken by now, with a number."""
    number = 1
    while True:
        place = inbox / (path.name if number == 1 else f"{path.stem} ({number}){path.suffix}")
        if take_free_name(path, place):
            return place
        number += 1


def claimed_files(inbox: Path) -> list[Path]:
    """The files that an ingest has claimed and not put away, by name."""
    folder = inbox / CLAIMED
    return sorted(folder.iterdir()) if folder.is_dir() else []


def take_free_name(part: Path, place: Path) -> bool:
    """Move a file to a name; False where that is taken, also by another process just now."""
    if os.path.lexists(place):
        return False
    try:
        os.link(part, place)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        part.replace(place)
        return True
    part.unlink()
    return True
