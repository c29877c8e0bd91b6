"""A lake's catalog copied whole, every version of it, between SQLite and PostgreSQL, in one transaction.

Rows that are inlined in the catalog are kept in other types there: PostgreSQL has texts as bytes, SQLite numbers with a
fraction as text. What each is follows from the column's type in the lake.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from storage.errors import StoreError
from storage.files.folders import to_disk
from storage.lake.connection import Connection, quoted

_LEFT_OUT = {"ducklake_files_scheduled_for_deletion"}
"""Files that no version needs any more are not copied."""

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

Holds = Literal["nothing", "an older copy", "the same", "another lake"]


def attach_tables(connection: Connection, catalog: str, name: str, *, read_only: bool = False) -> None:
    """Attach a catalog's own tables under a name, without the lake that they describe."""
    kind, _, where = catalog.partition(":")
    options = f"TYPE {kind}{', READ_ONLY' if read_only else ''}"
    connection.execute(f"ATTACH {quoted(where)} AS {name} ({options})")


def what_it_holds(connection: Connection, source: str, target: str) -> Holds:
    """What the catalog `target` holds, seen from `source`; both are attached, and have the tables of a lake."""
    versions = "SELECT snapshot_id, snapshot_time::TIMESTAMPTZ AS at FROM {}.ducklake_snapshot"
    counted = connection.execute(
        f"""SELECT count(*), max(snapshot_id), (SELECT max(snapshot_id) FROM {source}.ducklake_snapshot),
            (SELECT count(*) FROM ({versions.format(target)} EXCEPT {versions.format(source)}))
        FROM {target}.ducklake_snapshot"""
    ).fetchone()
    assert counted is not None
    _, newest, wanted, unknown = counted
    if newest == 0 and unknown:
        return "nothing"
    if unknown:
        return "another lake"
    return "the same" if newest == wanted else "an older copy"


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a SQLite file as it is at one moment, in place of one of that name, whole or not at all.

    Raises:
        OSError: It cannot be read, or the copy cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _run_alone(_COPY, f"{source.as_uri()}?mode=ro", str(part))
        to_disk(part)
        os.replace(part, target)  # noqa: PTH105
    finally:
        part.unlink(missing_ok=True)
    for left in target.parent.glob(f".{target.name}.*.part*"):  # of killed processes
        left.unlink(missing_ok=True)
    to_disk(target.parent)


def edit_sqlite(path: Path, statements: Sequence[str]) -> None:
    """Run statements on a SQLite file.

    Raises:
        OSError: One of them failed; those before it hold where they are not in a transaction.
    """
    _run_alone(_EDIT, str(path), text=json.dumps(statements))


def _run_alone(program: str, *arguments: str, text: str = "") -> None:
    """Run a program in a process of its own.

    DuckDB's SQLite and Python's undo each other's locks on the same file in one process, which can crash it.
    """
    command = [sys.executable, "-I", "-S", "-c", program, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(" ".join(done.stderr.split()[-12:]) or f"its process ended with {done.returncode}")


def copy_catalog(
    connection: Connection, source: str, target: str, target_kind: str, data: str, *, forget_runs: bool = False
) -> None:
    """Replace what the catalog `target` holds by what `source` holds, in one transaction.

    Args:
        target_kind: `sqlite` or `postgres`.
        data: The folder of the data that it names from then on.
        forget_runs: Also delete the record of runs that lies beside the catalog on PostgreSQL.

    Raises:
        StoreError: They are of different versions of DuckLake.
    """
    wanted, there = _tables(connection, source), _tables(connection, target)
    fixed = {name for name in there if not _is_inlined(name)}
    if unlike := fixed ^ {name for name in wanted if not _is_inlined(name)}:
        raise StoreError(
            f"the two catalogs are of different versions of DuckLake: {', '.join(sorted(unlike))}.",
            hint="make the target anew with this program, in an empty database",
        )
    connection.execute("BEGIN")
    try:
        for name in there:
            connection.execute(f"{'DELETE FROM' if name in fixed else 'DROP TABLE'} {target}.{name}")
        for name in wanted:
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
    """Whether a table holds rows of the lake; `ducklake_inlined_data_tables` only lists such tables."""
    return table.startswith(("ducklake_inlined_data_", "ducklake_inlined_delete_")) and table[-1].isdigit()


def _columns(connection: Connection, catalog: str, table: str, kind: str) -> list[str]:
    """The columns of a table with inlined rows, as SQL that gives them in the types of the other kind of catalog."""
    table_id = table.removeprefix("ducklake_inlined_data_").partition("_")[0]
    known = connection.execute(
        f"SELECT DISTINCT column_name, column_type FROM {catalog}.ducklake_column WHERE table_id::VARCHAR = ?",
        [table_id],
    ).fetchall()
    types = dict(known) if table.startswith("ducklake_inlined_data_") else {}
    described = connection.execute(f"DESCRIBE {catalog}.{table}").fetchall()
    return [_as_kept(str(name), str(kept), types.get(name, ""), kind) for name, kept, *_ in described]


def _as_kept(name: str, kept: str, lake_type: str, kind: str) -> str:
    column = f'"{name}"'
    if lake_type == "varchar" and kind == "postgres" and kept == "VARCHAR":
        return f"encode({column}) AS {column}"
    if lake_type == "varchar" and kind == "sqlite" and kept == "BLOB":
        return f"decode({column}) AS {column}"
    if lake_type == "float64":
        return f"{column}::{'DOUBLE' if kind == 'postgres' else 'VARCHAR'} AS {column}"
    return column
