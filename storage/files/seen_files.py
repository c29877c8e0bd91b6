"""Remember the state of each file in an object store when this machine last accessed it, to detect changes."""

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
