"""Synchronize the folders of a workspace with an object store: download new files, upload local ones.

A folder is published once its manifest exists; the manifest is transferred last in both directions. Models and encoders
never change and are downloaded where they are missing. A batch file that changed on one side replaces the other; if it
changed on both, the local one keeps its name and the stored one is added beside it on both sides, so that both are
ingested. A file that was removed on one side is restored from the other, unless an ingest removed it.

Every operation may be killed and run again, with the same result.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
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
from storage.files.inbox_mirror import InboxMirror, SeenFiles
from storage.files.object_store import READERS, ObjectStore, Stored

ERASED = "erased.json"
"""In the store: SHA-256 of the content of every file that was erased."""


class Mirror:
    """The folders of a workspace on this machine and in an object store that several machines share.

    Every method raises `StoreError` if the store cannot be reached or refuses access; calling it again resumes.

    Args:
        root: The URI of the store, such as `s3://bucket/folder`.
        local: The workspace's directory.
    """

    def __init__(self, root: str, local: Path) -> None:
        self._store = ObjectStore(root)
        self._local = local
        self._seen = SeenFiles(self._store.root, local)
        self.inbox = InboxMirror(self._store, self._seen, local)

    def fetch(self, folder: str) -> bool:
        """Download a published folder such as `models/m1` unless it exists locally; return whether it exists now."""
        if (self._local / folder / MANIFEST).is_file():
            return True
        with self._seen.session():
            return self._fetch(folder, self._store.listing(folder))

    def fetch_all(self, parent: str) -> None:
        """Download the published folders of `encoders` or `models` that are missing locally."""
        with self._seen.session():
            listing = self._store.listing(parent)
            for folder in published(listing, parent):
                if not (self._local / folder / MANIFEST).is_file():
                    self._fetch(folder, listing)

    def publish(self, folder: Path) -> None:
        """Upload a published folder and files that were added to it since; stored files are not replaced."""
        with self._seen.session():
            self._publish(folder, self._store.listing(self._name(folder)))

    def publish_missing(self, parent: str) -> None:
        """Upload the published folders of `models` or `encoders` that are missing or incomplete in the store."""
        with self._seen.session():
            listing = self._store.listing(parent)
            for manifest in self._manifests(parent):
                if self._name(manifest) not in listing:
                    self._publish(manifest.parent, listing)

    def publish_file(self, path: Path) -> None:
        """Upload a file of `reports`."""
        self._store.put(self._name(path), path.read_bytes())

    def pull_batches(self) -> None:
        """Download new and changed files of the published batches."""
        with self._seen.session():
            listing = self._store.listing("batches")
            for folder in published(listing, "batches"):
                names = [name for name in names_to_bring(listing, folder) if not self._is_current(name, listing[name])]
                for name, content in zip(names, self._store.get_all(names), strict=True):
                    self._update_local(name, content, listing[name])
            for name in self._seen:
                if name.endswith(ERRORS_SUFFIX) and name not in listing:
                    self._seen.remove_copy(name)

    def push_batches(self, *, edits: bool) -> None:
        """Upload batch files that are missing in the store and, with `edits`, those that changed locally."""
        with self._seen.session():
            listing = self._store.listing("batches")
            for manifest in self._manifests("batches"):
                for path in files_in(manifest.parent):
                    with contextlib.suppress(FileNotFoundError):  # an ingest has removed a list of errors
                        if self._name(path) not in listing:
                            self._put(self._name(path), path.read_bytes())
                        elif edits:
                            self._push(path, listing[self._name(path)])

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and content of every stored file except weights."""
        names = [name for name in self._store.listing() if not name.endswith(".safetensors") and name != ERASED]
        for start in range(0, len(names), READERS):
            some = names[start : start + READERS]
            contents = zip(some, self._store.get_all(some), strict=True)
            yield from ((name, content) for name, content in contents if content is not None)

    def erase(self, hashes: Mapping[str, str]) -> None:
        """Delete stored files for good: no machine that calls `delete_erased` keeps a copy or uploads one.

        Args:
            hashes: Name of a file -> SHA-256 of its content.
        """
        with self._seen.session():
            erased = json.loads(self._store.get(ERASED) or b"[]")
            self._store.put(ERASED, json.dumps(sorted({*erased, *hashes.values()})).encode())
            for name in hashes:
                self._store.delete(name)
                self._seen.forget(name)

    def delete_erased(self) -> None:
        """Delete local copies of files that another machine erased; do so before each upload."""
        if erased := set(json.loads(self._store.get(ERASED) or b"[]")):
            for folder in ("batches", "inbox", "reports"):
                for path in (self._local / folder).rglob("*"):
                    if path.is_file() and sha256_of(path.read_bytes()) in erased:
                        path.unlink(missing_ok=True)

    def _manifests(self, parent: str) -> list[Path]:
        return sorted((self._local / parent).glob(f"[!.]*/{MANIFEST}"))

    def _publish(self, folder: Path, listing: dict[str, Stored]) -> None:
        is_complete = self._name(folder / MANIFEST) in listing
        for path in files_in(folder):
            name, content = self._name(path), path.read_bytes()
            changed = self._seen.get(name) is not None and not self._seen.is_known(name, content)
            if not is_complete or name not in listing or changed:
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

    def _is_current(self, name: str, stored: Stored) -> bool:
        """Whether the listing alone shows that a batch file has not changed since it was last seen."""
        seen = self._seen.get(name)
        return seen is not None and seen.settled and seen.stored == stored and (self._local / name).exists()

    def _update_local(self, name: str, remote: bytes | None, stored: Stored) -> None:
        """Update a local batch file if it changed in the store since it was last seen.

        Args:
            name: The name of the file in the store.
            remote: Its content in the store; None if it was removed since the listing.
            stored: Its entry in the listing.
        """
        if remote is None:
            return
        path = self._local / name
        local = path.read_bytes() if path.is_file() else None
        changed = not self._seen.is_known(name, remote)
        if local is None and not changed and name.endswith(ERRORS_SUFFIX):  # an ingest has removed it locally
            self._store.delete(name)
            self._seen.forget(name)
            return
        if local is None:
            self._write(path, remote)
        elif changed:
            self._merge(path, local, remote)
        self._seen.remember(name, remote, stored)

    def _merge(self, path: Path, local: bytes, remote: bytes) -> None:
        """Merge the stored content into the local file, or write it beside that if both have changed."""
        if path.suffix == ".jsonl" and remote.startswith(local):  # a journal, which a terminal may have open
            with path.open("ab") as file:
                file.write(remote[len(local) :])
                file.flush()
                os.fsync(file.fileno())
        elif local == remote or (path.suffix == ".jsonl" and local.startswith(remote)):
            return
        elif self._seen.is_known(self._name(path), local) or not _is_filled(path, local):
            write_whole(path, remote)
        else:
            other = path.with_name(beside(path.name, remote))
            write_whole(other, remote)
            self._put(self._name(other), remote)

    def _push(self, path: Path, stored: Stored) -> None:
        """Upload a batch file that changed locally since it was last seen in the store."""
        name = self._name(path)
        if not self._seen.is_known(name, path.read_bytes()):
            self._update_local(name, self._store.get(name), stored)
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
    """Whether somebody has changed a batch file since it was published, by the hash in its folder's manifest."""
    if path.name == MANIFEST or path.name.endswith(ERRORS_SUFFIX):
        return False
    try:
        published = json.loads((path.parent / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, LookupError):
        return True
    return bool(published.get(path.name) != sha256_of(content))
