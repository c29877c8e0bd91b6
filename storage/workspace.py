"""One project's directory: where its lake, batches, inbox, models and reports lie, and how it is found."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import StoreError, WorkspaceError
from storage.files.folders import MANIFEST
from storage.lake.connection import without_secrets
from storage.lake.schema import MIGRATIONS, current_version, is_empty, migrate
from storage.lake.store import Store
from storage.run_records import RUNS_FILE, Runs, runs_of

if TYPE_CHECKING:
    from filelock import FileLock

    from storage.files.mirror import Mirror

CONFIG_NAME = "pal.toml"
ENVIRONMENT = "PAL_WORKSPACE"
FOLDERS = ("lake", "batches", "inbox", "models", "encoders", "reports")


class _Connections:
    """What a workspace has opened: the lake, and its folders' originals in an object store."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.store: Store | None = None
        self.mirror: Mirror | None = None


@dataclass(frozen=True)
class Workspace:
    """A directory with a pal.toml, and the lake that it names.

    Attributes:
        root: The absolute directory.
        catalog: `[lake] catalog`: `sqlite:` and a path (relative ones start at `root`), or `postgres:...`.
        data: `[lake] data`: a folder (relative ones start at `root`), or `s3://...`.
        files: `[files] root`: `s3://...` where other machines share all folders but the lake; empty: nowhere.
    """

    root: Path
    catalog: str = "sqlite:lake/catalog.sqlite"
    data: str = "lake/data"
    files: str = ""
    _connections: _Connections = field(default_factory=_Connections, init=False, compare=False, repr=False)

    def __reduce__(self) -> tuple[type[Workspace], tuple[Any, ...]]:
        """Another process opens its own connections."""
        return Workspace, (self.root, self.catalog, self.data, self.files)

    @property
    def config_file(self) -> Path:
        """What to classify, and how."""
        return self.root / CONFIG_NAME

    @cached_property
    def batches(self) -> Path:
        """Published batches, a folder each; annotators fill them there."""
        return self.root / "batches"

    @cached_property
    def inbox(self) -> Path:
        """Filled copies to ingest."""
        return self.root / "inbox"

    def inbox_lock(self) -> FileLock:
        """What a process of this machine holds while it moves files of the inbox, or reads all of them."""
        from filelock import FileLock

        return FileLock(self.root / ".ingest.lock")

    @cached_property
    def models(self) -> Path:
        """Trained models, a folder each."""
        return self.root / "models"

    @cached_property
    def encoders(self) -> Path:
        """Encoders adapted to this workspace's texts, a folder each."""
        return self.root / "encoders"

    @cached_property
    def reports(self) -> Path:
        """What was told about imports and runs."""
        return self.root / "reports"

    def make(self) -> None:
        """Create the folders that are missing; none where the workspace may only be read.

        Raises:
            WorkspaceError: A file has the name of one.
        """
        for folder in map(self.root.joinpath, FOLDERS):
            if folder.exists() and not folder.is_dir():
                raise WorkspaceError(f"{folder} is a file, not a directory.", hint="Move it away and try again.")
            if not folder.is_dir() and (not self.root.exists() or os.access(self.root, os.W_OK)):
                folder.mkdir(parents=True)

    def pull(self) -> None:
        """Bring what is new in the batches and the inbox that other machines share; nothing to do where none does.

        Raises:
            StoreError: They cannot be reached. So do the methods below.
        """
        if self.files:
            mirror = self._mirror()
            mirror.delete_erased()
            mirror.pull_batches()
            mirror.inbox.pull()

    def push(self, *paths: Path) -> None:
        """Give other machines what they lack of batches, models and encoders, and what changed in the batches here.

        Args:
            paths: Reports to give them, and model folders that were written into.
        """
        if self.files:
            mirror = self._mirror()
            mirror.delete_erased()
            mirror.inbox.settle()
            mirror.push_batches(edits=True)
            for parent in ("models", "encoders"):
                mirror.publish_missing(parent)
            for path in paths:
                self.share(path)

    def share(self, path: Path) -> None:
        """Give other machines a published folder of `models` or `encoders`, or a file of `reports`."""
        if self.files:
            mirror = self._mirror()
            if path.is_dir():
                mirror.publish(path)
            else:
                mirror.publish_file(path)

    def shared_files(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of every file that other machines share, except weights; none where none does."""
        return self._mirror().contents() if self.files else iter(())

    def erase_shared(self, hashes: Mapping[str, str]) -> None:
        """Delete files that other machines share, name -> SHA-256, there and where a machine has a copy of them."""
        if hashes:
            self._mirror().erase(hashes)

    def hand_in(self, file: Path) -> str:
        """Put a filled file into the inbox that other machines share; returns its URI. There must be `files`."""
        return self._mirror().inbox.hand_in(file)

    def model_folder(self, model_id: str) -> Path:
        """The folder of a model, brought with the adapted encoders where another machine made it."""
        folder = self.models / model_id
        if self.files and not (folder / MANIFEST).is_file():
            self.fetch_encoders()
            self._mirror().fetch(self.name_of(folder))
        return folder

    def fetch_encoders(self) -> None:
        """Bring the encoders that were adapted on other machines."""
        if self.files:
            self._mirror().fetch_all("encoders")

    def fetch_all(self) -> None:
        """Bring every batch, waiting file, model and encoder that other machines share."""
        self.pull()
        for parent in ("models", "encoders"):
            if self.files:
                self._mirror().fetch_all(parent)

    def store(self) -> Store:
        """The lake, with its tables up to date; opened once.

        Raises:
            StoreError: It cannot be opened; or it is on PostgreSQL, shared with older programs that would no longer
                work with it after its migration.
        """
        with self._connections.lock:
            if self._connections.store is None:
                self._connections.store = self._open_store()
            return self._connections.store

    def close(self) -> None:
        """Close the lake, if it is open; the next `store()` opens it anew."""
        with self._connections.lock:
            if self._connections.store is not None:
                self._connections.store.close()
                self._connections.store = None

    def _open_store(self) -> Store:
        store = self.unmigrated_store()
        with store.reading():
            version = current_version(store)
            is_lost = self._has_a_past() if not version else self._has_made() and is_empty(store)
        if is_lost:
            store.close()
            raise self._lost_lake("is empty")
        if store.kind == "postgres" and 0 < version < len(MIGRATIONS):
            store.close()
            raise StoreError(
                f"The lake has schema version {version}; this program needs {len(MIGRATIONS)}. "
                "Older programs on other machines stop working with it after the migration.",
                hint="Run pal migrate --dry-run, then pal migrate",
            )
        if version != len(MIGRATIONS):
            migrate(store, runs_of(store, self.root))
        return store

    def _mirror(self) -> Mirror:
        from storage.files.mirror import Mirror  # most workspaces share nothing

        with self._connections.lock:
            if self._connections.mirror is None:
                self.root.mkdir(parents=True, exist_ok=True)
                self._connections.mirror = Mirror(self.files, self.root)
            return self._connections.mirror

    def unmigrated_store(self) -> Store:
        """The lake in whatever schema it is, on a connection to be closed by the caller.

        Raises:
            StoreError: It cannot be opened; or it is gone, while what was made with it is still there.
        """
        catalog = self.catalog_file
        if catalog is not None and not (catalog.is_file() and catalog.stat().st_size) and self._has_a_past():
            raise self._lost_lake("is empty" if catalog.exists() else "is missing")
        self.make()
        return Store(*self.lake, scratch=self.root / "lake" / "spill")

    @property
    def catalog_file(self) -> Path | None:
        """The lake's catalog where it is a file; None where it is on a server."""
        kind, _, where = self.lake[0].partition(":")
        return Path(where) if kind == "sqlite" and where else None

    def _has_a_past(self) -> bool:
        """Whether batches, models or the lake's own files are here: a new workspace has none."""
        data = self.lake[1]
        return self._has_made() or ("://" not in data and next(Path(data).rglob("*.parquet"), None) is not None)

    def _has_made(self) -> bool:
        """Whether batches or models are here."""
        folders = (self.root / name for name in ("batches", "models"))
        return any(next(folder.glob(f"[!.]*/{MANIFEST}"), None) for folder in folders)

    def _lost_lake(self, what: str) -> StoreError:
        return StoreError(
            f"The lake's catalog {without_secrets(self.lake[0])} {what}, but batches, models or data of it are here.",
            hint="Bring it back from a backup: pal restore BACKUP NEW_DIRECTORY; see what is left: pal check",
        )

    def runs(self) -> Runs:
        """The record of runs: `runs.sqlite` here, or a table on PostgreSQL where the lake's catalog is there.

        Raises:
            StoreError: The lake on PostgreSQL cannot be opened.
        """
        is_shared = self.catalog.startswith("postgres:")
        return Runs(self.store() if is_shared else self.root / RUNS_FILE)

    @property
    def lake(self) -> tuple[str, str]:
        """Catalog and data as `Store` takes them, from no directory."""
        kind, _, where = self.catalog.partition(":")
        catalog = f"sqlite:{self.root / where}" if kind == "sqlite" and where else self.catalog
        data = f"{self.data.rstrip('/')}/" if "://" in self.data else f"{self.root / self.data}{os.sep}"
        return catalog, data

    def name_of(self, path: Path) -> str:
        """`path` as the lake names it: from the root where it lies in it, so that a workspace can move."""
        whole = path.parent.resolve() / path.name
        return (whole.relative_to(self.root) if whole.is_relative_to(self.root) else whole).as_posix()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for what is written on the way to the lake; gone afterwards, a killed process's after a day."""
        for left in (self.root / "lake").glob("scratch-*"):
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)
        place = self.root / "lake" if os.access(self.root / "lake", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="scratch-", dir=place) as folder:
            yield Path(folder)


def find_root(start: Path | None = None) -> Path:
    """The workspace that is meant: `start`, else $PAL_WORKSPACE, else upward from the current directory.

    Raises:
        WorkspaceError: There is no pal.toml there.
    """
    named = start or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)
    if named is not None:
        root = named.expanduser().resolve()
        if not (root / CONFIG_NAME).exists():
            raise WorkspaceError(f"{root} has no {CONFIG_NAME}.", hint=f"Create a workspace there: pal init {named}")
        return root
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / CONFIG_NAME).exists():
            return folder
    raise WorkspaceError(
        f"There is no {CONFIG_NAME} in {here} or above it.",
        hint=f"Create a workspace (pal init DIR), or name one: pal --workspace DIR ..., or {ENVIRONMENT}=DIR",
    )
