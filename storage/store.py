"""The lake's one door: DuckLake tables (Parquet + catalog), one write path, reads as Arrow.

One machine: a SQLite catalog beside Parquet files. Several: `postgres:...` and `s3://...`, by changing two strings.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb
import pyarrow as pa

from storage.errors import StoreError

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection

SLICE_ROWS = 131_072
"""Rows of one Arrow batch in a bulk read."""

_EXTENSIONS = {"sqlite": "sqlite_scanner", "postgres": "postgres_scanner"}
_TRIES = 30
_LOCK_NUMBER = 1_883_712  # any number, the same in every process: PostgreSQL's advisory locks are numbers
_LOST_A_RACE = re.compile(
    r"database is locked|conflict|already exists|serializ|Exceeded the maximum retry|Failed to initialize DuckLake",
    re.IGNORECASE,
)


class Store:
    """One process's connection to the lake; threads share it, each call takes a cursor of its own.

    Args:
        catalog: `sqlite:<absolute path>` or `postgres:<connection string>`.
        data: Absolute folder (or `s3://...`) of the Parquet files.
        scratch: Folder for what does not fit in memory during a bulk read or write.
        memory: Limit of DuckDB's own memory, such as `1GB`.

    Raises:
        StoreError: The catalog cannot be opened, or an extension of DuckDB is not installed.
    """

    def __init__(self, catalog: str, data: str, *, scratch: Path | None = None, memory: str = "1500MB") -> None:
        self.kind, _, where = catalog.partition(":")
        if self.kind not in _EXTENSIONS or not where:
            raise StoreError(
                f"[lake] catalog = {catalog!r} names no catalog.", hint="write sqlite:<path> or postgres:<connection>."
            )
        self._lock = Path(f"{where}.lock") if self.kind == "sqlite" else None
        self._connection = duckdb.connect(config={"memory_limit": memory})
        self._connection.execute("SET enable_progress_bar = false; SET GLOBAL TimeZone = 'UTC'")
        if scratch is not None:
            self._connection.execute(f"SET temp_directory = {_quoted(scratch.as_posix())}")
        for name in ("ducklake", _EXTENSIONS[self.kind], *(["httpfs"] if data.startswith("s3:") else [])):
            _load_extension(self._connection, name)
        self._connection.execute("SET ducklake_max_retry_count = 100")
        options = [f"DATA_PATH {_quoted(data)}", "OVERRIDE_DATA_PATH true", "DATA_INLINING_ROW_LIMIT 10000"]
        if self.kind == "sqlite":
            options += ["META_JOURNAL_MODE 'WAL'", "META_BUSY_TIMEOUT 30000"]
        attach = f"ATTACH {_quoted(f'ducklake:{catalog}')} AS lake ({', '.join(options)})"
        try:
            if self._lock is None:
                self._connection.execute(f"ATTACH {_quoted(where)} AS mutex (TYPE postgres)")
            _again(lambda: self._locked(lambda: self._connection.execute(attach)))
        except (duckdb.Error, sqlite3.Error) as error:
            raise StoreError(
                _without_secrets(f"the lake {catalog} with data in {data} cannot be opened: {error}"),
                hint="check that the path exists and is yours to write, or make a workspace: pal init DIR",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the store cannot be used afterwards."""
        self._connection.close()

    def write(self, change: Callable[[Connection], T], message: str, *, bulk: bool = False) -> T:
        """Run `change` in one transaction, all or nothing.

        There are no unique keys: `change` begins with its own guard, and may be run again after a lost race.

        Args:
            change: Reads and writes through the connection it is given; what it returns is returned.
            message: Kept with the commit, for whoever reads the lake's history.
            bulk: It writes Parquet files: bring them to disk before the catalog says that they exist.
        """

        def transaction() -> T:
            with self._connection.cursor() as connection:
                connection.execute("BEGIN")
                try:
                    result = change(connection)
                    connection.execute("CALL lake.set_commit_message('pal', ?)", [message])
                    if bulk and hasattr(os, "sync"):
                        os.sync()
                    connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(duckdb.Error):  # the first error is the one to tell
                        connection.execute("ROLLBACK")
                    raise
                return result

        return _again(lambda: self._locked(transaction))

    def read(self, sql: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> pa.Table:
        """The whole result of a query."""
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters).to_arrow_table()

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The whole result of a small query, as Python values."""
        with self._connection.cursor() as cursor:
            return cursor.execute(sql, parameters).fetchall()

    def stream(
        self, sql: str, parameters: Sequence[Any] | dict[str, Any] | None = None, rows: int = SLICE_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The result of a large query in slices of at most `rows` rows; memory does not grow with it."""
        with self._connection.cursor() as cursor:
            yield from cursor.execute(sql, parameters).to_arrow_reader(rows)

    def version(self) -> int:
        """The lake's newest version; reads `AT` it see just what is there now."""
        return int(self.rows("FROM lake.current_snapshot()")[0][0])

    def _locked(self, action: Callable[[], T]) -> T:
        """Run `action` while nobody else writes; if this process dies, the OS or the server frees the lock.

        There are no unique keys and inserts never conflict, so without it two writers could insert the same thing.
        """
        if self._lock is None:
            with self._connection.cursor() as mutex:
                mutex.execute("BEGIN")
                mutex.execute(f"FROM postgres_query('mutex', 'SELECT pg_advisory_xact_lock({_LOCK_NUMBER})::text')")
                try:
                    return action()
                finally:
                    mutex.execute("ROLLBACK")
        side_file = sqlite3.connect(self._lock, timeout=120, isolation_level=None)
        try:
            side_file.execute("BEGIN EXCLUSIVE")
            return action()
        finally:
            side_file.close()


def in_utc(at: datetime) -> datetime:
    """`at` as the lake keeps times: UTC, without a zone."""
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


def _again(action: Callable[[], T]) -> T:
    """Run `action` until it wins its race, with a growing random pause; other errors pass."""
    for attempt in range(_TRIES):
        try:
            return action()
        except (duckdb.Error, sqlite3.OperationalError) as error:
            if attempt == _TRIES - 1 or not _LOST_A_RACE.search(str(error)):
                raise
            time.sleep(random.random() * min(2.0, 0.02 * 2**attempt))
    raise AssertionError("unreachable")


def _load_extension(connection: Connection, name: str) -> None:
    """Load the extension that its pip package brings; never from the network."""
    package = f"duckdb_extension_{name}"
    spec = importlib.util.find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        path = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.exists():
            connection.execute(f"LOAD {_quoted(path.as_posix())}")
            return
    pip_name = f"{package.replace('_', '-')}=={duckdb.__version__}"
    raise StoreError(f"DuckDB {duckdb.__version__} has no extension {name!r} here.", hint=f"pip install {pip_name}")


def _without_secrets(message: str) -> str:
    """`message` without the passwords of connection strings.

    >>> _without_secrets("postgres:host=db password=x1 and postgresql://me:x2@db/lake")
    'postgres:host=db password=*** and postgresql://me:***@db/lake'
    """
    return re.sub(r"(password=)\S+|(://[^:/@\s]+:)[^@\s]+(?=@)", r"\1\2***", message)


def _quoted(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
