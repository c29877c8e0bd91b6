"""Back up a workspace into a folder, with a consistent snapshot of its lake, and restore it atomically.

File contents are stored by SHA-256 in `objects/`; `manifest.json`, written last, maps files to contents. A second
backup into the same folder adds only new contents, and a killed backup leaves the previous one intact.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from storage.errors import StoreError, WorkspaceError, disk_error
from storage.files.folders import MANIFEST, inside, read_object, to_disk, write_whole
from storage.lake.catalog_copy import attach_tables, compare_catalogs, copy_catalog, copy_sqlite
from storage.lake.connection import open_duckdb, without_secrets
from storage.lake.store import Store
from storage.run_records import RUNS_FILE, Runs
from storage.upkeep.check import check_contents
from storage.upkeep.maintenance import DataFolder, files_of
from storage.upkeep.moving import opened_tables, written_lake
from storage.workspace import Workspace

log = logging.getLogger(__name__)

KIND = "pal backup"
_FOLDERS = ("batches", "models", "encoders", "reports")
_PIECE_BYTES = 8 << 20
PATIENCE_S = 600.0


@dataclass(frozen=True)
class StoredContent:
    """The hash and size of a stored file content.

    Attributes:
        changed_ns: When a file of the workspace with it was changed, in nanoseconds since 1970: an answer given in a
            terminal counts more than a file of the inbox that was saved before it. 0 if unknown.
    """

    sha256: str
    bytes: int
    changed_ns: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Backup:
    """The manifest of a backup.

    Attributes:
        at: Time of the backup, in UTC.
        lake: `[lake]` catalog and data, as in pal.toml.
        catalog: The lake's catalog, converted to SQLite.
        data: The lake's Parquet files by path in the data folder.
        files: All other files by path in the workspace; the record of runs is always `runs.sqlite`.
    """

    at: str
    lake: tuple[str, str]
    lake_version: int
    catalog: StoredContent
    data: dict[str, StoredContent]
    files: dict[str, StoredContent]

    @property
    def n_bytes(self) -> int:
        """Total size of all contents."""
        return sum(content.bytes for content in (self.catalog, *self.data.values(), *self.files.values()))


def back_up(workspace: Workspace, folder: Path) -> tuple[Backup, int]:
    """Back up a workspace into a folder while other commands run; returns the backup and the bytes written.

    Files shared through `[files] root`, except reports, are fetched first. The inbox and the record of runs are copied
    before the lake and everything else after it, so every answer is in one of them, every file that the lake names is
    included, and no run names a version that the backup lacks.

    Raises:
        StoreError: Another maintenance command is running, or the lake or a model is damaged.
        WorkspaceError: The folder contains something else, or is inside the workspace.
    """
    if folder.is_relative_to(workspace.root):
        raise WorkspaceError(f"{folder} is inside the workspace.", hint="Name a folder on another disk.")
    if damaged := check_contents(workspace).damaged:
        raise StoreError(
            f"The workspace is damaged and was not backed up: {damaged[0].path}: {damaged[0].what}.",
            hint="See all damage and how to repair it: pal check",
        )
    return keep(workspace, workspace.store(), folder)


def keep(workspace: Workspace, store: Store, folder: Path) -> tuple[Backup, int]:
    """Back up a workspace like `back_up`, without checking it.

    Args:
        store: Its lake, of any schema version.
    """
    before = read_backup(folder) if (folder / MANIFEST).exists() else None
    if before is None and folder.exists() and {path.name for path in folder.iterdir()} - {"objects"}:
        raise WorkspaceError(f"{folder} contains files that are not a backup.", hint="Name a new folder.")
    objects = _Objects(folder / "objects")
    with store.housekeeping("pal backup"), tempfile.TemporaryDirectory() as scratch:
        workspace.fetch_all()
        with _no_ingest(workspace):
            files = dict(_kept_files(objects, workspace.root, [workspace.inbox]))
        files.update(_kept_runs(objects, store, workspace.root, Path(scratch)))
        catalog = Path(scratch) / "catalog.sqlite"
        version, data_files = _copied_catalog(store, catalog)
        source, stored, data = DataFolder(store.data), before.data if before else {}, {}
        for file in data_files:
            content = stored.get(file.path)
            if content is None or content.bytes != file.expected_bytes or not objects.has(content):
                content = objects.keep(source.read(file.path))
            if content.bytes != file.expected_bytes:
                raise StoreError(
                    f"{store.data}{file.path} has {content.bytes:,} bytes; the catalog says {file.expected_bytes:,}.",
                    hint="The lake is damaged: see pal restore --help",
                )
            data[file.path] = content
        remaining = [workspace.config_file, *(workspace.root / name for name in _FOLDERS)]
        files.update(_kept_files(objects, workspace.root, remaining))
        catalog_content = objects.keep(_pieces(catalog))
    lake = (workspace.catalog, workspace.data)
    backup = Backup(datetime.now(UTC).isoformat(timespec="seconds"), lake, version, catalog_content, data, files)
    write_whole(folder / MANIFEST, (json.dumps({"kind": KIND, **asdict(backup)}, indent=1) + "\n").encode())
    objects.forget_all_but(backup)
    return backup, objects.written_bytes


@contextlib.contextmanager
def _no_ingest(workspace: Workspace) -> Iterator[None]:
    """Wait until no ingest of this machine moves files of the inbox: one that moves meanwhile would be nowhere.

    Raises:
        StoreError: One has been at it for `PATIENCE_S`.
    """
    from filelock import Timeout

    try:
        with workspace.inbox_lock().acquire(PATIENCE_S):
            yield
    except Timeout as error:
        raise StoreError("An ingest is still running; nothing was backed up.", hint="Try again later.") from error


def read_backup(folder: Path) -> Backup:
    """Read the manifest of a backup; its contents are not checked.

    Raises:
        WorkspaceError: The folder has no complete backup.
    """
    try:
        values = read_object(folder / MANIFEST)
        if values.pop("kind") != KIND:
            raise ValueError(KIND)
        contents: dict[str, Any] = {
            "lake": tuple(values.pop("lake")),
            "catalog": StoredContent(**values.pop("catalog")),
            "data": {path: StoredContent(**row) for path, row in values.pop("data").items()},
            "files": {path: StoredContent(**row) for path, row in values.pop("files").items()},
        }
        return _checked(Backup(**values, **contents))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkspaceError(
            f"{folder} has no complete backup.", hint="Name a folder that pal backup wrote, or run pal backup again."
        ) from error


def _checked(backup: Backup) -> Backup:
    """The backup, if its values have the right types; else ValueError."""
    contents = (backup.catalog, *backup.data.values(), *backup.files.values())
    texts = [backup.at, *backup.lake, *backup.data, *backup.files, *(content.sha256 for content in contents)]
    numbers = [backup.lake_version, *(n for content in contents for n in (content.bytes, content.changed_ns))]
    if len(backup.lake) != 2 or not all(isinstance(text, str) for text in texts):
        raise ValueError("a path or a hash is not a text")
    if not all(isinstance(n, int) for n in numbers) or not all(
        re.fullmatch("[0-9a-f]{64}", content.sha256) for content in contents
    ):
        raise ValueError("a version, a size or a hash is invalid")
    return backup


def restore(folder: Path, root: Path, *, force: bool = False) -> tuple[Backup, Path | None]:
    """Restore a workspace atomically, checking every content. After a kill, repeat the call.

    Args:
        root: The directory to restore to.
        force: Rename an existing directory instead of failing, and replace another lake on the server.

    Returns:
        The backup, and the new path of the directory that existed before, if any.

    Raises:
        WorkspaceError: There is no backup, a content is damaged, or the directory exists.
        StoreError: The server's lake cannot be written, or is another lake.
    """
    backup, objects = read_backup(folder), _Objects(folder / "objects")
    is_occupied = root.exists() and any(root.iterdir())
    if is_occupied and not force:
        raise WorkspaceError(
            f"{root} exists.", hint="Name a new directory, or move this one aside: pal restore --force"
        )
    for content in {backup.catalog, *backup.data.values(), *backup.files.values()}:
        objects.check(content)
    for leftover in root.parent.glob(f".{root.name}.*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    part = root.with_name(f".{root.name}.{os.getpid()}.part")
    try:
        _restore_into(part, backup, objects, force=force)
        aside = None
        if is_occupied:
            aside = root.with_name(f"{root.name}.before-{datetime.now(UTC):%Y%m%d-%H%M%S}")
            root.rename(aside)
        elif root.exists():
            root.rmdir()
        part.rename(root)
        to_disk(root.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return backup, aside


def _restore_into(part: Path, backup: Backup, objects: _Objects, *, force: bool) -> None:
    """Restore all files into `part`, which becomes the workspace, and the parts of the lake that are elsewhere."""
    workspace = Workspace(part, *backup.lake)
    workspace.make()
    for path, content in backup.files.items():
        objects.write(content, inside(part, path))
    catalog, data = workspace.lake
    if not force:
        _refuse_outside(part, catalog, data)
    is_inside = catalog.startswith(f"sqlite:{part}{os.sep}")
    copy = Path(catalog.partition(":")[2]) if is_inside else part / "lake" / "restored.sqlite"
    objects.write(backup.catalog, copy)
    source = f"sqlite:{copy}"
    with (
        written_lake(catalog, data),
        contextlib.nullcontext() if is_inside else opened_tables(source, catalog, data) as connection,
    ):
        is_another = connection is not None and compare_catalogs(connection, "source", "target") == "another lake"
        if is_another and not force:
            raise StoreError(
                without_secrets(f"{catalog} contains another lake, or has changed since this backup."),
                hint="Correct [lake] in the backup's pal.toml, or replace that lake: pal restore --force",
            )
        target = DataFolder(data)
        sizes = target.sizes()
        for path, content in backup.data.items():
            if sizes.get(path) != content.bytes:
                target.write(path, objects.read(content))
        if connection is not None:
            kind = catalog.partition(":")[0]
            copy_catalog(connection, "source", "target", kind, data, forget_runs=is_another)
    if catalog.startswith("postgres:") and RUNS_FILE in backup.files:
        with Store(catalog, data) as store:
            Runs(store).put(*Runs(part / RUNS_FILE).all())
        (part / RUNS_FILE).unlink()
    if not is_inside:
        for leftover in copy.parent.glob(f"{copy.name}*"):
            leftover.unlink()


def _refuse_outside(part: Path, catalog: str, data: str) -> None:
    """Reject a lake on this disk outside the workspace: an untrusted backup must not choose where it is written."""
    for location in (catalog.removeprefix("sqlite:"), data):
        if Path(location).is_absolute() and not Path(location).resolve().is_relative_to(part.resolve()):
            raise WorkspaceError(
                f"The backup's lake is outside the workspace, at {location}.",
                hint="If this is intended, run pal restore --force",
            )


def _copied_catalog(store: Store, path: Path) -> tuple[int, list[Any]]:
    """Copy a snapshot of the catalog to SQLite; returns its newest version and its data files."""
    if store.kind == "sqlite":
        try:
            copy_sqlite(Path(store.catalog.partition(":")[2]), path)
        except OSError as error:
            raise disk_error(error, str(path)) or StoreError(
                f"The catalog cannot be copied: {error}.", hint="Check whether it is damaged: pal check"
            ) from error
        with open_duckdb(f"sqlite:{path}", "", None, "500MB") as connection:
            attach_tables(connection, f"sqlite:{path}", "target", read_only=True)
            return _version_and_files(connection)
    with opened_tables(store.catalog, f"sqlite:{path}", f"{path.parent}/") as connection:
        copy_catalog(connection, "source", "target", "sqlite", store.data)
        return _version_and_files(connection)


def _version_and_files(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[Any]]:
    newest = connection.execute("SELECT max(snapshot_id) FROM target.ducklake_snapshot").fetchone()
    return int(newest[0]) if newest else 0, files_of(connection, "target")


def _kept_runs(objects: _Objects, store: Store, root: Path, scratch: Path) -> Iterator[tuple[str, StoredContent]]:
    """Store the record of runs as a SQLite file, wherever it is kept."""
    copy = scratch / RUNS_FILE
    if store.kind == "postgres":
        Runs(copy).put(*Runs(store).all())
    elif (root / RUNS_FILE).is_file():
        copy_sqlite(root / RUNS_FILE, copy)
    if copy.is_file():
        yield RUNS_FILE, objects.keep(_pieces(copy))


def _kept_files(objects: _Objects, root: Path, paths: list[Path]) -> Iterator[tuple[str, StoredContent]]:
    """Store files and everything in folders; a file that disappears meanwhile was unfinished, or ingested."""
    for root_path in paths:
        for path in [root_path] if root_path.is_file() else sorted(root_path.rglob("*")):
            if path.is_file() and not any(name.startswith(".") and name.endswith(".part") for name in path.parts):
                with contextlib.suppress(FileNotFoundError):
                    changed_ns = path.stat().st_mtime_ns
                    yield path.relative_to(root).as_posix(), replace(objects.keep(_pieces(path)), changed_ns=changed_ns)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


class _Objects:
    """A folder of contents by SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written_bytes = 0

    def has(self, content: StoredContent) -> bool:
        """Whether a content is stored with the right size."""
        path = self._path(content.sha256)
        return path.is_file() and path.stat().st_size == content.bytes

    def keep(self, pieces: Iterator[bytes]) -> StoredContent:
        """Store a content, unless it is stored already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        digest, n = hashlib.sha256(), 0
        part = self.folder / f".{os.getpid()}.part"
        with part.open("wb") as file:
            for piece in pieces:
                digest.update(piece)
                n += file.write(piece)
        content = StoredContent(digest.hexdigest(), n)
        if self.has(content):
            part.unlink()
            return content
        to_disk(part)
        self._path(content.sha256).parent.mkdir(exist_ok=True)
        os.replace(part, self._path(content.sha256))  # noqa: PTH105
        self.written_bytes += n
        return content

    def read(self, content: StoredContent) -> Iterator[bytes]:
        """Read a content in pieces; its hash is checked at the end."""
        digest, n, path = hashlib.sha256(), 0, self._path(content.sha256)
        if path.is_file():
            for piece in _pieces(path):
                digest.update(piece)
                n += len(piece)
                yield piece
        if (digest.hexdigest(), n) != (content.sha256, content.bytes):
            raise WorkspaceError(
                f"The backup is damaged: {path} is missing or has changed.", hint="Use another backup."
            )

    def check(self, content: StoredContent) -> None:
        """Read a content and check its hash.

        Raises:
            WorkspaceError: It is missing or damaged.
        """
        for _ in self.read(content):
            continue

    def write(self, content: StoredContent, path: Path) -> None:
        """Write a content to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in self.read(content):
                file.write(piece)
        if content.changed_ns:
            os.utime(path, ns=(content.changed_ns, content.changed_ns))
        to_disk(path)

    def forget_all_but(self, backup: Backup) -> None:
        """Delete all contents that a backup does not need."""
        needed = {content.sha256 for content in (backup.catalog, *backup.data.values(), *backup.files.values())}
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name not in needed:
                path.unlink()

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256
