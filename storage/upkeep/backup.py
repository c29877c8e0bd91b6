"""A workspace kept in a folder, its lake at one moment, and brought back whole or not at all.

Contents lie under their sha256 in `objects/`; `manifest.json`, written last, says which file each of them is. So a
second backup into the same folder adds only what is new, and one that was killed leaves the one before it as it was.
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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from storage.errors import StoreError, WorkspaceError, disk_error
from storage.files.folders import MANIFEST, inside, read_object, to_disk, write_whole
from storage.lake.catalog_copy import attach_tables, copy_catalog, copy_sqlite, what_it_holds
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


@dataclass(frozen=True)
class Kept:
    """One content, by its sha256."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Attributes:
        at: When it was made, in UTC.
        lake: `[lake]` catalog and data as pal.toml has them.
        catalog: The lake's catalog, in SQLite whatever it was.
        data: The lake's Parquet files, each by its place in the data folder.
        files: Everything else, each by its place in the workspace; the record of runs is `runs.sqlite` wherever it was.
    """

    at: str
    lake: tuple[str, str]
    lake_version: int
    catalog: Kept
    data: dict[str, Kept]
    files: dict[str, Kept]

    @property
    def n_bytes(self) -> int:
        """Of everything in it."""
        return sum(each.bytes for each in (self.catalog, *self.data.values(), *self.files.values()))


def back_up(workspace: Workspace, folder: Path) -> tuple[Backup, int]:
    """Keep a workspace in a folder, while others go on; returns it, and the bytes that were not there already.

    What other machines share by `[files] root`, but for reports, is brought here first. What waits in the inbox is
    kept before the lake, everything else after it: so no answer is in neither, and what the lake names is there. The
    record of runs is kept before the lake, too: it names no version that the backup lacks.

    Raises:
        StoreError: Another command keeps house, or the lake or a model is damaged.
        WorkspaceError: The folder holds something else, or lies in the workspace.
    """
    if folder.is_relative_to(workspace.root):
        raise WorkspaceError(f"{folder} lies in the workspace itself.", hint="name a folder on another disk")
    if damaged := check_contents(workspace).damaged:
        raise StoreError(
            f"The workspace is damaged and was not backed up: {damaged[0].path}: {damaged[0].what}.",
            hint="See all damage and how to repair it: pal check",
        )
    return keep(workspace, workspace.store(), folder)


def keep(workspace: Workspace, store: Store, folder: Path) -> tuple[Backup, int]:
    """Keep a workspace as `back_up` does, in any folder.

    Args:
        store: Its lake, of whatever schema version.
    """
    before = read_backup(folder) if (folder / MANIFEST).exists() else None
    if before is None and folder.exists() and {each.name for each in folder.iterdir()} - {"objects"}:
        raise WorkspaceError(f"{folder} holds something that is no backup.", hint="name a new folder")
    objects = _Objects(folder / "objects")
    with store.housekeeping("pal backup"), tempfile.TemporaryDirectory() as scratch:
        workspace.fetch_all()
        files = dict(_kept_files(objects, workspace.root, [workspace.inbox]))
        files.update(_kept_runs(objects, store, workspace.root, Path(scratch)))
        catalog = Path(scratch) / "catalog.sqlite"
        version, wanted = _copied_catalog(store, catalog)
        source, there, data = DataFolder(store.data), before.data if before else {}, {}
        for file in wanted:
            known = there.get(file.path)
            if known is None or known.bytes != file.expected_bytes or not objects.has(known):
                known = objects.keep(source.read(file.path))
            if known.bytes != file.expected_bytes:
                raise StoreError(
                    f"{store.data}{file.path} has {known.bytes} bytes, the catalog says {file.expected_bytes}.",
                    hint="the lake is damaged: see pal restore --help",
                )
            data[file.path] = known
        rest = [workspace.config_file, *(workspace.root / name for name in _FOLDERS)]
        files.update(_kept_files(objects, workspace.root, rest))
        kept = objects.keep(_pieces(catalog))
    lake = (workspace.catalog, workspace.data)
    backup = Backup(datetime.now(UTC).isoformat(timespec="seconds"), lake, version, kept, data, files)
    write_whole(folder / MANIFEST, (json.dumps({"kind": KIND, **asdict(backup)}, indent=1) + "\n").encode())
    objects.forget_all_but(backup)
    return backup, objects.written_bytes


def read_backup(folder: Path) -> Backup:
    """The backup in a folder; its contents are not looked at.

    Raises:
        WorkspaceError: There is none.
    """
    try:
        values = read_object(folder / MANIFEST)
        if values.pop("kind") != KIND:
            raise ValueError(KIND)
        kept: dict[str, Any] = {
            "lake": tuple(values.pop("lake")),
            "catalog": Kept(**values.pop("catalog")),
            "data": {path: Kept(**each) for path, each in values.pop("data").items()},
            "files": {path: Kept(**each) for path, each in values.pop("files").items()},
        }
        return _checked(Backup(**values, **kept))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkspaceError(
            f"{folder} holds no whole backup.", hint="name the folder that pal backup wrote; or make one anew there"
        ) from error


def _checked(backup: Backup) -> Backup:
    """The backup, if its values are of the right types; else ValueError."""
    kept = (backup.catalog, *backup.data.values(), *backup.files.values())
    texts = [backup.at, *backup.lake, *backup.data, *backup.files, *(each.sha256 for each in kept)]
    numbers = [backup.lake_version, *(each.bytes for each in kept)]
    if len(backup.lake) != 2 or not all(isinstance(text, str) for text in texts):
        raise ValueError("a path, a place or a hash is no text")
    if not all(isinstance(n, int) for n in numbers) or not all(re.fullmatch("[0-9a-f]{64}", k.sha256) for k in kept):
        raise ValueError("a version, a size or a hash is none")
    return backup


def restore(folder: Path, root: Path, *, force: bool = False) -> tuple[Backup, Path | None]:
    """Bring a workspace back, whole or not at all; every content is checked. The same call after a kill goes on.

    Args:
        root: The directory that it becomes.
        force: What is there is put aside, not deleted; a lake on a server that is not this one is replaced.

    Returns:
        The backup, and where the directory that was there was put.

    Raises:
        WorkspaceError: There is no backup, a content of it is damaged, or something is in the way.
        StoreError: The server's lake cannot be written, or is another and not to be replaced.
    """
    backup, objects = read_backup(folder), _Objects(folder / "objects")
    there = root.exists() and any(root.iterdir())
    if there and not force:
        raise WorkspaceError(f"{root} exists.", hint="Name a new directory; or put this one aside: pal restore --force")
    for kept in {backup.catalog, *backup.data.values(), *backup.files.values()}:
        objects.check(kept)
    for left in root.parent.glob(f".{root.name}.*.part"):
        shutil.rmtree(left, ignore_errors=True)
    part = root.with_name(f".{root.name}.{os.getpid()}.part")
    try:
        _restore_into(part, backup, objects, force=force)
        aside = None
        if there:
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
    """Everything into `part`, which becomes the workspace; what of the lake lies elsewhere goes there."""
    after = Workspace(part, *backup.lake)
    after.make()
    for path, kept in backup.files.items():
        objects.write(kept, inside(part, path))
    catalog, data = after.lake
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
        is_another = connection is not None and what_it_holds(connection, "source", "target") == "another lake"
        if is_another and not force:
            raise StoreError(
                without_secrets(f"{catalog} holds another lake, or has changed since this backup."),
                hint="Correct [lake] in the backup's pal.toml, or replace that lake: pal restore --force",
            )
        target = DataFolder(data)
        had = target.sizes()
        for path, kept in backup.data.items():
            if had.get(path) != kept.bytes:
                target.write(path, objects.read(kept))
        if connection is not None:
            kind = catalog.partition(":")[0]
            copy_catalog(connection, "source", "target", kind, data, forget_runs=is_another)
    if catalog.startswith("postgres:") and RUNS_FILE in backup.files:
        with Store(catalog, data) as store:
            Runs(store).put(Runs(part / RUNS_FILE).all())
        (part / RUNS_FILE).unlink()
    if not is_inside:
        for left in copy.parent.glob(f"{copy.name}*"):
            left.unlink()


def _refuse_outside(part: Path, catalog: str, data: str) -> None:
    """Refuse a lake on this disk outside of the workspace: a backup must not choose where it is written to."""
    for where in (catalog.removeprefix("sqlite:"), data):
        if Path(where).is_absolute() and not Path(where).resolve().is_relative_to(part.resolve()):
            raise WorkspaceError(
                f"The backup's lake is outside of the workspace, at {where}.",
                hint="If that is right, write there: pal restore --force",
            )


def _copied_catalog(store: Store, path: Path) -> tuple[int, list[Any]]:
    """A copy of the catalog as it is at one moment, in SQLite: its newest version, and the data files it needs."""
    if store.kind == "sqlite":
        try:
            copy_sqlite(Path(store.catalog.partition(":")[2]), path)
        except OSError as error:
            raise disk_error(error, str(path)) or StoreError(
                f"The catalog cannot be copied: {error}", hint="Find out whether it is damaged: pal check"
            ) from error
        with open_duckdb(f"sqlite:{path}", "", None, "500MB") as connection:
            attach_tables(connection, f"sqlite:{path}", "target", read_only=True)
            return _version_and_files(connection)
    with opened_tables(store.catalog, f"sqlite:{path}", f"{path.parent}/") as connection:
        copy_catalog(connection, "source", "target", "sqlite", store.data)
        return _version_and_files(connection)


def _version_and_files(connection: duckdb.DuckDBPyConnection) -> tuple[int, list[Any]]:
    found = connection.execute("SELECT max(snapshot_id) FROM target.ducklake_snapshot").fetchone()
    return int(found[0]) if found else 0, files_of(connection, "target")


def _kept_runs(objects: _Objects, store: Store, root: Path, scratch: Path) -> Iterator[tuple[str, Kept]]:
    """Keep the record of runs as a SQLite file, wherever it is."""
    copy = scratch / RUNS_FILE
    if store.kind == "postgres":
        Runs(copy).put(Runs(store).all())
    elif (root / RUNS_FILE).is_file():
        copy_sqlite(root / RUNS_FILE, copy)
    if copy.is_file():
        yield RUNS_FILE, objects.keep(_pieces(copy))


def _kept_files(objects: _Objects, root: Path, places: list[Path]) -> Iterator[tuple[str, Kept]]:
    """Keep files and all in folders; one that goes away meanwhile was half written, or ingested."""
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and not any(each.startswith(".") and each.endswith(".part") for each in path.parts):
                with contextlib.suppress(FileNotFoundError):
                    yield path.relative_to(root).as_posix(), objects.keep(_pieces(path))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


class _Objects:
    """Contents under their sha256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written_bytes = 0

    def has(self, kept: Kept) -> bool:
        """Whether a content is there, by its size."""
        path = self._path(kept.sha256)
        return path.is_file() and path.stat().st_size == kept.bytes

    def keep(self, pieces: Iterator[bytes]) -> Kept:
        """Take a content in, once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        digest, n = hashlib.sha256(), 0
        part = self.folder / f".{os.getpid()}.part"
        with part.open("wb") as file:
            for piece in pieces:
                digest.update(piece)
                n += file.write(piece)
        kept = Kept(digest.hexdigest(), n)
        if self.has(kept):
            part.unlink()
            return kept
        to_disk(part)
        self._path(kept.sha256).parent.mkdir(exist_ok=True)
        os.replace(part, self._path(kept.sha256))  # noqa: PTH105
        self.written_bytes += n
        return kept

    def read(self, kept: Kept) -> Iterator[bytes]:
        """A content in pieces, checked at its end."""
        digest, n, path = hashlib.sha256(), 0, self._path(kept.sha256)
        if path.is_file():
            for piece in _pieces(path):
                digest.update(piece)
                n += len(piece)
                yield piece
        if (digest.hexdigest(), n) != (kept.sha256, kept.bytes):
            raise WorkspaceError(
                f"the backup is damaged: {path} is not what it was.", hint="take another backup; this one is no use"
            )

    def check(self, kept: Kept) -> None:
        """Read a content through.

        Raises:
            WorkspaceError: It is missing or damaged.
        """
        for _ in self.read(kept):
            continue

    def write(self, kept: Kept, path: Path) -> None:
        """Write a content to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for piece in self.read(kept):
                file.write(piece)
        to_disk(path)

    def forget_all_but(self, backup: Backup) -> None:
        """Delete what a backup does not hold."""
        wanted = {each.sha256 for each in (backup.catalog, *backup.data.values(), *backup.files.values())}
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name not in wanted:
                path.unlink()

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256
