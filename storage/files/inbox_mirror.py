"""Synchronize the local inbox with the inbox in an object store, so that each file is ingested by one machine only.

A file is removed from the store's inbox once its copy is in the store's inbox/done or inbox/rejected. The names of the
copies contain a hash of their content, so that machines never overwrite each other's. Every operation may be killed and
run again, with the same result.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from storage.files.folders import (
    ERRORS_SUFFIX,
    beside,
    files_in,
    is_in,
    names_in,
    names_to_bring,
    sha256_of,
    write_whole,
)
from storage.files.object_store import ObjectStore, Stored

MEMORY, LOCK = ".files.json", ".files.lock"
TICK_S = 2.0
"""Times in a listing may be whole seconds: a file that changes again within this time may show the same time."""
OLD_S = 3600.0
"""A file that was last changed this long ago no longer shares its time with a later change."""


@dataclass(frozen=True)
class Seen:
    """The state of a file when this machine last read or wrote its content.

    Attributes:
        sha256: The hash of the content.
        stored: Its entry in the listing; None if this machine wrote it and has not listed it since.
        settled: Whether any later change would be visible in a listing.
        first_s: When this state was first seen, in s since 1970 by the local clock.
        local: The name of the local copy of a file of the inbox.
    """

    sha256: str
    stored: Stored | None
    settled: bool
    first_s: float
    local: str = ""


class SeenFiles:
    """The states of the files of one store, by name; read and change them only within a `session`.

    Args:
        root: The URI of the store; states of another store are discarded.
        local: The workspace's directory.
    """

    def __init__(self, root: str, local: Path) -> None:
        self._root, self._local = root, local
        self._seen: dict[str, Seen] = {}

    @contextmanager
    def session(self) -> Iterator[None]:
        """Lock the states against other local processes and load them; save them at the end, also after an error."""
        with FileLock(self._local / LOCK):
            self._seen = self._load()
            before = dict(self._seen)
            try:
                yield
            finally:
                if self._seen != before:
                    seen = {name: asdict(state) for name, state in sorted(self._seen.items())}
                    content = json.dumps({"root": self._root, "seen": seen}, indent=0)
                    write_whole(self._local / MEMORY, content.encode())

    def __iter__(self) -> Iterator[str]:
        """Iterate over a copy of the names, so that states may be changed meanwhile."""
        return iter(list(self._seen))

    def get(self, name: str) -> Seen | None:
        """Return the state of a file; None if it was never seen."""
        return self._seen.get(name)

    def is_known(self, name: str, content: bytes) -> bool:
        """Whether the content is the one that was last seen."""
        seen = self._seen.get(name)
        return seen is not None and seen.sha256 == sha256_of(content)

    def remember(self, name: str, content: bytes, stored: Stored | None, local: str = "") -> None:
        """Save the current state of a file: its content, its entry in the listing and the name of its local copy."""
        digest, now, before = sha256_of(content), time.time(), self._seen.get(name)
        same = before is not None and (before.sha256, before.stored) == (digest, stored)
        first = before.first_s if before is not None and same else now
        settled = stored is not None and (now - first > TICK_S or now - stored.changed_ns / 1e9 > OLD_S)
        self._seen[name] = Seen(digest, stored, settled, first, local)

    def remove_copy(self, name: str) -> None:
        """Remove the local copy of a file that another machine removed from the store, unless the copy has changed."""
        seen = self._seen.pop(name)
        path = self._local / PurePosixPath(name).with_name(seen.local or PurePosixPath(name).name)
        if path.is_file() and sha256_of(path.read_bytes()) == seen.sha256:
            path.unlink()

    def forget(self, name: str) -> None:
        """Forget a file that no longer exists."""
        self._seen.pop(name, None)

    def _load(self) -> dict[str, Seen]:
        """Load the states; none if they are lost or of another store, in which case contents are compared again."""
        try:
            saved = json.loads((self._local / MEMORY).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        if saved["root"] != self._root:
            return {}
        return {
            name: Seen(**{**state, "stored": Stored(**state["stored"]) if state["stored"] else None})
            for name, state in saved["seen"].items()
        }


class InboxMirror:
    """The local inbox and its counterpart in the store.

    Args:
        store: The store, shared with other machines and with annotators.
        seen: The state of each file when this machine last accessed it.
        local: The workspace's directory.
    """

    def __init__(self, store: ObjectStore, seen: SeenFiles, local: Path) -> None:
        self._store, self._seen, self._local = store, seen, local

    def hand_in(self, file: Path) -> str:
        """Upload a filled file to the store's inbox, under a name with a hash of its content; return its URI."""
        content = file.read_bytes()
        name = f"inbox/{beside(file.name, content)}"
        self._store.put(name, content)
        return f"{self._store.root}/{name}"

    def pull(self) -> None:
        """Download the files of the store's inbox; remove local copies of those that another machine has ingested."""
        with self._seen.session():
            listing = self._settle()
            for name in names_to_bring(listing, "inbox"):
                self._download(name, listing[name])
            for name in self._seen:
                if is_in(name, "inbox") and name not in listing:
                    self._seen.remove_copy(name)

    def settle(self) -> None:
        """Upload the files that an ingest moved to done or rejected, and remove them from the store's inbox."""
        with self._seen.session():
            self._settle()

    def _download(self, name: str, stored: Stored) -> None:
        seen = self._seen.get(name)
        if seen and self._is_in_inbox(seen) and self._is_unchanged(name, stored, seen):
            return
        content = self._store.get(name)
        if content is None:  # another machine has ingested it since the listing
            return
        path = self._local / "inbox" / PurePosixPath(name).name
        if path.exists() and path.read_bytes() != content:
            path = path.with_name(beside(path.name, content))
        write_whole(path, content)
        self._seen.remember(name, content, stored, path.name)

    def _settle(self) -> dict[str, Stored]:
        """Upload the ingested files and remove them from the store's inbox; return the listing of the rest."""
        ingested = set()
        for folder in ("done", "rejected"):
            for path in files_in(self._local / "inbox" / folder):
                if not path.name.endswith(ERRORS_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):  # another process has moved it
                        ingested.add(self._upload_ingested(path, f"inbox/{folder}"))
        listing = self._store.listing("inbox")
        for name in names_in(listing, "inbox"):
            seen = self._seen.get(name)
            if seen is None or seen.sha256 not in ingested or self._is_in_inbox(seen):
                continue
            if self._is_unchanged(name, listing[name], seen):
                self._store.delete(name)
                self._seen.forget(name)
                del listing[name]
        return listing

    def _upload_ingested(self, path: Path, folder: str) -> str:
        """Upload an ingested file after its list of errors; return its hash."""
        name, status = self._name(path), path.stat()
        current = Stored(status.st_size, status.st_mtime_ns)
        seen = self._seen.get(name)
        if seen and seen.stored == current:
            return seen.sha256
        content, errors = path.read_bytes(), path.with_name(f"{path.name}{ERRORS_SUFFIX}")
        target = f"{folder}/{beside(path.name, content)}"
        if errors.is_file():
            self._store.put(f"{target}{ERRORS_SUFFIX}", errors.read_bytes())
        self._store.put(target, content)
        self._seen.remember(name, content, current)
        return sha256_of(content)

    def _is_unchanged(self, name: str, stored: Stored, seen: Seen) -> bool:
        """Whether a stored file is the one that was seen; its content is read if the listing does not suffice."""
        if seen.stored != stored or seen.settled:
            return seen.stored == stored
        content = self._store.get(name)
        if content is None or not self._seen.is_known(name, content):
            return False
        self._seen.remember(name, content, stored, seen.local)
        return True

    def _is_in_inbox(self, seen: Seen) -> bool:
        """Whether the local copy is in the inbox, or an ingest is reading it."""
        return any((self._local / "inbox" / folder / seen.local).exists() for folder in ("", ".claimed"))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._local).as_posix()
