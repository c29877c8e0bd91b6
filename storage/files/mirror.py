"""Synchronize the folders of a workspace with an object store: download new files, upload local ones.

A folder is published once its manifest exists; the manifest is transferred last in both directions. Models and encoders
never change and are downloaded where they are missing. A batch file that changed on one side replaces the other; if it
changed on both, the local one keeps its name and the stored one is added beside it on both sides, so that both are
ingested. A file that was removed on one side is restored from the other, unless an ingest removed it.

Each file of the shared inbox is ingested by one machine only. It is removed from the store's inbox once its copy is in
the store's inbox/done or inbox/rejected. The names of the copies contain a hash of their content, so that machines
never overwrite each other's.

Every operation may be killed and
run again, with the same result.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from storage.files.folders import (
    ERRORS_SUFFIX,
    MANIFEST,
    beside,
    files_in,
    is_in,
    names_in,
    names_to_bring,
    published,
    sha256_of,
    write_whole,
)
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
