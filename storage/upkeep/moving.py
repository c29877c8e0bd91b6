"""A lake with its whole history brought to another catalog and another folder of data, and proved to be the same."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from storage.errors import StoreError
from storage.lake.annotations import labelled_texts
from storage.lake.catalog_copy import attach_tables, copy_catalog, what_it_holds
from storage.lake.connection import Connection, attach_lake, load_extension, open_duckdb, told, without_secrets
from storage.lake.schema import MIGRATIONS, current_version
from storage.lake.store import Store
from storage.records import Split
from storage.run_records import runs_of
from storage.upkeep.maintenance import DataFolder, copy_files, files_of

log = logging.getLogger(__name__)

_SCANNERS = {"sqlite": "sqlite_scanner", "postgres": "postgres_scanner"}


@dataclass(frozen=True)
class Moved:
    """What was brought over and found the same there.

    Attributes:
        rows: Table -> rows at the newest version.
        n_runs: Runs in the record of runs.
        versions: Those whose labelled sets were compared: those that models were trained on, else the newest.
    """

    rows: dict[str, int]
    n_runs: int
    newest: int
    versions: list[int]
    n_files: int
    copied_bytes: int


def move_lake(store: Store, catalog: str, data: str, root: Path) -> Moved:
    """Copy a lake and the record of runs while nobody else writes to the lake; the source stays as it is.

    The same call after a kill goes on.

    Args:
        root: The workspace's directory, which has the record of runs where the catalog is SQLite.
        catalog: Where to: `sqlite:<absolute path>` or `postgres:<connection string>`.
        data: Where its Parquet files go: an absolute folder or `s3://...`, ending in a slash.

    Raises:
        StoreError: The target is the source or holds another lake, or cannot be written, or what is there after the
            copy is not the same.
    """
    if catalog == store.catalog or data.rstrip("/") == store.data.rstrip("/"):
        raise StoreError(
            "The lake already has this catalog or folder.", hint="Name others for both: pal lake move --help"
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
            log.info("copied %d files, %s bytes; comparing", len(files), f"{copied:,}")
            n_runs = _move_runs(store, moved, root)
            return _compared(store, moved, n_runs, len(files), copied)


@contextlib.contextmanager
def written_lake(catalog: str, data: str) -> Iterator[None]:
    """Say in words why a lake cannot be written."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise told(error, f"the lake {catalog} with data in {data}") or StoreError(
            without_secrets(f"The lake {catalog} with data in {data} cannot be written: {error}"),
            hint="Correct that, then run the same command again.",
        ) from error


def opened_tables(source: str, catalog: str, data: str) -> Connection:
    """A connection with two catalogs' tables, `source` and `target`; an empty lake is made at the target first."""
    if catalog.startswith("sqlite:"):
        Path(catalog.partition(":")[2]).parent.mkdir(parents=True, exist_ok=True)
    connection = open_duckdb(catalog, data, None, "1500MB")
    load_extension(connection, _SCANNERS[source.partition(":")[0]])
    attach_lake(connection, catalog, data, "made")
    connection.execute("DETACH made")
    attach_tables(connection, source, "source", read_only=True)
    attach_tables(connection, catalog, "target")
    return connection


def refuse_another_lake(connection: Connection, catalog: str, data: str, ours: set[str], folder: DataFolder) -> None:
    """Go on only where the target is empty, or holds this lake as it was at some time.

    Raises:
        StoreError: It holds another lake, or files of one.
    """
    if what_it_holds(connection, "source", "target") == "another lake":
        raise StoreError(
            without_secrets(f"{catalog} holds another lake, or this one with changes of its own."),
            hint="name an empty database, such as one made by createdb NAME",
        )
    if strange := sorted(path for path in folder.sizes().keys() - ours if not path.endswith(".part")):
        raise StoreError(
            f"{data} holds {len(strange)} files that are not of this lake, {strange[0]} first.",
            hint="name an empty folder",
        )


def _move_runs(source: Store, target: Store, root: Path) -> int:
    """Put every run into the record of runs that belongs to the target; returns how many there are."""
    runs = runs_of(source, root).all()
    if "postgres" in (source.kind, target.kind):
        runs_of(target, root).put(runs)
        there = {run.run_id: run for run in runs_of(target, root).all()}
        if any(there.get(run.run_id) != run for run in runs):
            raise _unlike("the record of runs", len(there), len(runs))
    return len(runs)


def _compared(source: Store, target: Store, n_runs: int, n_files: int, copied: int) -> Moved:
    tables = [name for (name,) in source.rows("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake'")]
    newest = source.version()
    # The queries of an older schema are gone with its program; its rows are compared all the same.
    versions = training_versions(source) if current_version(source) == len(MIGRATIONS) else []
    rows = {}
    for name in sorted(tables):
        sql = f"SELECT count(*), sum(hash(t)::HUGEINT)::VARCHAR FROM lake.{name} t AT (VERSION => {newest})"
        _demand_same(source, target, sql, f"table {name}")
        rows[name] = int(target.rows(f"SELECT count(*) FROM lake.{name}")[0][0])
    for version in versions:
        for split in Split:
            wanted, found = labelled_texts(source, split, version), labelled_texts(target, split, version)
            if not found.equals(wanted):
                raise _unlike(f"the {split.value} set of version {version}", found.num_rows, wanted.num_rows)
    return Moved(rows, n_runs, newest, versions, n_files, copied)


def training_versions(store: Store) -> list[int]:
    """The versions that models were trained on; the newest where there is no model."""
    rows = store.rows("SELECT DISTINCT lake_version FROM lake.models ORDER BY lake_version")
    return [int(version) for (version,) in rows] or [store.version()]


def _demand_same(source: Store, target: Store, sql: str, what: str) -> None:
    wanted, found = source.rows(sql), target.rows(sql)
    if wanted != found:
        raise _unlike(what, found[0][0], wanted[0][0])


def _unlike(what: str, there: int, here: int) -> StoreError:
    return StoreError(
        f"{what} is not the same in the copy: {there} rows there, {here} here.",
        hint="keep the old lake; empty the target, then try again",
    )
