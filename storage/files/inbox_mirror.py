"""Synchronize the local inbox with the inbox in an object store, so that each file is ingested by one machine only.

A file is removed from the store's inbox once its copy is in the store's inbox/done or inbox/rejected. The names of the
copies contain a hash of their content, so that machines never overwrite each other's. Every operation may be killed and
run again, with the same result.
"""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath

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
from storage.files.seen_files import Seen, SeenFiles


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
