"""What a machine last saw of each file in an object store, kept in its workspace, to know what changed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

from storage.files.folders import sha256_of, write_whole
from storage.files.object_store import Stored

MEMORY, LOCK = ".files.json", ".files.lock"
TICK_S = 2.0
"""A store may tell whole seconds: a file that changed so shortly after a look may show the same time."""
OLD_S = 3600.0


@dataclass(frozen=True)
class Seen:
    """A file as it was when its content was last read or written from here.

    Attributes:
        stored: As the listing showed it; None where it was written from here and not listed since.
        settled: Whether any other content shows in a listing.
        first_s: When it was first seen like this, by the local clock.
        local: Its local name, of a file of the inbox.
    """

    sha256: str
    stored: Stored | None
    settled: bool
    first_s: float
    local: str = ""


class SeenFiles:
    """The files of one store by name; to be read and changed within a `session`.

    Args:
        root: The store's URI; what was seen of another is not taken for it.
        local: The workspace's directory.
    """

    def __init__(self, root: str, local: Path) -> None:
        self._root, self._local = root, local
        self._seen: dict[str, Seen] = {}

    @contextmanager
    def session(self) -> Iterator[None]:
        """One process of this machine at a time; what was seen is kept, also where it ends early."""
        with FileLock(self._local / LOCK):
            self._seen = self._kept()
            before = dict(self._seen)
            try:
                yield
            finally:
                if self._seen != before:
                    seen = {name: asdict(each) for name, each in sorted(self._seen.items())}
                    content = json.dumps({"root": self._root, "seen": seen}, indent=0)
                    write_whole(self._local / MEMORY, content.encode())

    def __iter__(self) -> Iterator[str]:
        """The names, as they are now: they may change meanwhile."""
        return iter(list(self._seen))

    def get(self, name: str) -> Seen | None:
        """What was seen of a file; None where it never was."""
        return self._seen.get(name)

    def is_known(self, name: str, content: bytes) -> bool:
        """Whether that is the content that was last seen."""
        seen = self._seen.get(name)
        return seen is not None and seen.sha256 == sha256_of(content)

    def remember(self, name: str, content: bytes, stored: Stored | None, local: str = "") -> None:
        """What a file is now, as it is listed."""
        digest, now, before = sha256_of(content), time.time(), self._seen.get(name)
        same = before is not None and (before.sha256, before.stored) == (digest, stored)
        first = before.first_s if before is not None and same else now
        settled = stored is not None and (now - first > TICK_S or now - stored.changed_ns / 1e9 > OLD_S)
        self._seen[name] = Seen(digest, stored, settled, first, local)

    def remove_copy(self, name: str) -> None:
        """Remove the local copy of what another machine removed from the store; one that was changed here stays."""
        seen = self._seen.pop(name)
        path = self._local / PurePosixPath(name).with_name(seen.local or PurePosixPath(name).name)
        if path.is_file() and sha256_of(path.read_bytes()) == seen.sha256:
            path.unlink()

    def forget(self, name: str) -> None:
        """It is gone."""
        self._seen.pop(name, None)

    def _kept(self) -> dict[str, Seen]:
        """What was seen; nothing where that was of another root, or is lost: then contents are compared."""
        try:
            found = json.loads((self._local / MEMORY).read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        if found["root"] != self._root:
            return {}
        return {
            name: Seen(**{**each, "stored": Stored(**each["stored"]) if each["stored"] else None})
            for name, each in found["seen"].items()
        }
