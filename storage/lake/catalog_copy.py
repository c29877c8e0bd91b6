"""Copies a lake's catalog with all versions between SQLite and PostgreSQL, in one transaction.

The two catalogs store inlined rows in different types: PostgreSQL stores texts as bytes, SQLite stores fractions as
text. The conversion follows from the column's type in the lake.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import duckdb

from storage.errors import StoreError
from storage.files.folders import to_disk
from storage.lake.connection import Connection, quoted

_LEFT_OUT = {"ducklake_files_scheduled_for_deletion"}
"""Tables that are not copied: files that no version needs anymore."""

_EDIT = """
import json, sqlite3, sys
file = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for statement in json.load(sys.stdin):
    file.execute(statement).fetchall()
file.close()
"""

_COPY = """
import sqlite3, sys
source, target = sqlite3.connect(sys.argv[1], timeout=30, uri=True), sqlite3.connect(sys.argv[2])
source.backup(target)
target.execute("PRAGMA journal_mode = DELETE")
target.close()
"""

Relation = Literal["nothing", "an older copy", "the same", "another lake"]


def attach_tables(connection: Connection, catalog: str, name: str, *, read_only: bool = False) -> None:
    """Attach a catalog's own tables under a name, without the lake that they describe."""
    kind, _, location = catalog.partition(":")
    options = f"TYPE {kind}{', READ_ONLY' if read_only else ''}"
    connection.execute(f"ATTACH {quoted(location)} AS {name} ({options})")


def compare_catalogs(connection: Connection, source: str, target: str) -> Relation:
    """How the catalog `target` relates to `source`; both are attached and have the tables of a lake."""
    versions = "SELECT snapshot_id, snapshot_time::TIMESTAMPTZ AS at FROM {}.ducklake_snapshot"
    counted = connection.execute(
        f"""SELECT count(*), max(snapshot_id), (SELECT max(snapshot_id) FROM {source}.ducklake_snapshot),
            (SELECT count(*) FROM ({versions.format(target)} EXCEPT {versions.format(source)}))
        FROM {target}.ducklake_snapshot"""
    ).fetchone()
    assert counted is not None
    _, newest, newest_in_source, unknown = counted
    if newest == 0 and unknown:
        return "nothing"
    if unknown:
        return "another lake"
    return "the same" if newest == newest_in_source else "an older copy"


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a snapshot of a SQLite file atomically, replacing an existing file.

    Raises:
        OSError: The file cannot be read, or the copy cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _run_alone(_COPY, f"{source.as_uri()}?mode=ro", str(part))
        to_disk(part)
        os.replace(part, target)  # noqa: PTH105
    finally:
        part.unlink(missing_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*.part*"):  # of killed processes
        leftover.unlink(missing_ok=True)
    to_disk(target.parent)


def edit_sqlite(path: Path, statements: Sequence[str]) -> None:
    """Run statements on a SQLite file.

    Raises:
        OSError: A statement failed; earlier ones outside a transaction are kept.
    """
    _run_alone(_EDIT, str(path), text=json.dumps(statements))


def _run_alone(program: str, *arguments: str, text: str = "") -> None:
    """Run a program in a separate process.

    Within one process, DuckDB's SQLite and Python's release each other's locks on a file, which can crash it.
    """
    command = [sys.executable, "-I", "-S", "-c", program, *arguments]
    finished = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise OSError(" ".join(finished.stderr.split()[-12:]) or f"exit code {finished.returncode}")


def copy_catalog(
    connection: Connection, source: str, target: str, target_kind: str, data: str, *, forget_runs: bool = False
) -> None:
    """Replace the contents of the catalog `target` by those of `source`, in one transaction.

    Args:
        target_kind: `sqlite` or `postgres`.
        data: The data folder to record in the target.
        forget_runs: Also delete the record of runs beside the catalog on PostgreSQL.

    Raises:
        StoreError: The catalogs have different versions of DuckLake.
    """
    source_tables, target_tables = _tables(connection, source), _tables(connection, target)
    fixed = {name for name in target_tables if not _is_inlined(name)}
    if different := fixed ^ {name for name in source_tables if not _is_inlined(name)}:
        raise StoreError(
            f"The two catalogs have different versions of DuckLake: {', '.join(sorted(different))}.",
            hint="Create the target again with this program in an empty database.",
        )
    connection.execute("BEGIN")
    try:
        for name in target_tables:
            connection.execute(f"{'DELETE FROM' if name in fixed else 'DROP TABLE'} {target}.{name}")
        for name in source_tables:
            if name in fixed - _LEFT_OUT:
                connection.execute(f"INSERT INTO {target}.{name} BY NAME FROM {source}.{name}")
            elif name not in fixed:
                columns = ", ".join(_columns(connection, source, name, target_kind))
                connection.execute(f"CREATE TABLE {target}.{name} AS SELECT {columns} FROM {source}.{name}")
        if forget_runs and _has_runs(connection, target):
            connection.execute(f"DELETE FROM {target}.pal.runs")
        connection.execute(f"UPDATE {target}.ducklake_metadata SET value = ? WHERE key = 'data_path'", [data])
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(duckdb.Error):  # the first error is reported
            connection.execute("ROLLBACK")
        raise


def _tables(connection: Connection, catalog: str) -> list[str]:
    rows = connection.execute(
        """SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND schema_name IN ('main', 'public')
        AND table_name LIKE 'ducklake\\_%' ESCAPE '\\' ORDER BY table_name""",
        [catalog],
    ).fetchall()
    return [str(name) for (name,) in rows]


def _has_runs(connection: Connection, catalog: str) -> bool:
    sql = "SELECT 1 FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'pal' AND table_name = 'runs'"
    return connection.execute(sql, [catalog]).fetchone() is not None


def _is_inlined(table: str) -> bool:
    """Whether a table contains rows of the lake; `ducklake_inlined_data_tables` only lists such tables."""
    return table.startswith(("ducklake_inlined_data_", "ducklake_inlined_delete_")) and table[-1].isdigit()


def _columns(connection: Connection, catalog: str, table: str, kind: str) -> list[str]:
    """SQL for the columns of a table with inlined rows, converted to the types of the other kind of catalog."""
    table_id = table.removeprefix("ducklake_inlined_data_").partition("_")[0]
    typed = connection.execute(
        f"SELECT DISTINCT column_name, column_type FROM {catalog}.ducklake_column WHERE table_id::VARCHAR = ?",
        [table_id],
    ).fetchall()
    types = dict(typed) if table.startswith("ducklake_inlined_data_") else {}
    described = connection.execute(f"DESCRIBE {catalog}.{table}").fetchall()
    return [_converted(str(name), str(stored), types.get(name, ""), kind) for name, stored, *_ in described]


def _converted(name: str, stored_type: str, lake_type: str, kind: str) -> str:
    column = f'"{name}"'
    if lake_type == "varchar" and kind == "postgres" and stored_type == "VARCHAR":
        return f"encode({column}) AS {column}"
    if lake_type == "varchar" and kind == "sqlite" and stored_type == "BLOB":
        return f"decode({column}) AS {column}"
    if lake_type == "float64":
        return f"{column}::{'DOUBLE' if kind == 'postgres' else 'VARCHAR'} AS {column}"
    return column
