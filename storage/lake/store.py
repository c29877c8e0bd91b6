"""The lake's one door: DuckLake tables (Parquet + catalog), one write path, reads as Arrow.

One machine: a SQLite catalog beside Parquet files. Several: `postgres:...` and `s3://...`, by changing two strings.
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
    open_duckdb,
    quoted,
    told,
    use_all_cores,
    without_secrets,
)
from storage.lake.connection import Connection as Connection
from storage.lake.row_mapper import Record, to_records

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

SLICE_ROWS = 131_072
"""Rows of one Arrow batch in a bulk read."""

PATIENCE_S = 15.0
"""How long a call waits for a PostgreSQL that went away, such as one that is started anew."""

_TRIES = 30
_LOCK_NUMBER = 1_883_712  # any number, the same in every process: PostgreSQL's advisory locks are numbers
_HOUSEKEEPING_NUMBER = 1_883_713
_LOST_A_RACE = re.compile(
    r"database is locked|conflict|already exists|serializ|Exceeded the maximum retry|Failed to initialize DuckLake",
    re.IGNORECASE,
)
_STALE = re.compile(
    r'ducklake_inlined_\w+"? does not exist|fetch from an unsuccessful query result|INTERNAL Error|has been invalidated'
)
"""What an open connection says once another process has tidied away tables of the catalog that it remembers."""


_LEAST_FREE_BYTES = 128 << 10
"""What SQLite's files beside the catalog take; where less is free, the lake can only be read."""

_OF_THIS_PROGRAM = (
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConnectionException,
    duckdb.ParserException,
    duckdb.TransactionException,
)
"""Errors that no damaged file causes."""


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
        self.catalog, self.data = catalog, data
        self.kind, _, where = catalog.partition(":")
        self._copy = _read_only_copy(Path(where)) if self.kind == "sqlite" else None
        if self._copy is not None:
            scratch = Path(self._copy.name) / "spill"
        self._open = functools.partial(open_duckdb, catalog, data, scratch, memory)
        self._connection, self._uses_all_cores = self._open(), False
        self._mine = _Mine()
        self._lock = Path(f"{where}.lock") if self.kind == "sqlite" else None
        try:
            self._attach()
        except (duckdb.Error, sqlite3.Error) as error:
            raise told(error, self.address) or disk_error(error, where) or self._damaged(error) from error

    @property
    def is_read_only(self) -> bool:
        """Whether the catalog cannot be written here; then a copy of it is read, as it was when it was opened."""
        return self._copy is not None

    @property
    def address(self) -> str:
        """Catalog and data, for people."""
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
        """Take a new connection; what goes on with the old one goes on."""
        before, self._connection = self._connection, self._open()
        self._uses_all_cores = False
        try:
            self._attach()
        except BaseException:
            self._connection = before  # out of date, and renewed at the next query; the new one does not know the lake
            raise

    def _for_bulk(self) -> None:
        """Use all cores from here on; what only asks small questions takes half the processor time with one."""
        if not self._uses_all_cores:
            with self._connection.cursor() as cursor:
                use_all_cores(cursor)
            self._uses_all_cores = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back; the store cannot be used afterwards."""
        self._connection.close()
        if self._copy is not None:
            self._copy.cleanup()

    def write(self, change: Callable[[Connection], T], message: str, *, bulk: bool = False) -> T:
        """Run `change` in one transaction, all or nothing.

        There are no unique keys: `change` begins with its own guard, and may be run again after a lost race. Where the
        connection is lost while it commits, the lake is asked whether it has the commit.

        Args:
            change: Reads and writes through the connection it is given; what it returns is returned.
            message: Kept with the commit, for whoever reads the lake's history.
            bulk: It writes Parquet files: bring them to disk before the catalog says that they exist.

        Raises:
            StoreError: PostgreSQL or the object storage does not answer, or refuses.
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
                    with contextlib.suppress(duckdb.Error):  # the first error is the one to tell
                        connection.execute("ROLLBACK")
                    raise
                return result

        with self._telling():
            return _again(lambda: self._locked(transaction), PATIENCE_S, self._renew)

    def read(self, sql: str, parameters: Parameters = None) -> pa.Table:
        """The whole result of a query."""
        self._for_bulk()
        return self._query(lambda cursor: cursor.execute(bound(sql, parameters)).to_arrow_table())

    def rows(self, sql: str, parameters: Parameters = None) -> list[tuple[Any, ...]]:
        """The whole result of a small query, as Python values."""
        return self._query(lambda cursor: cursor.execute(bound(sql, parameters)).fetchall())

    def records(self, record: type[Record], sql: str, parameters: Parameters = None) -> list[Record]:
        """The whole result of a small query, as records of a dataclass: columns are its fields by name."""
        return self._query(lambda cursor: records_of(cursor, record, sql, parameters))

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Let every `read` and `rows` of this thread see the lake as the first of them does, until the end.

        Outside of it, each query asks the catalog anew for all that it knows of the lake, which takes longer than most
        queries. What is written meanwhile, also by this thread, is not seen. Where the connection is lost in between,
        the queries that follow see the lake as it is then.
        """
        if self._mine.reading:
            yield
            return
        self._mine.reading = True
        try:
            yield
        finally:
            self._mine.reading = False
            self._end_reading()

    def _end_reading(self) -> None:
        if self._mine.reader is not None:
            self._mine.reader.close()
            self._mine.reader = None

    def _query(self, query: Callable[[Connection], T]) -> T:
        """Ask with a cursor of its own; inside of `reading` with the one of this thread."""

        def ask() -> T:
            if not self._mine.reading:
                with self._connection.cursor() as cursor:
                    return query(cursor)
            if self._mine.reader is None:
                self._mine.reader = self._connection.cursor()
                self._mine.reader.execute("BEGIN")
            try:
                return query(self._mine.reader)
            except duckdb.Error:  # which ends the transaction
                self._end_reading()
                raise

        with self._telling():
            return _again(ask, PATIENCE_S, self._renew)

    def stream(self, sql: str, parameters: Parameters = None, rows: int = SLICE_ROWS) -> Iterator[pa.RecordBatch]:
        """The result of a large query in slices of at most `rows` rows; memory does not grow with it."""

        self._for_bulk()

        def begin() -> tuple[Connection, Iterator[pa.RecordBatch], list[pa.RecordBatch]]:
            cursor = self._connection.cursor()
            reader = iter(cursor.execute(bound(sql, parameters)).to_arrow_reader(rows))
            return cursor, reader, list(itertools.islice(reader, 1))

        with self._telling():
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

        with self._telling():
            return _again(query, PATIENCE_S, self._renew)

    def execute_on_server(self, sql: str) -> None:
        """Run statements of PostgreSQL's own in one transaction; where the connection is lost, they run again."""

        def execute() -> None:
            with self._connection.cursor() as cursor:
                cursor.execute(f"CALL postgres_execute('mutex', {quoted(sql)})")

        with self._telling():
            _again(execute, PATIENCE_S, self._renew)

    def keep_catalog(self, path: Path) -> None:
        """Copy a SQLite catalog to a file, there whole or not at all, while nobody writes.

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
        """Write a SQLite catalog anew, so that no page keeps what was deleted; nothing is done on PostgreSQL.

        Raises:
            StoreError: It cannot be written.
        """
        if self.kind == "sqlite":
            with self.alone():
                self._edit_file("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")

    def _edit_file(self, *statements: str) -> None:
        """Run statements on a SQLite catalog, with the connection closed and in a process of their own."""
        path = self.catalog.partition(":")[2]
        self.close()
        try:
            edit_sqlite(Path(path), statements)
        except OSError as error:
            raise disk_error(error, path) or StoreError(
                f"The catalog {path} cannot be changed: {error}", hint="Find out whether it is damaged: pal check"
            ) from error
        finally:
            self._renew()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else write meanwhile; if this process dies, the OS or the server frees the lock.

        There are no unique keys and inserts never conflict, so without it two writers could insert the same thing.
        (A PostgreSQL that drops the lock's connection frees it early. Then, of two writes on the same version, the
        second to commit fails on the snapshot's primary key and runs again.)
        """
        if self._mine.held:
            yield
            return
        self._refuse_read_only()
        with contextlib.ExitStack() as stack:
            if self._lock is None:
                stack.enter_context(self._advisory(f"pg_advisory_xact_lock({_LOCK_NUMBER})"))
            else:
                stack.enter_context(_side_file(self._lock, 120))
            self._mine.held = True
            stack.callback(setattr, self._mine, "held", False)
            yield

    @contextlib.contextmanager
    def housekeeping(self, command: str) -> Iterator[None]:
        """Hold the place of the one command that keeps, moves or tidies the lake; others may read and write.

        Raises:
            StoreError: Another one is at work.
        """
        refused = StoreError(
            f"another pal maintain, backup or lake move is at work; {command} was not begun.",
            hint="wait until it is through, then try again",
        )
        self._refuse_read_only()
        with self._telling(), contextlib.ExitStack() as stack:
            if self._lock is None:
                wanted = f"pg_try_advisory_xact_lock({_HOUSEKEEPING_NUMBER})"
                if stack.enter_context(self._advisory(wanted)) != "true":
                    raise refused
            else:
                try:
                    stack.enter_context(_side_file(self._lock.with_suffix(".housekeeping"), 0))
                except sqlite3.OperationalError as error:
                    raise refused from error
            yield

    def check_data(self) -> None:
        """Ask the object storage for the folder of the data; nothing is asked where that is a disk.

        Raises:
            StoreError: There is no such bucket, or it must not be read.
        """
        if "://" in self.data:
            self.rows("SELECT count(*) FROM glob(?)", [f"{self.data}*"])

    def version(self) -> int:
        """The lake's newest version; reads `AT` it see just what is there now."""
        return int(self.rows("FROM lake.current_snapshot()")[0][0])

    def size(self) -> int:
        """Bytes of the newest version's data files, and of the catalog where it is a file."""
        data = int(self.rows("SELECT sum(file_size_bytes) FROM ducklake_table_info('lake')")[0][0])
        kind, _, path = self.catalog.partition(":")
        return data + (Path(path).stat().st_size if kind == "sqlite" else 0)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Say what a server's refusal means, and what to type."""
        try:
            yield
        except (duckdb.Error, sqlite3.Error) as error:
            known = told(error, self.address) or disk_error(error, self.data)
            if known is None and isinstance(error, _OF_THIS_PROGRAM):
                raise
            raise known or self._damaged(error) from error
        except RuntimeError as error:  # what DuckDB makes of the exception of a signal handler, as Ctrl-C's
            if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
                raise error.__cause__ from None
            raise

    def _damaged(self, error: Exception) -> StoreError:
        """A lake that cannot be read; DuckDB's message names the file."""
        reason = without_secrets(" ".join(str(error).split()))
        return StoreError(
            f"The {self.address.removeprefix('the ')} cannot be used: {reason}",
            hint="Find out what is damaged, and how to get it back: pal check",
        )

    def _refuse_read_only(self) -> None:
        if self._copy is not None:
            where = self.catalog.partition(":")[2]
            code = errno.ENOSPC if os.access(where, os.W_OK) and os.access(Path(where).parent, os.W_OK) else errno.EROFS
            raise disk_error(OSError(code, os.strerror(code), where)) or AssertionError

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
        """Take one of PostgreSQL's advisory locks until the end; gives what taking it answered."""
        with self._connection.cursor() as mutex:
            mutex.execute("BEGIN")
            try:
                taken = mutex.execute(f"FROM postgres_query('mutex', 'SELECT {lock}::text')").fetchone()
                yield taken[0] if taken else ""
            finally:
                with contextlib.suppress(duckdb.Error):  # the connection is gone, and the lock with it
                    mutex.execute("ROLLBACK")


def _read_only_copy(catalog: Path) -> tempfile.TemporaryDirectory[str] | None:
    """A copy of a catalog that cannot be written, for as long as it is read; None where it can.

    SQLite needs files of its own beside a catalog even to read it.
    """
    if not catalog.is_file():
        return None
    writable = os.access(catalog, os.W_OK) and os.access(catalog.parent, os.W_OK)
    if writable and shutil.disk_usage(catalog.parent).free >= _LEAST_FREE_BYTES:
        return None
    copy = tempfile.TemporaryDirectory(prefix="pal-", ignore_cleanup_errors=True)
    for suffix in ("", "-wal"):  # a log of changes that are not in the file yet
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{catalog}{suffix}", f"{copy.name}/catalog.sqlite{suffix}")
    return copy


@contextlib.contextmanager
def _side_file(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold a file's lock, which the OS frees when this process dies."""
    with contextlib.closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as file:
        file.execute("BEGIN EXCLUSIVE")
        yield


class _Mine(threading.local):
    """What a thread is in: whether it holds the write lock, whether it is `reading`, and the cursor for that."""

    held = False
    reading = False
    reader: Connection | None = None


def records_of(connection: Connection, record: type[Record], sql: str, parameters: Parameters = None) -> list[Record]:
    """`Store.records` inside of a transaction."""
    result = connection.execute(bound(sql, parameters))
    return to_records(record, [column[0] for column in result.description or ()], result.fetchall())


def in_utc(at: datetime) -> datetime:
    """`at` as the lake keeps times: UTC, without a zone."""
    return at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at


def _again(action: Callable[[], T], patience_s: float = 0.0, renew: Callable[[], None] | None = None) -> T:
    """Run `action` until it wins its race, with a growing random pause; other errors pass.

    Args:
        patience_s: How long a lost connection is tried again, too.
        renew: Called where the connection is out of date, before the next try.
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
            if attempt == _TRIES - 1 or not (lost or _LOST_A_RACE.search(str(error))):
                raise
            time.sleep(random.random() * min(2.0, 0.02 * 2**attempt))
    raise AssertionError("unreachable")
