"""Moves a lake with its full history to another catalog and data folder, and verifies the copy."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from storage.errors import StoreError, disk_error
from storage.lake.annotations import labelled_texts
from storage.lake.catalog_copy import attach_tables, compare_catalogs, copy_catalog
from storage.lake.connection import Connection, attach_lake, explained, load_extension, open_duckdb, without_secrets
from storage.lake.schema import MIGRATIONS, current_version
from storage.lake.store import Store
from storage.records import Split
from storage.run_records import runs_of
from storage.upkeep.maintenance import DataFolder, copy_files, files_of

log = logging.getLogger(__name__)

_SCANNERS = {"sqlite": "sqlite_scanner", "postgres": "postgres_scanner"}


@dataclass(frozen=True)
class Moved:
    """What was copied and verified.

    Attributes:
        rows: Table -> number of rows at the newest version.
        n_runs: Number of runs in the record of runs.
        versions: Versions whose labeled sets were compared: those of trained models, or the newest.
    """

    rows: dict[str, int]
    n_runs: int
    newest: int
    versions: list[int]
    n_files: int
    copied_bytes: int


def move_lake(store: Store, catalog: str, data: str, root: Path) -> Moved:
    """Copy a lake and the record of runs while nobody else writes; the source is not changed.

    After a kill, repeat the call.

    Args:
        root: The workspace's directory, which contains the record of runs if the catalog is SQLite.
        catalog: The target: `sqlite:<absolute path>` or `postgres:<connection string>`.
        data: The target for Parquet files: an absolute folder or `s3://...`, ending in a slash.

    Raises:
        StoreError: The target is the source, contains another lake or cannot be written, or the copy differs.
    """
    if catalog == store.catalog or data.rstrip("/") == store.data.rstrip("/"):
        raise StoreError(
            "The lake already uses this catalog or folder.", hint="Name a new catalog and folder: pal lake move --help"
        )
    with store.housekeeping("pal lake move"), store.alone():
        return _move(store, catalog, data, root)


def _move(store: Store, catalog: str, data: str, root: Path) -> Moved:
    source, target = DataFolder(store.data), DataFolder(data)
    with written_lake(catalog, data):
        with opened_tables(store.catalog, catalog, data) as connection:
            files = files_of(connection, "source")
            refuse_another_lake(connection, catalog, data, {file.path for file in files}, target)
            copied = copy_files(files, source, target)
            copy_catalog(connection, "source", "target", catalog.partition(":")[0], data)
        with Store(catalog, data) as moved:
            log.info("Copied %s files, %s bytes; comparing.", f"{len(files):,}", f"{copied:,}")
            n_runs = _move_runs(store, moved, root)
            return _compared(store, moved, n_runs, len(files), copied)


@contextlib.contextmanager
def written_lake(catalog: str, data: str) -> Iterator[None]:
    """Turn failures to write a lake into StoreError."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise (
            disk_error(error, data if catalog.startswith("postgres") else catalog.partition(":")[2])
            or explained(error, f"the lake {catalog} with data in {data}")
            or StoreError(
                without_secrets(f"The lake {catalog} with data in {data} cannot be written: {error}"),
                hint="Fix this and run the command again.",
            )
        ) from error


def opened_tables(source: str, catalog: str, data: str) -> Connection:
    """A connection to the tables of two catalogs, `source` and `target`; the target is initialized if it is empty."""
    if catalog.startswith("sqlite:"):
        Path(catalog.partition(":")[2]).parent.mkdir(parents=True, exist_ok=True)
    connection = open_duckdb(catalog, data, None, "1500MB")
    load_extension(connection, _SCANNERS[source.partition(":")[0]])
    attach_lake(connection, catalog, data, "initialized")
    connection.execute("DETACH initialized")
    attach_tables(connection, source, "source", read_only=True)
    attach_tables(connection, catalog, "target")
    return connection


def refuse_another_lake(connection: Connection, catalog: str, data: str, ours: set[str], folder: DataFolder) -> None:
    """Check that the target is empty or contains an earlier state of this lake.

    Raises:
        StoreError: It contains another lake, or files of one.
    """
    if compare_catalogs(connection, "source", "target") == "another lake":
        raise StoreError(
            without_secrets(f"{catalog} contains another lake, or this lake with other changes."),
            hint="Name an empty database, for example a new one made by createdb NAME.",
        )
    if strange := sorted(path for path in folder.sizes().keys() - ours if not path.endswith(".part")):
        raise StoreError(
            f"{data} contains {len(strange):,} files of another origin; the first is {strange[0]}.",
            hint="Name an empty folder.",
        )


def _move_runs(source: Store, target: Store, root: Path) -> int:
    """Copy all runs to the target's record of runs; returns their number."""
    runs = runs_of(source, root).all()
    if "postgres" in (source.kind, target.kind):
        runs_of(target, root).put(*runs)
        copied = {run.run_id: run for run in runs_of(target, root).all()}
        if any(copied.get(run.run_id) != run for run in runs):
            raise _difference("the record of runs", len(copied), len(runs))
    return len(runs)


def _compared(source: Store, target: Store, n_runs: int, n_files: int, copied: int) -> Moved:
    tables = [name for (name,) in source.rows("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'")]
    newest = source.version()
    # This program has no queries for older schemas; their rows are compared anyway.
    versions = training_versions(source) if current_version(source) == len(MIGRATIONS) else []
    rows = {}
    for name in sorted(tables):
        sql = f"SELECT count(*), sum(hash(t)::HUGEINT)::VARCHAR FROM lake.{name} t AT (VERSION => {newest})"
        _demand_same(source, target, sql, f"table {name}")
        rows[name] = int(target.rows(f"SELECT count(*) FROM lake.{name}")[0][0])
    for version in versions:
        for split in Split:
            expected, copy = labelled_texts(source, split, version), labelled_texts(target, split, version)
            if not copy.equals(expected):
                raise _difference(f"the {split.value} set of version {version}", copy.num_rows, expected.num_rows)
    return Moved(rows, n_runs, newest, versions, n_files, copied)


def training_versions(store: Store) -> list[int]:
    """The versions that models were trained on; the newest if there is no model."""
    rows = store.rows("SELECT DISTINCT lake_version FROM lake.models ORDER BY lake_version")
    return [int(version) for (version,) in rows] or [store.version()]


def _demand_same(source: Store, target: Store, sql: str, name: str) -> None:
    expected, copy = source.rows(sql), target.rows(sql)
    if expected != copy:
        raise _difference(name, copy[0][0], expected[0][0])


def _difference(name: str, n_copied: int, n_expected: int) -> StoreError:
    return StoreError(
        f"The copy of {name} differs: {n_copied:,} rows instead of {n_expected:,}.",
        hint="Keep the old lake, empty the target and run the command again.",
    )
