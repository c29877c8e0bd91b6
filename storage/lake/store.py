"""Access to the lake: DuckLake tables (Parquet and catalog), with one write path and reads as Arrow.

On one machine, the lake is a SQLite catalog beside Parquet files; for several machines, `postgres:...` and `s3://...`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import random
import re
import shutil
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import duckdb

from storage.errors import StoreError, disk_error
from storage.lake.catalog_copy import copy_sqlite, edit_sqlite
from storage.lake.connection import (
    LOST,
    Parameters,
    attach_lake,
    bound,
    explained,
    open_duckdb,
    quoted,
    use_all_cores,
    without_secrets,
)
from storage.lake.connection import Connection as Connection
from storage.records import Record, to_records

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

SLICE_ROWS = 131_072
"""Rows per Arrow batch in a bulk read."""

PATIENCE_S = 15.0
"""How long a call waits for a PostgreSQL that does not answer, for example during a restart."""

_TRIES = 30
_LOCK_NUMBER = 1_883_712  # PostgreSQL's advisory locks are numbers; any fixed number works
_HOUSEKEEPING_NUMBER = 1_883_713
_LOST_A_RACE = re.compile(
    r"database is locked|conflict|already exists|serializ|Exceeded the maximum retry|Failed to initialize DuckLake",
    re.IGNORECASE,
)
_STALE = re.compile(
    r'ducklake_inlined_\w+"? does not exist|fetch from an unsuccessful query result|INTERNAL Error|has been invalidated'
)
"""Errors of a connection that remembers catalog tables which another process has removed."""


_LEAST_FREE_BYTES = 128 << 10
"""Space for SQLite's files beside the catalog; with less free space, the lake is read-only."""

_OF_THIS_PROGRAM = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConnectionException,
    duckdb.ParserException,
    duckdb.TransactionException,
)
"""Errors that are bugs of this program, not caused by a damaged file."""


class Store:
    """A process's connection to the lake; threads share it, and each call uses its own cursor.

    Args:
        catalog: `sqlite:<absolute path>` or `postgres:<connection string>`.
        data: Absolute folder (or `s3://...`) of the Parquet files.
        scratch: Folder for data that exceeds the memory limit during a bulk read or write.
        memory: DuckDB's memory limit, such as `1GB`.

    Raises:
        StoreError: The catalog cannot be opened, or a DuckDB extension is not installed.
    """

    def __init__(self, catalog: str, data: str, *, scratch: Path | None = None, memory: str = "1500MB") -> None:
        self.catalog, self.data = catalog, data
        self.kind, _, location = catalog.partition(":")
        self._copy = _read_only_copy(Path(location)) if self.kind == "sqlite" else None
        if self._copy is not None:
            scratch = Path(self._copy.name) / "spill"
        self._open = functools.partial(open_duckdb, catalog, data, scratch, memory)
        self._connection, self._uses_all_cores = self._open(), False
        self._thread = _ThreadState()
        self._lock = Path(f"{location}.lock") if self.kind == "sqlite" else None
        try:
            self._attach()
        except (duckdb.Error, sqlite3.Error) as error:
            raise disk_error(error, location) or explained(error, self.address) or self._damaged(error) from error

    @property
    def is_read_only(self) -> bool:
        """Whether the catalog cannot be written here; then a copy made on opening is read."""
        return self._copy is not None

    @property
    def address(self) -> str:
        """Catalog and data, for messages."""
        return f"the lake {self.catalog} with data in {self.data}"

    def _attach(self) -> None:
        connection = self._connection
        if self._lock is None:
            connection.execute(f"ATTACH {quoted(self.catalog.partition(':')[2])} AS mutex (TYPE postgres)")
        if self._copy is not None:
            attach_lake(connection, f"sqlite:{Path(self._copy.name) / 'catalog.sqlite'}", self.data, read_only=True)
            return
        _again(lambda: self._locked(lambda: attach_lake(connection, self.catalog, self.data)))

    def _renew(self) -> None:
        """Open a new connection; running queries keep the old one."""
        before, self._connection = self._connection, self._open()
        self._uses_all_cores = False
        try:
            self._attach()
        except BaseException:
            self._connection = before  # the old one is renewed at the next query; the new one has no lake attached
            raise

    def _for_bulk(self) -> None:
        """Use all cores from now on; small queries take half the processor time with one core."""
        if not self._uses_all_cores:
            with self._connection.cursor() as cursor:
                use_all_cores(cursor)
            self._uses_all_cores = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the store cannot be used afterwards."""
        self._connection.close()
        if self._copy is not None:
            self._copy.cleanup()

    def write(self, change: Callable[[Connection], T], message: str, *, bulk: bool = False) -> T:
        """Run `change` in one transaction.

        There are no unique keys: `change` must check its own preconditions, and may be run again after a conflict. If
        the connection is lost during the commit, the lake is checked for the commit.

        Args:
            change: Reads and writes through the given connection; its result is returned.
            message: Commit message for the lake's history.
            bulk: Whether Parquet files are written, which are then synced to disk before the commit.

        Raises:
            StoreError: PostgreSQL or the object storage fails.
        """
        self._refuse_read_only()
        mark = uuid.uuid4().hex
        if bulk:
            self._for_bulk()
        results: list[T] = []

        def transaction() -> T:
            if results and self._has(mark):
                return results[-1]
            with self._connection.cursor() as connection:
                connection.execute("BEGIN")
                try:
                    result = change(connection)
                    connection.execute(
                        bound("CALL lake.set_commit_message('pal', ?, extra_info => ?)", [message, mark])
                    )
                    if bulk and "://" not in self.data:
                        os.sync()
                    results.append(result)
                    connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(duckdb.Error):  # the first error is reported
                        connection.execute("ROLLBACK")
                    raise
                return result

        with self._explaining_errors():
            return _again(lambda: self._locked(transaction), PATIENCE_S, self._renew)

    def flush_inlined_rows(self) -> int:
        """Move the rows that the catalog holds to Parquet files.

        It uses one thread: on several, DuckLake with DuckDB 1.5.5 ended about one of 700 processes by "double free or
        corruption".

        Returns:
            Their number.
        """

        def flush(connection: Connection) -> list[tuple[Any, ...]]:
            connection.execute("SET threads = 1")
            return connection.execute("CALL ducklake_flush_inlined_data('lake')").fetchall()

        flushed = self.write(flush, "flush inlined rows", bulk=True)
        self._uses_all_cores = False  # until the next bulk operation
        return sum(n for *_, n in flushed)

    def read(self, sql: str, parameters: Parameters = None) -> pa.Table:
        """The result of a query as an Arrow table."""
        self._for_bulk()
        return self._query(lambda cursor: cursor.execute(bound(sql, parameters)).to_arrow_table())

    def rows(self, sql: str, parameters: Parameters = None) -> list[tuple[Any, ...]]:
        """The result of a small query as Python values."""
        return self._query(lambda cursor: cursor.execute(bound(sql, parameters)).fetchall())

    def records(self, record: type[Record], sql: str, parameters: Parameters = None) -> list[Record]:
        """The result of a small query as records of a dataclass; columns map to fields by name."""
        return self._query(lambda cursor: records_of(cursor, record, sql, parameters))

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Let all queries of this thread see the same snapshot of the lake until the end of the context.

        This also saves time: otherwise each query loads the catalog's state, which takes longer than most queries.
        Writes meanwhile, even by this thread, are not visible. If the connection is lost, later queries see the
        lake as of then.
        """
        if self._thread.reading:
            yield
            return
        self._thread.reading = True
        try:
            yield
        finally:
            self._thread.reading = False
            self._end_reading()

    def _end_reading(self) -> None:
        if self._thread.reader is not None:
            self._thread.reader.close()
            self._thread.reader = None

    def _query(self, query: Callable[[Connection], T]) -> T:
        """Run a query with a new cursor, or within `reading` with the thread's cursor."""

        def ask() -> T:
            if not self._thread.reading:
                with self._connection.cursor() as cursor:
                    return query(cursor)
            if self._thread.reader is None:
                self._thread.reader = self._connection.cursor()
                self._thread.reader.execute("BEGIN")
            try:
                return query(self._thread.reader)
            except duckdb.Error:  # an error ends the transaction
                self._end_reading()
                raise

        with self._explaining_errors():
            return _again(ask, PATIENCE_S, self._renew)

    def stream(self, sql: str, parameters: Parameters = None, rows: int = SLICE_ROWS) -> Iterator[pa.RecordBatch]:
        """The result of a large query in slices of at most `rows` rows, with constant memory."""

        self._for_bulk()

        def begin() -> tuple[Connection, Iterator[pa.RecordBatch], list[pa.RecordBatch]]:
            cursor = self._connection.cursor()
            reader = iter(cursor.execute(bound(sql, parameters)).to_arrow_reader(rows))
            return cursor, reader, list(itertools.islice(reader, 1))

        with self._explaining_errors():
            cursor, reader, first = _again(begin, PATIENCE_S, self._renew)
            with cursor:
                yield from itertools.chain(first, reader)

    def query_server(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query in PostgreSQL's own SQL on the catalog's server, by column name."""

        def query() -> list[dict[str, Any]]:
            with self._connection.cursor() as cursor:
                result = cursor.execute(f"FROM postgres_query('mutex', {quoted(sql)})")
                names = [column[0] for column in result.description or ()]
                return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

        with self._explaining_errors():
            return _again(query, PATIENCE_S, self._renew)

    def execute_on_server(self, sql: str, *, in_transaction: bool = True) -> None:
        """Run statements in PostgreSQL's own SQL in one transaction; they run again if the connection is lost.

        Args:
            in_transaction: False for statements that PostgreSQL does not allow in a transaction.
        """

        def execute() -> None:
            with self._connection.cursor() as cursor:
                cursor.execute(f"CALL postgres_execute('mutex', {quoted(sql)}, use_transaction => {in_transaction})")

        with self._explaining_errors():
            _again(execute, PATIENCE_S, self._renew)

    def keep_catalog(self, path: Path) -> None:
        """Copy a SQLite catalog to a file atomically, while nobody writes.

        Raises:
            StoreError: The file cannot be written.
        """
        with self.alone():
            try:
                copy_sqlite(Path(self.catalog.partition(":")[2]), path)
            except OSError as error:
                raise StoreError(
                    f"The catalog cannot be copied to {path}: {error}.",
                    hint="Check the path, permissions and free disk space.",
                ) from error

    def edit_catalog(self, *statements: str) -> None:
        """Run statements on the catalog's own tables, in one transaction, while nobody writes.

        Raises:
            StoreError: They cannot be run; nothing is changed.
        """
        with self.alone():
            if self.kind == "postgres":
                self.execute_on_server("; ".join(statements))
            else:
                self._edit_file("BEGIN IMMEDIATE", *statements, "COMMIT")

    def compact_catalog(self) -> None:
        """Rewrite the catalog so that no page contains deleted data.

        Raises:
            StoreError: They cannot be written.
        """
        if self.kind == "postgres":
            for command in ("ANALYZE", "VACUUM FULL"):
                self.execute_on_server(command, in_transaction=False)
        else:
            with self.alone():
                self._edit_file("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")

    def _edit_file(self, *statements: str) -> None:
        """Run statements on a SQLite catalog in a separate process, with the connection closed."""
        path = self.catalog.partition(":")[2]
        self.close()
        try:
            edit_sqlite(Path(path), statements)
        except OSError as error:
            raise disk_error(error, path) or StoreError(
                f"The catalog {path} cannot be changed: {error}.", hint="Check whether it is damaged: pal check"
            ) from error
        finally:
            self._renew()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the write lock; if this process dies, the OS or the server releases it.

        There are no unique keys and inserts never conflict, so without the lock two writers could insert the same
        rows. (If PostgreSQL drops the lock's connection, the lock is released early. Then the second of two commits
        on the same version fails on the snapshot's primary key and is retried.)
        """
        if self._thread.held:
            yield
            return
        self._refuse_read_only()
        with contextlib.ExitStack() as stack:
            if self._lock is None:
                stack.enter_context(self._advisory(f"pg_advisory_xact_lock({_LOCK_NUMBER})"))
            else:
                stack.enter_context(_side_file(self._lock, 120))
            self._thread.held = True
            stack.callback(setattr, self._thread, "held", False)
            yield

    @contextlib.contextmanager
    def housekeeping(self, command: str) -> Iterator[None]:
        """Hold the lock for backup, move and maintenance; others may read and write.

        Raises:
            StoreError: Another such command is running.
        """
        refused = StoreError(
            f"Another pal maintain, backup or lake move is running; {command} was not started.",
            hint="Wait until it has finished and run the command again.",
        )
        self._refuse_read_only()
        with self._explaining_errors(), contextlib.ExitStack() as stack:
            if self._lock is None:
                lock = f"pg_try_advisory_xact_lock({_HOUSEKEEPING_NUMBER})"
                if stack.enter_context(self._advisory(lock)) != "true":
                    raise refused
            else:
                try:
                    stack.enter_context(_side_file(self._lock.with_suffix(".housekeeping"), 0))
                except sqlite3.OperationalError as error:
                    raise refused from error
            yield

    def check_data(self) -> None:
        """Check access to the data folder in object storage; does nothing if it is on disk.

        Raises:
            StoreError: The bucket does not exist or cannot be read.
        """
        if "://" in self.data:
            self.rows("SELECT count(*) FROM glob(?)", [f"{self.data}*"])

    def version(self) -> int:
        """The lake's newest version, for reads `AT` it."""
        return int(self.rows("FROM lake.current_snapshot()")[0][0])

    def size(self) -> int:
        """Bytes of the newest version's data files, and of the catalog where it is a file."""
        data = int(self.rows("SELECT sum(file_size_bytes) FROM ducklake_table_info('lake')")[0][0])
        kind, _, path = self.catalog.partition(":")
        return data + (Path(path).stat().st_size if kind == "sqlite" else 0)

    @contextlib.contextmanager
    def _explaining_errors(self) -> Iterator[None]:
        """Translate errors of servers and files into StoreError with a hint."""
        try:
            yield
        except (duckdb.Error, sqlite3.Error) as error:
            explanation = disk_error(error, self.data) or explained(error, self.address)
            if explanation is None and isinstance(error, _OF_THIS_PROGRAM):
                raise
            raise explanation or self._damaged(error) from error
        except RuntimeError as error:  # DuckDB wraps exceptions of signal handlers, such as Ctrl-C
            if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
                raise error.__cause__ from None
            raise

    def _damaged(self, error: Exception) -> StoreError:
        """The error for an unreadable lake; DuckDB's message names the file."""
        reason = without_secrets(" ".join(str(error).split()))
        return StoreError(
            f"The {self.address.removeprefix('the ')} cannot be used: {reason}",
            hint="Check what is damaged and how to repair it: pal check",
        )

    def _refuse_read_only(self) -> None:
        if self._copy is not None:
            path = self.catalog.partition(":")[2]
            code = errno.ENOSPC if os.access(path, os.W_OK) and os.access(Path(path).parent, os.W_OK) else errno.EROFS
            raise disk_error(OSError(code, os.strerror(code), path)) or AssertionError

    def _has(self, mark: str) -> bool:
        """Whether a commit with this mark is in the lake."""
        with self._connection.cursor() as cursor:
            snapshots = bound("FROM lake.snapshots() WHERE commit_extra_info = ?", [mark])
            return bool(cursor.execute(snapshots).fetchall())

    def _locked(self, action: Callable[[], T]) -> T:
        with self.alone():
            return action()

    @contextlib.contextmanager
    def _advisory(self, lock: str) -> Iterator[str]:
        """Hold one of PostgreSQL's advisory locks; yields the server's answer."""
        with self._connection.cursor() as mutex:
            mutex.execute("BEGIN")
            try:
                answer = mutex.execute(f"FROM postgres_query('mutex', 'SELECT {lock}::text')").fetchone()
                yield answer[0] if answer else ""
            finally:
                with contextlib.suppress(duckdb.Error):  # the connection is gone, and the lock with it
                    mutex.execute("ROLLBACK")


def _read_only_copy(catalog: Path) -> tempfile.TemporaryDirectory[str] | None:
    """A temporary copy of a catalog that cannot be written; None if it can be.

    Even to read a catalog, SQLite needs to write files beside it.
    """
    if not catalog.is_file():
        return None
    writable = os.access(catalog, os.W_OK) and os.access(catalog.parent, os.W_OK)
    if writable and shutil.disk_usage(catalog.parent).free >= _LEAST_FREE_BYTES:
        return None
    copy = tempfile.TemporaryDirectory(prefix="pal-", ignore_cleanup_errors=True)
    for suffix in ("", "-wal"):  # the log has changes that are not in the file yet
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{catalog}{suffix}", f"{copy.name}/catalog.sqlite{suffix}")
    return copy


@contextlib.contextmanager
def _side_file(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold a lock file, which the OS releases when this process dies."""
    with contextlib.closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as file:
        file.execute("BEGIN EXCLUSIVE")
        yield


class _ThreadState(threading.local):
    """State of a thread: whether it holds the write lock, whether it is `reading`, and the cursor for that."""

    held = False
    reading = False
    reader: Connection | None = None


def records_of(connection: Connection, record: type[Record], sql: str, parameters: Parameters = None) -> list[Record]:
    """`Store.records` within a transaction."""
    result = connection.execute(bound(sql, parameters))
    return to_records(record, [column[0] for column in result.description or ()], result.fetchall())


def in_utc(moment: datetime) -> datetime:
    """Convert a time to UTC without a zone, as stored in the lake."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _again(action: Callable[[], T], patience_s: float = 0.0, renew: Callable[[], None] | None = None) -> T:
    """Retry `action` after conflicts, with growing random pauses; other errors are raised.

    Args:
        patience_s: How long to retry after a lost connection.
        renew: Called before the next try if the connection is stale.
    """
    until = time.monotonic() + patience_s
    for attempt in range(_TRIES):
        try:
            return action()
        except (duckdb.Error, sqlite3.OperationalError) as error:
            if renew is not None and attempt < 3 and _STALE.search(str(error)):
                _again(renew, until - time.monotonic())
                continue
            lost = bool(LOST.search(str(error))) and time.monotonic() < until
            if attempt == _TRIES - 1 or disk_error(error) or not (lost or _LOST_A_RACE.search(str(error))):
                raise
            time.sleep(random.random() * min(2.0, 0.02 * 2**attempt))
    raise AssertionError("unreachable")
