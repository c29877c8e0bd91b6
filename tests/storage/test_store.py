"""The lake's one door: all or nothing, exactly once, whatever other threads and processes do meanwhile."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from together import SPAWN, together
from waiting import PATIENCE_S, until

from storage.errors import DiskError, StoreError
from storage.lake import store as store_module
from storage.lake.store import SLICE_ROWS, Connection, Store

PACKAGE = Path(store_module.__file__).parents[1]


def opened(root: Path) -> Store:
    return Store(f"sqlite:{root}/catalog.sqlite", f"{root}/data/")


def parquet_files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.parquet"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def lake(root: Path) -> Iterator[Store]:
    """A lake with two small tables and no others."""
    with opened(root) as store:
        store.write(make_tables, "tables")
        yield store


def make_tables(connection: Connection) -> None:
    connection.execute("CREATE TABLE lake.a (k BIGINT, who VARCHAR); CREATE TABLE lake.b (k BIGINT, who VARCHAR)")


def insert(connection: Connection, table: str, k: int, who: str) -> None:
    connection.execute(f"INSERT INTO lake.{table} VALUES (?, ?)", [k, who])


def write_row(store: Store, table: str, k: int, who: str) -> None:
    store.write(lambda connection: insert(connection, table, k, who), f"{who} {k}")


def count(store: Store, table: str) -> int:
    return int(store.rows(f"SELECT count(*) FROM lake.{table}")[0][0])


# One transaction


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_exception_inside_a_write_leaves_nothing_in_any_table(lake: Store, error: BaseException) -> None:
    before = lake.version()

    def change(connection: Connection) -> None:
        insert(connection, "a", 1, "x")
        insert(connection, "b", 1, "x")
        connection.execute("CREATE TABLE lake.c (k BIGINT)")
        raise error

    with pytest.raises(type(error)):
        lake.write(change, "never")
    assert (count(lake, "a"), count(lake, "b"), lake.version()) == (0, 0, before)
    lake.write(lambda connection: insert(connection, "a", 2, "y"), "goes on")
    assert lake.rows("FROM lake.a") == [(2, "y")]


def test_a_failed_statement_is_the_error_that_is_told_and_is_not_tried_again(lake: Store) -> None:
    runs = []

    def change(connection: Connection) -> None:
        runs.append(1)
        insert(connection, "a", 1, "x")
        connection.execute("INSERT INTO lake.nowhere VALUES (1)")

    with pytest.raises(duckdb.CatalogException, match="nowhere"):
        lake.write(change, "never")
    assert (len(runs), count(lake, "a")) == (1, 0)


def test_a_full_disk_is_the_error_also_where_the_commit_fails_and_is_not_tried_again(lake: Store) -> None:
    runs = []

    def change(_: Connection) -> None:
        runs.append(1)
        raise duckdb.TransactionException(
            "Failed to commit DuckLake transaction. Exceeded the maximum retry count: "
            'Failed to execute query "COMMIT": database or disk is full'
        )

    with pytest.raises(DiskError):
        lake.write(change, "never")
    assert len(runs) == 1


def test_a_write_sees_itself_gives_back_what_it_returns_and_is_one_version(lake: Store) -> None:
    before = lake.version()

    def change(connection: Connection) -> list[tuple[int]]:
        insert(connection, "a", 1, "x")
        insert(connection, "b", 2, "x")
        return connection.execute("SELECT k FROM lake.a UNION SELECT k FROM lake.b ORDER BY k").fetchall()

    assert lake.write(change, "both") == [(1,), (2,)]
    assert lake.version() == before + 1
    last = lake.rows("SELECT author, commit_message FROM lake.snapshots() ORDER BY snapshot_id DESC LIMIT 1")
    assert last == [("pal", "both")]


def test_times_of_the_lake_are_utc_in_every_time_zone(root: Path) -> None:
    code = f"""
from storage.lake.store import Store
with Store("sqlite:{root}/catalog.sqlite", "{root}/data/") as store:
    print(store.rows("SELECT now()::TIMESTAMP")[0][0])
    print(store.write(lambda c: c.execute("SELECT now()::TIMESTAMP").fetchall()[0][0], "now"))
"""
    environment = {**os.environ, "TZ": "America/New_York", "PYTHONPATH": str(PACKAGE.parent)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    utc = datetime.now(UTC).replace(tzinfo=None)
    for line in said.stdout.splitlines():
        assert abs(utc - datetime.fromisoformat(line)) < timedelta(minutes=5)
    assert len(said.stdout.splitlines()) == 2


# Races


@pytest.fixture
def rival(lake: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Somebody at the same lake who does not wait for the mutex."""
    with opened(root) as store:
        monkeypatch.setattr(store, "_locked", lambda action: action())
        yield store


def test_a_write_that_lost_its_race_runs_again_from_its_start(lake: Store, rival: Store) -> None:
    lake.write(lambda connection: insert(connection, "a", 1, "nobody"), "first")
    runs = []

    def change(connection: Connection) -> str:
        runs.append(connection.execute("SELECT who FROM lake.a").fetchall())
        connection.execute("UPDATE lake.a SET who = who || '+us'")
        if len(runs) == 1:
            rival.write(lambda other: other.execute("UPDATE lake.a SET who = 'rival'"), "rival")
        return "done"

    assert lake.write(change, "ours") == "done"
    assert runs == [[("nobody",)], [("rival",)]]
    assert lake.rows("FROM lake.a") == [(1, "rival+us")]


def race(root: Path, who: int) -> None:
    """Five writes of its own, and a try for each of five batches that the others want as well."""
    with opened(root) as store:
        for k in range(5):
            write_row(store, "b", k, f"own {who}")

            def take(connection: Connection, k: int = k) -> None:
                guard = "UPDATE lake.a SET who = 'taken' WHERE k = ? AND who = 'open'"
                if connection.execute(guard, [k]).fetchone() == (1,):
                    insert(connection, "b", k, f"batch {who}")

            store.write(take, f"batch {k}")


def test_of_four_racing_processes_each_batch_goes_to_one_and_no_write_is_lost(lake: Store, root: Path) -> None:
    lake.write(lambda connection: connection.execute("INSERT INTO lake.a SELECT range, 'open' FROM range(5)"), "open")
    together(race, *((root, who) for who in range(4)))
    # This store was open all the while: it sees what the others committed.
    own = [(k, f"own {who}") for k in range(5) for who in range(4)]
    assert sorted(lake.rows("FROM lake.b WHERE who LIKE 'own%'")) == own
    assert sorted(k for k, _ in lake.rows("FROM lake.b WHERE who LIKE 'batch%'")) == list(range(5))
    assert lake.rows("SELECT DISTINCT who FROM lake.a") == [("taken",)]


def test_threads_share_a_store_and_each_write_counts_once(lake: Store) -> None:
    def work(who: int) -> int:
        for k in range(5):
            write_row(lake, "a", k, str(who))
            assert (k, str(who)) in lake.rows("FROM lake.a WHERE who = ?", [str(who)])
        return sum(batch.num_rows for batch in lake.stream("FROM lake.a WHERE who = ?", [str(who)]))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [5, 5, 5, 5]
    assert sorted(lake.rows("FROM lake.a")) == [(k, str(who)) for k in range(5) for who in range(4)]


# kill -9


def hold_the_mutex(catalog: str, data: str, inside: Path) -> None:
    """A small and a large write that are acknowledged, and one that never ends."""

    def change(connection: Connection) -> None:
        for table in ("a", "b"):
            connection.execute(f"INSERT INTO lake.{table} SELECT 3, 'half' FROM range(12000)")
        inside.touch()
        time.sleep(600)

    with Store(catalog, data) as store:
        write_row(store, "a", 1, "whole")
        store.write(lambda c: c.execute("INSERT INTO lake.a SELECT 2, 'whole' FROM range(12000)"), "bulk", bulk=True)
        store.write(change, "never", bulk=True)


def test_a_killed_writer_leaves_what_it_acknowledged_and_no_half_write_and_blocks_nobody(
    lake: Store, tmp_path: Path
) -> None:
    holder = SPAWN.Process(target=hold_the_mutex, args=(lake.catalog, lake.data, tmp_path / "inside"))
    holder.start()
    until(lambda: (tmp_path / "inside").exists() or not holder.is_alive())
    whole = [(1, 1), (2, 12_000)]
    found = "SELECT k, count(*) FROM (FROM lake.a UNION ALL FROM lake.b) GROUP BY k ORDER BY k"
    assert lake.rows(found) == whole  # reads do not wait for a writer
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    write_row(lake, "a", 4, "next")
    assert lake.rows(found) == [*whole, (4, 1)]


# Where the rows lie


def test_small_writes_stay_in_the_catalog_and_large_ones_become_parquet(lake: Store, root: Path) -> None:
    for _ in range(5):
        lake.write(lambda c: c.execute("INSERT INTO lake.a SELECT range, 'x' FROM range(100)"), "small")
    assert parquet_files(root) == []
    lake.write(lambda c: c.execute("INSERT INTO lake.a SELECT range, 'y' FROM range(20000)"), "bulk", bulk=True)
    assert parquet_files(root)
    assert lake.rows("SELECT who, count(*) FROM lake.a GROUP BY who ORDER BY who") == [("x", 500), ("y", 20_000)]


def test_parquet_is_brought_to_disk_before_the_catalog_names_it(
    lake: Store, rival: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    sync = os.sync

    def spy() -> None:
        seen.append((len(parquet_files(root)), count(rival, "a")))
        sync()

    monkeypatch.setattr(os, "sync", spy)
    lake.write(lambda c: insert(c, "a", 1, "x"), "small")
    assert seen == []
    lake.write(lambda c: c.execute("INSERT INTO lake.a SELECT range, 'y' FROM range(20000)"), "bulk", bulk=True)
    assert seen == [(1, 1)]


@pytest.mark.parametrize("word", ["CHECKPOINT", "cleanup_all", "expire_snapshots"])
def test_only_erasing_throws_parts_of_the_lake_away(word: str) -> None:
    rooms = [PACKAGE.parent / room for room in ("storage", "annotation", "tasks", "flows")]
    files = [
        path for room in rooms for path in room.rglob("*.py") if path.name not in ("erasure.py", "change_items.py")
    ]
    assert len(files) > 50
    sources = {path: path.read_text(encoding="utf-8").lower().replace("wal_checkpoint", "") for path in files}
    assert [path for path, source in sources.items() if word.lower() in source] == []


def test_the_catalog_is_edited_whole_or_not_at_all_and_compacted(lake: Store) -> None:
    lake.write(lambda c: c.execute("CREATE TABLE lake.t (n BIGINT)"), "t")
    versions = lake.version()
    with pytest.raises(StoreError):
        lake.edit_catalog("DELETE FROM ducklake_snapshot", "DELETE FROM no_such_table")
    assert lake.version() == versions
    lake.edit_catalog("UPDATE ducklake_snapshot_changes SET commit_message = 'edited'")
    lake.compact_catalog()
    assert lake.rows("SELECT DISTINCT commit_message FROM lake.snapshots()") == [("edited",)]


def test_rows_of_the_catalog_are_flushed_on_one_thread(lake: Store) -> None:
    threads = "SELECT current_setting('threads')"
    lake.read("SELECT 1")
    usual = lake.rows(threads)
    lake.write(lambda c: c.execute("CREATE TABLE lake.t AS SELECT range::BIGINT AS n FROM range(0)"), "t")
    lake.write(lambda c: c.execute("INSERT INTO lake.t VALUES (1), (2)"), "two")
    assert (lake.flush_inlined_rows(), lake.rows(threads)) == (2, [(1,)])
    lake.read("SELECT 1")
    assert lake.rows(threads) == usual
    assert lake.rows("SELECT n FROM lake.t ORDER BY n") == [(1,), (2,)]


# Reading


def test_reading_sees_one_version_whatever_is_written_meanwhile(lake: Store, rival: Store) -> None:
    count = "SELECT count(*) FROM lake.t"
    lake.write(lambda c: c.execute("CREATE TABLE lake.t (n BIGINT)"), "t")
    with lake.reading():
        assert lake.rows(count) == [(0,)]
        rival.write(lambda c: c.execute("INSERT INTO lake.t VALUES (1)"), "theirs")
        lake.write(lambda c: c.execute("INSERT INTO lake.t VALUES (2)"), "ours")
        with lake.reading():
            assert lake.rows(count) == [(0,)]
        assert lake.read(count).to_pylist() == [{"count_star()": 0}]
        with pytest.raises(duckdb.Error, match="nowhere"):
            lake.rows("FROM nowhere")
        assert lake.rows(count) == [(2,)], "an error ends it; what follows is asked anew"
    assert lake.rows(count) == [(2,)]


def test_a_large_result_comes_in_order_and_in_slices(lake: Store) -> None:
    lake.write(lambda c: c.execute("INSERT INTO lake.a SELECT range, 'x' FROM range(300000)"), "bulk", bulk=True)
    slices = list(lake.stream("SELECT k FROM lake.a ORDER BY k"))
    assert all(isinstance(each, pa.RecordBatch) and 0 < each.num_rows <= SLICE_ROWS for each in slices)
    assert len(slices) >= 3
    assert pa.Table.from_batches(slices)["k"].to_pylist() == list(range(300_000))
    assert max(each.num_rows for each in lake.stream("SELECT k FROM lake.a", rows=1000)) <= 1000
    assert lake.read("SELECT k FROM lake.a ORDER BY k")["k"].to_pylist() == list(range(300_000))


def test_a_stream_goes_on_with_what_it_began_with_while_others_write(lake: Store) -> None:
    lake.write(lambda c: c.execute("INSERT INTO lake.a SELECT range, 'x' FROM range(30000)"), "bulk", bulk=True)
    stream = lake.stream("SELECT k FROM lake.a", rows=1000)
    n = next(stream).num_rows
    lake.write(lambda c: c.execute("DELETE FROM lake.a"), "emptied")
    assert n + sum(each.num_rows for each in stream) == 30_000
    assert count(lake, "a") == 0


def peak_bytes_of_a_stream(root: Path) -> None:
    import resource

    with opened(root) as store:

        def peak(rows: int) -> int:
            total = sum(each.num_rows for each in store.stream(f"SELECT range, repeat('x', 100) FROM range({rows})"))
            assert total == rows
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        few, many = peak(1_000_000), peak(8_000_000)
    grown = (many - few) * (1 if sys.platform == "darwin" else 1024)
    (root / "grown").write_text(str(grown))


def test_memory_does_not_grow_with_the_result(root: Path) -> None:
    process = SPAWN.Process(target=peak_bytes_of_a_stream, args=(root,))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    assert int((root / "grown").read_text()) < 150_000_000  # 7 million rows more are 800 MB


SCALARS = {
    "s": (pa.string(), st.text()),
    "q": (pa.string(), st.text("'\"\\\0{}[]:, nul")),
    "b": (pa.binary(), st.binary()),
    "d": (pa.float64(), st.floats() | st.sampled_from([-0.0, math.inf, -math.inf, 5e-324])),
    "i": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "t": (pa.timestamp("us"), st.datetimes().map(lambda at: at.replace(fold=0))),
}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(*(values for _, values in SCALARS.values())), min_size=1, max_size=20))
def test_scalars_come_back_from_the_catalog_as_they_went_in(lake: Store, root: Path, values: list[Any]) -> None:
    columns = {name: [row[k] for row in values] for k, name in enumerate(SCALARS)}
    table = pa.table({name: pa.array(columns[name], kind) for name, (kind, _) in SCALARS.items()})

    def change(connection: Connection) -> None:
        connection.execute(
            """CREATE TABLE IF NOT EXISTS lake.scalars
            (s VARCHAR, q VARCHAR, b BLOB, d DOUBLE, i BIGINT, t TIMESTAMP, n BIGINT);
            DELETE FROM lake.scalars"""
        )
        connection.register("given", table.append_column("n", pa.array(range(len(values)))))
        connection.execute("INSERT INTO lake.scalars FROM given")

    lake.write(change, "scalars")
    # repr tells nan from nan and -0.0 from 0.0 as == does not.
    assert repr(lake.rows("SELECT * EXCLUDE n FROM lake.scalars ORDER BY n")) == repr(values)
    assert parquet_files(root) == []


# What cannot be opened


@pytest.mark.parametrize("catalog", ["", "sqlite:", "/a/path", "mysql:host=x"])
def test_a_catalog_of_no_known_kind_is_refused(catalog: str) -> None:
    with pytest.raises(StoreError, match=r"sqlite:<path>.* postgres:"):
        Store(catalog, "/nowhere/")


def garbage(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


@pytest.mark.parametrize(
    "spoil", [garbage, Path.mkdir, lambda path: path.parent.rmdir()], ids=["garbage", "dir", "gone"]
)
def test_a_catalog_that_cannot_be_opened_is_named_with_what_to_do_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: object
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("storage.lake.store.time.sleep", pauses.append)
    folder = tmp_path / "lake"
    folder.mkdir()
    spoil(folder / "catalog.sqlite")  # type: ignore[operator]
    with pytest.raises(StoreError) as caught:
        opened(folder)
    assert all(place in caught.value.what for place in (f"sqlite:{folder}/catalog.sqlite", f"{folder}/data/"))
    assert "pal check" in caught.value.hint
    assert pauses == []


@pytest.mark.parametrize(
    ("name", "value"), [("importlib.util.find_spec", lambda name: None), ("duckdb.__version__", "1.4.0")]
)
def test_a_missing_extension_or_one_of_another_duckdb_names_its_pip_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(name, value)
    with pytest.raises(StoreError) as caught:
        opened(tmp_path)
    assert all(each in caught.value.what for each in (duckdb.__version__, "'ducklake'"))
    assert f"pip install duckdb-extension-ducklake=={duckdb.__version__}" in caught.value.hint


def test_a_closed_store_answers_no_more(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert store.rows("SELECT 1") == [(1,)]
    with pytest.raises(duckdb.ConnectionException):
        store.rows("SELECT 1")


@pytest.mark.parametrize("ask", ["read", "write"])
def test_ctrl_c_during_a_query_is_a_keyboard_interrupt(lake: Store, ask: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell starts its jobs without
    long = "SELECT count(*) FROM range(10000000000) WHERE hash(range) % 1000003 = 7"  # minutes
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lake.rows(long) if ask == "read" else lake.write(lambda connection: connection.execute(long), "long")
    timer.join()
    assert lake.rows("SELECT count(*) FROM lake.a") == [(0,)]
