"""The record of runs, in a file or on PostgreSQL: whole after anything, shared by processes, no part of the lake."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from together import SPAWN, together

from storage.errors import StoreError
from storage.records import RunRecord, RunStatus
from storage.run_records import LOST_AFTER, RUNS_FILE, Runs, is_alive, new_run, run_state
from storage.workspace import Workspace

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
HERE = socket.gethostname()


def run(number: int, flow: str = "nightly") -> RunRecord:
    return RunRecord(f"{flow}-{number}", flow, RunStatus.RUNNING, "here", 7, START + timedelta(days=number))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """An empty record in a file that is not there yet."""
    return Runs(tmp_path / RUNS_FILE)


def test_a_run_is_recorded_from_its_begin_over_its_stages_to_its_end(workspace: Workspace) -> None:
    runs, version = workspace.runs(), workspace.store().version()
    assert runs.recent(9) == []
    for record in (run(1), run(2), run(3, "ingest")):
        runs.put(record)
    runs.enter_stage(replace(run(2), name="night", stage="train", stages={"ingest": 1.5}))
    (found,) = runs.recent(1, flow="nightly")
    assert (found.run_id, found.name, found.stage, found.stages) == ("nightly-2", "night", "train", {"ingest": 1.5})
    assert found.started_at == (START + timedelta(days=2)).replace(tzinfo=None), "in UTC"
    ended = replace(
        found,
        status=RunStatus.COMPLETED,
        ended_at=datetime(2026, 1, 5, 12, 0),
        stage=None,
        stages={"ingest": 1.5, "train": 2.0},
        state="0123",
        model_id="m1",
        batch_id="b1",
        message='it\'s \\ "done"; ? {table}\n😀',
        name="nightly 2026-01-04",
        server_run="3f0c",
    )
    runs.put(ended)
    assert workspace.runs().recent(9, status=RunStatus.COMPLETED) == [ended]
    assert [record.run_id for record in runs.recent(9)] == ["ingest-3", "nightly-2", "nightly-1"]
    assert [record.run_id for record in runs.all()] == ["nightly-1", "nightly-2", "ingest-3"]
    assert workspace.store().version() == version, "a run is no change of the lake"


def test_text_that_a_database_cannot_store_is_recorded_without_it(workspace: Workspace) -> None:
    workspace.runs().put(replace(run(1), message="a\0b \udcff"))
    assert workspace.runs().recent(1)[0].message == "a\ufffdb ?"


def test_an_end_counts_even_where_the_begin_was_lost(runs: Runs) -> None:
    runs.put(replace(run(1), status=RunStatus.COMPLETED))
    assert [record.run_id for record in runs.recent(9)] == ["nightly-1"]


def test_two_runs_of_one_moment_have_ids_of_their_own() -> None:
    first, second = new_run("ingest", name="ingest a.csv"), new_run("ingest")
    assert first.run_id != second.run_id
    assert (first.flow, first.name, first.host, first.pid) == ("ingest", "ingest a.csv", HERE, os.getpid())


def test_a_file_of_a_newer_program_is_read_by_the_names_of_its_columns(runs: Runs, tmp_path: Path) -> None:
    runs.put(run(1))
    names = ", ".join(reversed([field.name for field in fields(RunRecord)]))
    with contextlib.closing(sqlite3.connect(tmp_path / RUNS_FILE)) as connection:
        connection.executescript(
            f"""CREATE TABLE newer AS SELECT 'x' AS of_a_newer_program, {names} FROM runs;
            DROP TABLE runs; ALTER TABLE newer RENAME TO runs"""
        )
    assert [(each.run_id, each.flow, each.pid) for each in runs.recent(9)] == [("nightly-1", "nightly", 7)]


def test_a_missing_or_empty_file_is_an_empty_history_and_reading_makes_none(tmp_path: Path) -> None:
    path = tmp_path / RUNS_FILE
    assert Runs(path).recent(9) == Runs(path).going_on() == Runs(path).mark_crashed() == []
    Runs(path).put()
    assert not path.exists()
    path.touch()
    assert Runs(path).recent(9) == []


def test_a_file_in_a_folder_that_nobody_may_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shared" / RUNS_FILE
    path.parent.mkdir()
    Runs(path).put(run(1))
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert [record.run_id for record in Runs(path).recent(9)] == ["nightly-1"]
    finally:
        path.parent.chmod(0o755)


def test_a_damaged_file_is_an_error_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / RUNS_FILE
    path.write_bytes(b"no database" * 100)
    for call in (lambda: Runs(path).recent(1), lambda: Runs(path).put(run(1))):
        with pytest.raises(StoreError) as caught:
            call()
        assert str(path) in caught.value.what


def begin_many(workspace: Workspace, who: str) -> None:
    runs = workspace.runs()
    for number in range(20):
        record = run(number, who)
        runs.put(record)
        runs.enter_stage(replace(record, stage="train", stages={"ingest": 1.0}))
        runs.put(replace(record, status=RunStatus.COMPLETED, message=who))


def test_processes_that_begin_at_once_in_a_new_workspace_lose_nothing(workspace: Workspace) -> None:
    workspace.store()
    together(begin_many, *((workspace, who) for who in ("anna", "bert", "cleo")))
    records = workspace.runs().all()
    assert len(records) == 60
    assert all((record.status, record.message) == (RunStatus.COMPLETED, record.flow) for record in records)


def test_a_machine_sees_what_another_one_records(workspace: Workspace, request: pytest.FixtureRequest) -> None:
    workspace.runs().put(run(1))
    workspace.close()
    other = Workspace(workspace.root.with_name("other"), workspace.catalog, workspace.data)
    is_shared = workspace.catalog.startswith("postgres:")
    assert [record.run_id for record in other.runs().recent(9)] == (["nightly-1"] if is_shared else [])
    assert (workspace.root / RUNS_FILE).exists() != is_shared


def test_the_state_is_another_where_the_lake_or_the_settings_are() -> None:
    assert run_state(7, "s") == run_state(7, "s")
    assert len({run_state(7, "s"), run_state(8, "s"), run_state(7, "t"), run_state(78, "")}) == 4


# Which runs go on


@pytest.fixture
def other() -> Iterator[RunRecord]:
    """A run of a process that is alive as long as the test is."""
    process = SPAWN.Process(target=__import__("time").sleep, args=(60,))
    process.start()
    assert process.pid is not None
    yield RunRecord("other", "nightly", RunStatus.RUNNING, HERE, process.pid, datetime.now(UTC))
    process.kill()
    process.join()


def test_a_run_on_this_host_is_alive_as_long_as_its_process_is(other: RunRecord) -> None:
    assert is_alive(other)
    assert is_alive(new_run("nightly")), "this process"
    process = psutil.Process(other.pid)
    process.send_signal(signal.SIGSTOP)
    assert is_alive(other)
    process.kill()
    process.wait(10)
    assert not is_alive(other)


def test_a_process_that_died_and_was_not_waited_for_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        assert not is_alive(replace(new_run("nightly"), pid=child.pid))


def test_a_process_born_after_the_run_began_only_has_its_number(other: RunRecord) -> None:
    assert not is_alive(replace(other, started_at=other.started_at - timedelta(minutes=1)))


def test_a_run_on_another_host_is_alive_for_a_day(other: RunRecord) -> None:
    elsewhere = replace(other, host="another-machine", pid=2**30)
    assert is_alive(elsewhere)
    assert not is_alive(replace(elsewhere, started_at=datetime.now(UTC) - LOST_AFTER - timedelta(minutes=1)))


def test_crashed_runs_are_marked_once_and_those_going_on_are_left_alone(
    workspace: Workspace, other: RunRecord, caplog: pytest.LogCaptureFixture
) -> None:
    runs = workspace.runs()
    dead = replace(other, run_id="dead", pid=2**30, stages={"ingest": 1.0}, stage="train")
    early = replace(dead, run_id="early", stage=None, stages={})
    for record in (other, dead, early, replace(other, run_id="done", status=RunStatus.COMPLETED)):
        runs.put(record)
    assert [record.run_id for record in runs.going_on()] == ["other"]
    with caplog.at_level(logging.WARNING):
        marked = {record.run_id: record for record in runs.mark_crashed()}
    assert marked.keys() == {"dead", "early"}
    told = [record.getMessage() for record in caplog.records]
    assert (len(told), sum("'train'" in line for line in told)) == (2, 1)
    kept = {record.run_id: record for record in runs.all()}
    assert {name: kept[name] for name in marked} == marked
    crashed = kept["dead"]
    assert (crashed.status, crashed.stage, crashed.stages) == (RunStatus.CRASHED, "train", {"ingest": 1.0})
    assert crashed.ended_at is not None
    assert kept["other"].status is RunStatus.RUNNING
    assert runs.mark_crashed() == []


def test_a_run_that_ends_while_it_is_looked_at_is_not_marked(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.put(run(1))

    def ends_now(record: RunRecord) -> bool:
        runs.put(replace(record, status=RunStatus.COMPLETED))
        return False

    monkeypatch.setattr("storage.run_records.is_alive", ends_now)
    runs.mark_crashed()
    assert runs.recent(1)[0].status is RunStatus.COMPLETED
