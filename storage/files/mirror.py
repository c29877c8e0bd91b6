"""A workspace's folders and their truth in an object store: what is new comes here, what was made here goes there.

A folder counts once its manifest is there; it goes last in both directions. Models and encoders never change and are
fetched where they are missing. A file of a batch that was changed in one place follows in the other; changed in both,
the local one keeps its name, and the store's is put beside it, here and there, so that both are read. What was removed
is brought back from where it still is, but for what an ingest removes itself.

Every operation may be killed and run again, and ends as one that was not.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from storage.files.folders import (
    ERRORS_SUFFIX,
    MANIFEST,
    beside,
    files_in,
    names_in,
    names_to_bring,
    published,
    sha256_of,
    write_whole,
)
from storage.files.inbox_mirror import InboxMirror
from storage.files.object_store import ObjectStore, Stored
from storage.files.seen_files import SeenFiles


class Mirror:
    """The folders of a workspace on this machine, and those of the object store that several machines share.

    Args:
        root: `s3://bucket/folder` or the like.
        local: The workspace's directory.

    Every method raises StoreError where the store does not answer or refuses; the same call later goes on.
    """

    def __init__(self, root: str, local: Path) -> None:
        self._store = ObjectStore(root)
        self._local = local
        self._seen = SeenFiles(self._store.root, local)
        self.inbox = InboxMirror(self._store, self._seen, local)

    def fetch(self, folder: str) -> bool:
        """Bring a published folder such as `models/m1` where it is missing here; whether it is here now."""
        if (self._local / folder / MANIFEST).is_file():
            return True
        with self._seen.session():
            return self._fetch(folder, self._store.listing(folder))

    def fetch_all(self, parent: str) -> None:
        """Bring the published folders of `encoders` or `models` that are missing here."""
        with self._seen.session():
            listing = self._store.listing(parent)
            for folder in published(listing, parent):
                if not (self._local / folder / MANIFEST).is_file():
                    self._fetch(folder, listing)

    def publish(self, folder: Path) -> None:
        """Put a published folder that never changes, and what was written into it since; what is there stays."""
        with self._seen.session():
            self._publish(folder, self._store.listing(self._name(folder)))

    def publish_missing(self, parent: str) -> None:
        """Put the published folders of `models` or `encoders` that the store has not got, or not whole."""
        with self._seen.session():
            listing = self._store.listing(parent)
            for manifest in self._manifests(parent):
                if self._name(manifest) not in listing:
                    self._publish(manifest.parent, listing)

    def publish_file(self, path: Path) -> None:
        """Put a file of `reports`."""
        self._store.put(self._name(path), path.read_bytes())

    def pull_batches(self) -> None:
        """Bring what is new or changed in the store's published batches."""
        with self._seen.session():
            listing = self._store.listing("batches")
            for folder in published(listing, "batches"):
                names = [name for name in names_to_bring(listing, folder) if not self._is_here(name, listing[name])]
                for name, content in zip(names, self._store.get_all(names), strict=True):
                    self._bring(name, content, listing[name])
            for name in self._seen:
                if name.endswith(ERRORS_SUFFIX) and name not in listing:
                    self._seen.remove_copy(name)

    def push_batches(self, *, edits: bool) -> None:
        """Put what the store's batches lack and, with `edits`, what was changed in the local ones."""
        with self._seen.session():
            listing = self._store.listing("batches")
            for manifest in self._manifests("batches"):
                for path in files_in(manifest.parent):
                    with contextlib.suppress(FileNotFoundError):  # an ingest has removed a list of errors
                        if self._name(path) not in listing:
                            self._put(self._name(path), path.read_bytes())
                        elif edits:
                            self._push(path, listing[self._name(path)])

    def _manifests(self, parent: str) -> list[Path]:
        return sorted((self._local / parent).glob(f"[!.]*/{MANIFEST}"))

    def _publish(self, folder: Path, listing: dict[str, Stored]) -> None:
        whole = self._name(folder / MANIFEST) in listing
        for path in files_in(folder):
            name, content = self._name(path), path.read_bytes()
            changed = self._seen.get(name) is not None and not self._seen.is_known(name, content)
            if not whole or name not in listing or changed:
                self._put(name, content)

    def _fetch(self, folder: str, listing: dict[str, Stored]) -> bool:
        if f"{folder}/{MANIFEST}" not in listing:
            return False
        names = names_in(listing, folder)
        for name, content in zip(names, self._store.get_all(names), strict=True):
            if content is not None:
                self._write(self._local / name, content)
                self._seen.remember(name, content, listing[name])
        return True

    def _is_here(self, name: str, stored: Stored) -> bool:
        """Whether the listing alone shows that a batch's file is as it was last seen."""
        seen = self._seen.get(name)
        return seen is not None and seen.settled and seen.stored == stored and (self._local / name).exists()

    def _bring(self, name: str, there: bytes | None, stored: Stored) -> None:
        """Bring a batch's file as far as it changed in the store since it was last seen.

        Args:
            there: Its content in the store; None where it was removed meanwhile.
        """
        if there is None:
            return
        path = self._local / name
        here = path.read_bytes() if path.is_file() else None
        changed = not self._seen.is_known(name, there)
        if here is None and not changed and name.endswith(ERRORS_SUFFIX):  # an ingest removed it here
            self._store.delete(name)
            self._seen.forget(name)
            return
        if here is None:
            self._write(path, there)
        elif changed:
            self._merge(path, here, there)
        self._seen.remember(name, there, stored)

    def _merge(self, path: Path, here: bytes, there: bytes) -> None:
        """What changed in the store into the local file; beside it, where that was changed as well."""
        if path.suffix == ".jsonl" and there.startswith(here):  # a journal, which a terminal may have open
            with path.open("ab") as file:
                file.write(there[len(here) :])
                file.flush()
                os.fsync(file.fileno())
        elif here == there or (path.suffix == ".jsonl" and here.startswith(there)):
            return
        elif self._seen.is_known(self._name(path), here) or not _is_filled(path, here):
            write_whole(path, there)
        else:
            other = path.with_name(beside(path.name, there))
            write_whole(other, there)
            self._put(self._name(other), there)

    def _push(self, path: Path, stored: Stored) -> None:
        """Put a batch's file that was changed here since it was last seen in the store."""
        name = self._name(path)
        if not self._seen.is_known(name, path.read_bytes()):
            self._bring(name, self._store.get(name), stored)
            content = path.read_bytes()
            if not self._seen.is_known(name, content):
                self._put(name, content)

    def _put(self, name: str, content: bytes) -> None:
        self._store.put(name, content)
        self._seen.remember(name, content, None)

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._local).as_posix()


def _is_filled(path: Path, content: bytes) -> bool:
    """Whether a batch's file has something of somebody's: it is not as its folder's manifest says it was published."""
    if path.name == MANIFEST or path.name.endswith(ERRORS_SUFFIX):
        return False
    try:
        published = json.loads((path.parent / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, LookupError):
        return True
    return bool(published.get(path.name) != sha256_of(content))
