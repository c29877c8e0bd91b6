"""The inbox here and the one in an object store: what annotators put there is taken once, and put away there too.

A file leaves the store's inbox once its copy is in the store's inbox/done or inbox/rejected; the copies' names have a
mark of their content, so that no two machines ever write the same one. Killed and run again, it ends as if it was not.
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
    """The local inbox beside the store's.

    Args:
        store: Where the other machines and the annotators are.
        seen: What this machine saw of it.
        local: The workspace's directory.
    """

    def __init__(self, store: ObjectStore, seen: SeenFiles, local: Path) -> None:
        self._store, self._seen, self._local = store, seen, local

    def hand_in(self, file: Path) -> str:
        """Put a filled file into the store's inbox, under a name that its content gives it; returns its URI."""
        content = file.read_bytes()
        name = f"inbox/{beside(file.name, content)}"
        self._store.put(name, content)
        return f"{self._store.root}/{name}"

    def pull(self) -> None:
        """Bring the files of the store's inbox; remove those that another machine has put away meanwhile."""
        with self._seen.session():
            listing = self._settle()
            for name in names_to_bring(listing, "inbox"):
                self._bring(name, listing[name])
            for name in self._seen:
                if is_in(name, "inbox") and name not in listing:
                    self._seen.remove_copy(name)

    def settle(self) -> None:
        """Put what an ingest put away; then the store's inbox loses it."""
        with self._seen.session():
            self._settle()

    def _bring(self, name: str, stored: Stored) -> None:
        seen = self._seen.get(name)
        if seen and self._is_here(seen) and self._is_as_seen(name, stored, seen):
            return
        content = self._store.get(name)
        if content is None:  # another machine put it away meanwhile
            return
        place = self._local / "inbox" / PurePosixPath(name).name
        if place.exists() and place.read_bytes() != content:
            place = place.with_name(beside(place.name, content))
        write_whole(place, content)
        self._seen.remember(name, content, stored, place.name)

    def _settle(self) -> dict[str, Stored]:
        """Put what is put away here, then remove it from the store's inbox; returns what that still has."""
        away = set()
        for folder in ("done", "rejected"):
            for path in files_in(self._local / "inbox" / folder):
                if not path.name.endswith(ERRORS_SUFFIX):
                    with contextlib.suppress(FileNotFoundError):  # another process has put it elsewhere
                        away.add(self._put_away(path, f"inbox/{folder}"))
        listing = self._store.listing("inbox")
        for name in names_in(listing, "inbox"):
            seen = self._seen.get(name)
            if seen is None or seen.sha256 not in away or self._is_here(seen):
                continue
            if self._is_as_seen(name, listing[name], seen):
                self._store.delete(name)
                self._seen.forget(name)
                del listing[name]
        return listing

    def _put_away(self, path: Path, folder: str) -> str:
        """Put a file that was put away here, its list of errors before it; returns its hash."""
        name, status = self._name(path), path.stat()
        as_now = Stored(status.st_size, status.st_mtime_ns)
        seen = self._seen.get(name)
        if seen and seen.stored == as_now:
            return seen.sha256
        content, errors = path.read_bytes(), path.with_name(f"{path.name}{ERRORS_SUFFIX}")
        place = f"{folder}/{beside(path.name, content)}"
        if errors.is_file():
            self._store.put(f"{place}{ERRORS_SUFFIX}", errors.read_bytes())
        self._store.put(place, content)
        self._seen.remember(name, content, as_now)
        return sha256_of(content)

    def _is_as_seen(self, name: str, stored: Stored, seen: Seen) -> bool:
        """Whether a file of the inbox is that which was seen; its content is read where the listing may deceive."""
        if seen.stored != stored or seen.settled:
            return seen.stored == stored
        content = self._store.get(name)
        if content is None or not self._seen.is_known(name, content):
            return False
        self._seen.remember(name, content, stored, seen.local)
        return True

    def _is_here(self, seen: Seen) -> bool:
        """Whether it waits in the inbox, or an ingest is reading it."""
        return any((self._local / "inbox" / folder / seen.local).exists() for folder in ("", ".claimed"))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._local).as_posix()
