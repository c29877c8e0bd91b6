"""The record of runs: what ran, when, how long each stage took and how it ended; beside the lake, never in it.

With a SQLite catalog it is `runs.sqlite` in the workspace. With a PostgreSQL catalog it is the table `pal.runs` of that
database, so that machines see each other's runs. A lake commit therefore means that data changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from storage.errors import StoreError, disk_error
from storage.lake.store import Store, in_utc
from storage.records import RunRecord, RunStatus, to_records

log = logging.getLogger(__name__)

RUNS_FILE = "runs.sqlite"
"""Its place in a workspace whose catalog is SQLite, and in every backup."""

LOST_AFTER = timedelta(days=1)
"""A run on another host that has not ended after this time counts as crashed."""

_CLOCK = timedelta(seconds=1)
"""The system keeps the time at which a process started no more exactly than this."""

_COLUMNS = tuple(field.name for field in fields(RunRecord))
_TABLE = """CREATE TABLE {table} (run_id TEXT PRIMARY KEY, flow TEXT NOT NULL, status TEXT NOT NULL, host TEXT NOT NULL,
    pid BIGINT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT, stage TEXT, stages TEXT NOT NULL, state TEXT,
    model_id TEXT, batch_id TEXT, message TEXT NOT NULL, name TEXT NOT NULL, server_run TEXT)"""
_PUT = f"""INSERT INTO {{table}} ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
    ON CONFLICT (run_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}"""
_ENTER_STAGE = "UPDATE {table} SET name = ?, stage = ?, stages = ? WHERE run_id = ?"
_MARK_CRASHED = "UPDATE {table} SET status = ?, ended_at = ?, message = ? WHERE run_id = ? AND status = 'running'"
_RECENT = """SELECT * FROM {table} WHERE flow = coalesce(?, flow) AND status = coalesce(?, status)
    ORDER BY started_at DESC, run_id DESC LIMIT ?"""
_ALL = "SELECT * FROM {table} ORDER BY started_at, run_id"

_LOCK_NUMBER = 1_883_714  # any number but those of storage.lake.store: PostgreSQL's advisory locks are numbers

Value = str | int | None


class Runs:
    """The record of runs. Several threads, processes and, with PostgreSQL, machines may use it at once.

    Args:
        place: The file `runs.sqlite`, made by the first write; or a lake whose catalog is on PostgreSQL.

    Raises:
        StoreError: It cannot be read or written; so do all methods. A file that is missing or cannot be opened for
            reading is an empty history.
    """

    def __init__(self, place: Path | Store) -> None:
        self._database: _Database = _Server(place) if isinstance(place, Store) else _File(place)

    def enter_stage(self, run: RunRecord) -> None:
        """Record the name of a run, its present stage and the seconds of each stage before."""
        self._database.write(_ENTER_STAGE, [_row(run, "name", "stage", "stages", "run_id")])

    def put(self, *runs: RunRecord) -> None:
        """Record runs as they are, in one transaction; those with a known id are replaced."""
        if rows := [_row(run) for run in runs]:
            self._database.write(_PUT, rows)

    def recent(self, n: int, *, flow: str | None = None, status: RunStatus | None = None) -> list[RunRecord]:
        """The n newest runs, newest first.

        Args:
            flow: Only runs of this flow.
            status: Only runs with this status.
        """
        return _records(self._database.rows(_RECENT, (flow, status.value if status else None, n)))

    def compact(self) -> None:
        """Let no page of a file keep what was replaced; nothing is done on PostgreSQL."""
        if isinstance(self._database, _File):
            self._database.compact()

    def all(self) -> list[RunRecord]:
        """Every run, oldest first."""
        return _records(self._database.rows(_ALL, ()))

    def mark_crashed(self) -> list[RunRecord]:
        """Mark the runs whose process ended without recording it as crashed, and return them."""
        crashed = []
        for run in self.recent(100, status=RunStatus.RUNNING):
            if is_alive(run):
                continue
            where = f"in stage {run.stage!r}" if run.stage else "before its first stage"
            log.warning("The %s run of %s UTC crashed %s.", run.flow, f"{run.started_at:%Y-%m-%d %H:%M}", where)
            ended = replace(
                run, status=RunStatus.CRASHED, ended_at=in_utc(datetime.now(UTC)), message=f"Crashed {where}."
            )
            self._database.write(_MARK_CRASHED, [(*_row(ended, "status", "ended_at", "message"), run.run_id)])
            crashed.append(ended)
        return crashed

    def going_on(self) -> list[RunRecord]:
        """The runs that have not ended and whose process is alive, newest first."""
        return [run for run in self.recent(100, status=RunStatus.RUNNING) if is_alive(run)]


def runs_of(store: Store, root: Path) -> Runs:
    """The record of runs that belongs to a lake.

    Args:
        root: The workspace's directory.
    """
    return Runs(store if store.kind == "postgres" else root / RUNS_FILE)


def new_run(flow: str, *, name: str = "", server_run: str | None = None) -> RunRecord:
    """A record of a run that begins now in this process, with an id that no other run has.

    Args:
        name: What people call it, such as "next b0004-training".
        server_run: The id of its Prefect flow run.
    """
    started = datetime.now(UTC)
    return RunRecord(
        run_id=f"{flow}-{started:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        flow=flow,
        status=RunStatus.RUNNING,
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=in_utc(started),
        name=name,
        server_run=server_run,
    )


def run_state(lake_version: int, settings: str) -> str:
    """Hash of everything that a run works on; the same as long as a run would repeat the one before.

    Args:
        settings: What a run follows besides the lake: pal.toml and the version of the code.
    """
    return hashlib.sha256(json.dumps([settings, lake_version]).encode()).hexdigest()[:16]


def is_alive(run: RunRecord) -> bool:
    """Whether a run that has not ended goes on: on this host by its process, on another one for a day."""
    import psutil  # 30 ms that only a run beside another one needs

    started_at = in_utc(run.started_at)
    if run.host != socket.gethostname():
        return in_utc(datetime.now(UTC)) - started_at <= LOST_AFTER
    try:
        process = psutil.Process(run.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        born_at = in_utc(datetime.fromtimestamp(process.create_time(), UTC))
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # somebody else's process, so there is one
        return True
    return born_at <= started_at + _CLOCK  # a process born later has only the same number


def _row(run: RunRecord, *names: str) -> tuple[Value, ...]:
    """A run's columns, or those named, as they are stored: times as UTC text, which sorts."""
    return tuple(_stored(getattr(run, name)) for name in names or _COLUMNS)


def _stored(value: Any) -> Value:
    if isinstance(value, datetime):
        return in_utc(value).isoformat(" ", "microseconds")
    if isinstance(value, Mapping):
        return json.dumps(value)
    return value if value is None or isinstance(value, int) else _text(value)


def _text(value: str) -> str:
    """`value` without what PostgreSQL cannot store: NUL, and halves of surrogate pairs from odd file names."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _records(rows: Sequence[Mapping[str, Any]]) -> list[RunRecord]:
    """Rows as records, by the names of their columns; those that this program does not know are left out."""
    return to_records(RunRecord, list(rows[0]) if rows else (), [tuple(row.values()) for row in rows])


class _Database(Protocol):
    """Where the table is. SQL names it `{table}` and its parameters `?`."""

    def write(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        """Run a statement once for each row of parameters, all in one transaction; make the table where needed."""

    def rows(self, sql: str, values: Sequence[Value]) -> list[dict[str, Any]]:
        """The rows of a query by column name; none where there is no table yet."""


class _File:
    """The table in a SQLite file. Rollback journal: one file, readable on a read-only disk, whole after kill -9."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        with self._connected("rwc") as connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("BEGIN IMMEDIATE")
            if not _has_table(connection):
                connection.execute(_TABLE.format(table="runs"))
            connection.executemany(sql.format(table="runs"), rows)
            connection.execute("COMMIT")

    def rows(self, sql: str, values: Sequence[Value]) -> list[dict[str, Any]]:
        if not self._path.is_file():
            return []
        with self._connected("rw") as connection:  # SQLite reads a write-protected file in this mode, too
            connection.row_factory = sqlite3.Row
            try:
                if not _has_table(connection):
                    return []
                return [dict(row) for row in connection.execute(sql.format(table="runs"), values)]
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                    return []
                raise

    def compact(self) -> None:
        if self._path.is_file():
            with self._connected("rw") as connection:
                connection.execute("VACUUM")

    @contextlib.contextmanager
    def _connected(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            uri = f"{self._path.absolute().as_uri()}?mode={mode}"
            with contextlib.closing(sqlite3.connect(uri, timeout=30, isolation_level=None, uri=True)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise disk_error(error, str(self._path)) or StoreError(
                f"The record of runs {self._path} cannot be used: {error}.",
                hint="Check the path and permissions; find out whether it is damaged: pal check",
            ) from error


def _has_table(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone() is not None


class _Server:
    """The table `pal.runs` of the PostgreSQL database that holds a lake's catalog."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_there = False

    def write(self, sql: str, rows: Sequence[Sequence[Value]]) -> None:
        statements = [_filled(sql, row) for row in rows]
        if not self._has_table():
            # Two machines that make it at the same time would both fail, hence the lock.
            table = _TABLE.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS").format(table="pal.runs")
            setup = [f"SELECT pg_advisory_xact_lock({_LOCK_NUMBER})", "CREATE SCHEMA IF NOT EXISTS pal", table]
            statements = setup + statements
        self._store.execute_on_server("; ".join(statements))

    def rows(self, sql: str, values: Sequence[Value]) -> list[dict[str, Any]]:
        return self._store.query_server(_filled(sql, values)) if self._has_table() else []

    def _has_table(self) -> bool:
        if not self._is_there:
            (row,) = self._store.query_server("SELECT to_regclass('pal.runs') IS NOT NULL AS is_there")
            self._is_there = bool(row["is_there"])
        return self._is_there


def _filled(sql: str, values: Sequence[Value]) -> str:
    """A statement for PostgreSQL with its parameters written into it."""
    before, *rest = sql.format(table="pal.runs").split("?")
    return before + "".join(f"{_literal(value)}{part}" for value, part in zip(values, rest, strict=True))


def _literal(value: Value) -> str:
    r"""A value as PostgreSQL reads it, whatever its `standard_conforming_strings`.

    >>> print(_literal("it's C:\\x"), _literal(7), _literal(None))
    E'it''s C:\\x' 7 NULL
    """
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
