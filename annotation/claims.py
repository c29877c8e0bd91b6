"""Claim files of the inbox while they are ingested, so that they are moved away unchanged or put back.

One process at a time ingests from an inbox. Files that a crashed process had claimed are put back first.
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
"""Folder in the inbox for the files that an ingest is reading."""

PUT_AWAY = ("done", "rejected")
"""Folders in the inbox for files that were ingested and for files with rejected rows."""
PATIENCE_S = 600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileState:
    """A file's size, modification time and hash when it was read."""

    size: int
    changed_ns: int
    sha256: str


def state_of(path: Path) -> FileState:
    """The present state of a file.

    Raises:
        OSError: The file cannot be read.
    """
    before = path.stat()
    return FileState(before.st_size, before.st_mtime_ns, sha256_of(path))


@contextmanager
def alone_in(workspace: Workspace) -> Iterator[None]:
    """Lock the inbox against other ingests on this machine; put back the files that a crashed one had claimed.

    Raises:
        BatchError: Another ingest held the lock for `PATIENCE_S`, or a file has the name of a folder of the inbox.
    """
    inbox = workspace.inbox
    inbox.mkdir(parents=True, exist_ok=True)
    lock = workspace.inbox_lock()
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Another ingest or a backup is running; waiting for it to finish.")
        try:
            lock.acquire(timeout=PATIENCE_S)
        except Timeout as error:
            what = f"Another ingest from {inbox} is still running."
            raise BatchError(what, hint="Run the command again when it has finished.") from error
    try:
        for folder in (inbox / name for name in (CLAIMED, *PUT_AWAY)):
            if os.path.lexists(folder) and not folder.is_dir():
                raise BatchError(f"{folder} is not a folder.", hint="Move it away, and run the command again.")
        for path in claimed_files(inbox):
            log.info("Moved %s back into the inbox after a crashed ingest.", put_back(inbox, path).name)
        yield
    finally:
        lock.release()


def claim(inbox: Path, path: Path) -> Path:
    """Move a file of the inbox into the folder of claimed files; returns its new path.

    Raises:
        OSError: The file cannot be moved.
    """
    (inbox / CLAIMED).mkdir(exist_ok=True)
    claimed = inbox / CLAIMED / path.name
    os.replace(path, claimed)  # noqa: PTH105
    return claimed


def put_back(inbox: Path, path: Path) -> Path:
    """Move a claimed file back into the inbox, with a number in its name if the name is in use."""
    number = 1
    while True:
        target = inbox / (path.name if number == 1 else f"{path.stem} ({number}){path.suffix}")
        if take_free_name(path, target):
            return target
        number += 1


def claimed_files(inbox: Path) -> list[Path]:
    """The files that an ingest has claimed and not moved away yet, by name."""
    folder = inbox / CLAIMED
    return sorted(folder.iterdir()) if folder.is_dir() else []


def take_free_name(part: Path, target: Path) -> bool:
    """Rename a file without overwriting; returns False if the name is in use."""
    if os.path.lexists(target):
        return False
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        part.replace(target)
        return True
    part.unlink()
    return True
