"""The lake on PostgreSQL and S3: what a server that goes away does to a write, and what is said when one refuses."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from servers import S3, Postgres, free_port
from test_store import make_tables, test_a_killed_writer_leaves_what_it_acknowledged_and_no_half_write_and_blocks_nobody
from waiting import until

from storage.errors import StoreError
from storage.lake.connection import explained, without_secrets
from storage.lake.store import Connection, Store
from storage.run_records import Runs, new_run
from storage.upkeep.maintenance import DataFolder
from storage.workspace import Workspace

DROP_THE_LOCK = """FROM postgres_query('mutex',
    'SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = ''advisory'' AND pid <> pg_backend_pid()')"""


@pytest.fixture
def lake(cluster: tuple[str, str]) -> Iterator[Store]:
    """A lake with two small tables."""
    catalog, data = cluster
    with Store(catalog, f"{data}/") as store:
        store.write(make_tables, "tables")
        yield store


def add(k: int, who: str) -> Callable[[Connection], object]:
    return lambda connection: connection.execute("INSERT INTO lake.a VALUES (?, ?)", [k, who])


def restart(server: Postgres) -> None:
    server.stop()
    server.start()


def test_small_writes_are_in_postgresql_and_large_ones_in_the_bucket(lake: Store) -> None:
    lake.write(add(1, "it's \"é\0"), "small")
    assert lake.rows("SELECT count(*) FROM glob(?)", [f"{lake.data}**"]) == [(0,)]
    lake.write(lambda c: c.execute("INSERT INTO lake.a SELECT range, 'y' FROM range(20000)"), "bulk", bulk=True)
    assert lake.rows("SELECT count(*) FROM glob(?)", [f"{lake.data}**/*.parquet"]) == [(1,)]
    assert lake.rows("SELECT count(*) FROM lake.a") == [(20_001,)]
    assert lake.rows("SELECT who FROM lake.a WHERE who <> 'y'") == [("it's \"é\0",)]
    assert sum(each.num_rows for each in lake.stream("FROM lake.a")) == 20_001


# PostgreSQL goes away


def test_a_restart_between_two_calls_is_not_noticed_by_lake_or_runs(lake: Store, postgres: Postgres) -> None:
    runs, run = Runs(lake), new_run("nightly")
    lake.write(add(1, "before"), "before")
    runs.put(run)
    restart(postgres)
    lake.write(add(2, "after"), "after")
    restart(postgres)
    runs.enter_stage(replace(run, stage="train", stages={"ingest": 1.0}))
    restart(postgres)
    assert lake.rows("FROM lake.a ORDER BY k") == [(1, "before"), (2, "after")]
    restart(postgres)
    assert runs.recent(9) == [replace(run, stage="train", stages={"ingest": 1.0})]


def test_a_restart_in_the_middle_of_a_write_runs_it_again_and_it_counts_once(lake: Store, postgres: Postgres) -> None:
    runs = []

    def change(connection: Connection) -> int:
        add(1, "us")(connection)
        runs.append(1)
        if len(runs) == 1:
            restart(postgres)
        return len(runs)

    assert lake.write(change, "cut off") == 2
    assert lake.rows("FROM lake.a") == [(1, "us")]


class Told(duckdb.Error):
    """What a commit says whose answer was lost on the way."""


def test_a_commit_whose_answer_is_lost_counts_once(lake: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cursors = []

    class Cursor:
        """A cursor that loses the answer to its first COMMIT."""

        def __init__(self, cursor: Connection) -> None:
            self.cursor = cursor

        def __enter__(self) -> Cursor:
            return self

        def __exit__(self, *error: object) -> None:
            self.cursor.close()

        def execute(self, sql: str, *arguments: object) -> object:
            done = self.cursor.execute(sql, *arguments)  # type: ignore[arg-type]
            if sql == "COMMIT":
                cursors.append(self)
                if len(cursors) == 1:
                    raise Told("server closed the connection unexpectedly")
            return done

    class Connected:
        def cursor(self) -> Cursor:
            return Cursor(connection.cursor())

    connection = lake._connection
    runs = []

    def change(cursor: Connection) -> str:
        runs.append(1)
        cursor.execute("INSERT INTO lake.a VALUES (1, 'us')")
        return "done"

    monkeypatch.setattr(lake, "_connection", Connected())
    assert lake.write(change, "answer lost") == "done"
    monkeypatch.undo()
    assert runs == [1]
    assert lake.rows("FROM lake.a") == [(1, "us")]


def test_of_two_guarded_inserts_without_a_lock_one_counts(lake: Store) -> None:
    """Inserts do not conflict in DuckLake: what keeps them apart is that a commit needs the version it read."""
    runs = []

    def guarded(who: str) -> Callable[[Connection], bool]:
        def change(connection: Connection) -> bool:
            runs.append(who)
            if connection.execute("SELECT count(*) FROM lake.a").fetchone() != (0,):
                return False
            if runs == ["us"]:
                connection.execute(DROP_THE_LOCK)
                with Store(lake.catalog, lake.data) as rival:
                    assert rival.write(guarded("rival"), "rival")
            add(1, who)(connection)
            return True

        return change

    assert lake.write(guarded("us"), "us") is False
    assert runs == ["us", "rival", "us"]
    assert lake.rows("FROM lake.a") == [(1, "rival")]


# What is said when a server refuses


@pytest.mark.parametrize(
    ("catalog", "data", "what", "hint"),
    [
        ("host=127.0.0.1 port=1 user=pal dbname=x", "", ["PostgreSQL", "postgres:host=127.0.0.1"], ["host", "port"]),
        ("host=nowhere.invalid dbname=x", "", ["PostgreSQL"], ["host", "port"]),
        ("nowhere", "", ["PostgreSQL", "database"], ["createdb NAME", "dbname"]),
        ("postgres", "s3://nowhere/x", ["bucket"], ["[lake] data"]),
    ],
)
def test_a_server_that_cannot_be_used_is_named_with_what_to_type(
    cluster: tuple[str, str],
    postgres: Postgres,
    tmp_path: Path,
    catalog: str,
    data: str,
    what: list[str],
    hint: list[str],
) -> None:
    catalog = f"postgres:{catalog}" if "=" in catalog else postgres.catalog(catalog)
    with pytest.raises(StoreError) as caught:
        Workspace(tmp_path, catalog, data or cluster[1]).store()
    assert all(value in caught.value.what for value in what)
    assert all(value in caught.value.hint for value in (*hint, "[lake]"))
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("password", ["not-that-word", None])
def test_a_wrong_password_is_refused_and_not_repeated(
    cluster: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    if password:
        monkeypatch.setenv("PGPASSWORD", password)
    with pytest.raises(StoreError, match="PostgreSQL") as caught:
        Store(cluster[0], cluster[1])
    assert "not-that-word" not in str(caught.value)
    assert all(value in caught.value.hint for value in ("PGPASSWORD", "~/.pgpass"))


def test_a_password_that_stands_in_the_catalog_all_the_same_is_in_no_message(postgres: Postgres) -> None:
    with pytest.raises(StoreError) as caught:
        Store(f"{postgres.catalog('nowhere')} password='secret-word'", "/nowhere/")
    assert "password=***" in caught.value.what
    assert "secret-word" not in str(caught.value)


def test_a_server_that_stops_for_good_is_said_and_the_next_call_after_it_is_back_is_green(
    lake: Store, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.lake.store.PATIENCE_S", 0.5)
    postgres.stop()
    try:
        for call in (lambda: lake.write(add(1, "us"), "never"), lambda: lake.rows("FROM lake.a"), lake.version):
            with pytest.raises(StoreError, match=r"PostgreSQL(.|\n)*\bport\b") as caught:
                call()
            assert "secret-word" not in str(caught.value)
    finally:
        postgres.start()
    lake.write(add(2, "us"), "again")
    assert lake.rows("FROM lake.a") == [(2, "us")]


def bulk(store: Store) -> None:
    store.write(lambda c: c.execute("INSERT INTO lake.a SELECT range, 'y' FROM range(20000)"), "bulk", bulk=True)


def test_an_object_storage_that_does_not_answer_is_said_and_nothing_is_written(
    cluster: tuple[str, str], lake: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with Store(lake.catalog, lake.data) as store, pytest.raises(StoreError) as caught:
        bulk(store)
    assert "AWS_ENDPOINT_URL" in caught.value.hint
    assert "secret-word" not in str(caught.value)
    assert lake.rows("SELECT count(*) FROM lake.a") == [(0,)]


KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")


def test_a_write_that_the_object_storage_refuses_is_said_and_nothing_is_written(lake: Store, s3: S3) -> None:
    for use in (bulk, Store.check_data, lambda store: DataFolder(store.data).sizes()):
        with s3.refusing(), pytest.raises(StoreError) as caught:
            use(lake)
        assert all(name in caught.value.hint for name in KEYS)
        assert "secret-word" not in str(caught.value)
    assert lake.rows("SELECT count(*) FROM lake.a") == [(0,)]
    bulk(lake)
    assert lake.rows("SELECT count(*) FROM lake.a") == [(20_000,)]


def test_without_any_key_the_object_storage_is_not_even_asked(
    cluster: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError) as caught:
        Store(cluster[0], cluster[1])
    assert all(name in caught.value.hint for name in KEYS)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ('ERROR: permission denied for schema public: "CREATE TABLE"', "createdb --owner USER NAME"),
        ("FATAL:  the database system is starting up", "[lake] catalog"),
    ],
)
def test_refusals_are_known_by_what_servers_say(said: str, hint: str) -> None:
    fault = explained(duckdb.Error(said), "s3://b/x")
    assert fault is not None
    assert hint in fault.hint


def test_other_errors_are_not_taken_for_a_server() -> None:
    assert explained(duckdb.Error("Catalog Error: Table with name nowhere does not exist!"), "x") is None


def test_secrets_of_the_environment_are_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/b+c")
    assert without_secrets("signed with a/b+c by postgresql://me:x@db") == "signed with *** by postgresql://me:***@db"


@pytest.mark.parametrize("name", ["postgres_scanner", "httpfs", "aws"])
def test_a_missing_extension_of_the_cluster_names_the_extra(
    cluster: tuple[str, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    find = __import__("importlib.util").util.find_spec
    package = f"duckdb_extension_{name}"
    monkeypatch.setattr("importlib.util.find_spec", lambda each: None if each == package else find(each))
    with pytest.raises(StoreError) as caught:
        Store(cluster[0], cluster[1])
    assert "pip install 'pytorch-active-learning[cluster]'" in caught.value.hint
    assert repr(name) in caught.value.what


def test_a_closed_store_on_servers_gives_its_connections_back(cluster: tuple[str, str], postgres: Postgres) -> None:
    catalog, data = cluster
    name = catalog.rpartition("dbname=")[2]
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
    for _ in range(3):
        with contextlib.closing(Store(catalog, f"{data}/")) as store:
            store.version()
    until(lambda: postgres.run("psql", "-At", "-c", sql, postgres.url()).strip() == "0")
