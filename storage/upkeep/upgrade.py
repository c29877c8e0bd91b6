"""Migrates a lake to this program's schema after a backup, or reports what a migration would do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.lake.schema import (
    MIGRATIONS,
    RUNS_IN_LAKE,
    catalog_copy_path,
    current_version,
    migrate,
    refuse_newer,
)
from storage.lake.store import Store
from storage.records import RunRecord, RunStatus
from storage.run_records import is_alive, runs_of
from storage.upkeep.backup import keep
from storage.workspace import Workspace


@dataclass(frozen=True)
class Upgrade:
    """A planned or finished migration.

    Attributes:
        version: The lake's schema version before the migration.
        steps: The purpose of each step; empty if the lake is up to date.
        runs: The runs that are moved out of the lake.
        backup: Path of the backup: a copy of the catalog, or the folder of a full backup.
    """

    version: int
    steps: tuple[str, ...]
    runs: tuple[RunRecord, ...]
    backup: Path

    @property
    def going_on(self) -> list[RunRecord]:
        """Runs to be moved that are still running."""
        return [run for run in self.runs if run.status is RunStatus.RUNNING and is_alive(run)]


def plan_upgrade(workspace: Workspace) -> Upgrade:
    """Plan what `upgrade` would do; changes nothing.

    Raises:
        StoreError: The lake cannot be opened, or was written by a newer program.
    """
    catalog = workspace.lake[0]
    path = Path(catalog.partition(":")[2])
    if catalog.startswith("sqlite:") and not path.exists():  # opening the lake would create it
        return Upgrade(0, (), (), path)
    with _old_lake(workspace) as store:
        return _plan(workspace, store)


def upgrade(workspace: Workspace) -> Upgrade:
    """Back up and migrate a lake; returns what was done. After a kill, repeat the call.

    A SQLite catalog is copied beside itself. With PostgreSQL, the whole workspace is backed up into `backups/`.

    Raises:
        StoreError: The lake cannot be opened, read or written, or was written by a newer program.
    """
    with _old_lake(workspace) as store:
        plan = _plan(workspace, store)
        if plan.steps and store.kind == "postgres":
            keep(workspace, store, plan.backup)
        migrate(store, runs_of(store, workspace.root))
    workspace.close()
    return plan


def _plan(workspace: Workspace, store: Store) -> Upgrade:
    version = current_version(store)
    refuse_newer(version)
    steps = MIGRATIONS[version:] if version else ()
    runs: tuple[RunRecord, ...] = ()
    if any(step.moves_runs for step in steps) and store.rows(_HAS_RUNS):
        runs = tuple(store.records(RunRecord, RUNS_IN_LAKE))
    in_workspace = workspace.root / "backups" / f"before-schema-{len(MIGRATIONS)}"
    backup = in_workspace if store.kind == "postgres" else catalog_copy_path(store)
    return Upgrade(version, tuple(step.purpose for step in steps), runs, backup)


_HAS_RUNS = "SELECT 1 FROM duckdb_tables() WHERE database_name = 'lake' AND table_name = 'runs'"


@contextlib.contextmanager
def _old_lake(workspace: Workspace) -> Iterator[Store]:
    store = workspace.unmigrated_store()
    try:
        yield store
    finally:
        store.close()
