"""A run: its stages in order and timed, its record whatever happens, and who shows it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from flows.run import Artifact, Run, Table, run_here, start
from storage.records import RunStatus
from tasks.project import Project

T = TypeVar("T")


class Screen:
    """A host that keeps what it is shown."""

    def __init__(self) -> None:
        self.run_id: str | None = "remote-1"
        self.stages: list[str] = []
        self.artifacts: list[Artifact] = []
        self.names: list[str] = []

    def stage(self, name: str, call: Callable[[], T]) -> T:
        self.stages.append(name)
        return call()

    def show(self, artifact: Artifact) -> None:
        self.artifacts.append(artifact)

    def rename(self, name: str) -> None:
        self.names.append(name)


def double(number: int) -> int:
    return 2 * number


def fail() -> None:
    raise ValueError("no more")


def body(run: Run, number: int = 1) -> int:
    run.rename(f"double {number}")
    doubled = run.stage(double, number)
    run.show(lambda: [Table("doubled", "Twice the number.", [{"doubled": doubled}])])
    run.say(f"Doubled {number}.")
    run.complete_work()
    return run.stage(double, doubled)


def failing(run: Run) -> None:
    run.stage(double, 1)
    run.stage(fail)


def test_a_body_runs_here_and_its_record_says_what_it_did(project: Project) -> None:
    assert run_here(project, body, 3) == 12
    (record,) = project.workspace.runs().recent(9)
    assert (record.flow, record.name, record.status) == ("body", "double 3", RunStatus.COMPLETED)
    assert (list(record.stages), record.stage, record.message) == (["double"], None, "Doubled 3.")
    assert record.ended_at is not None
    assert record.ended_at >= record.started_at


def test_a_run_that_fails_says_in_which_stage_and_why(project: Project) -> None:
    with pytest.raises(ValueError, match="no more"):
        run_here(project, failing)
    (record,) = project.workspace.runs().recent(9)
    assert (record.status, record.stage, record.message) == (RunStatus.FAILED, "fail", "no more")
    assert list(record.stages) == ["double"]


def test_a_host_runs_the_stages_and_shows_artifacts_and_name(project: Project) -> None:
    screen = Screen()
    with Run(project, "body", screen) as run:
        body(run, 1)
    assert screen.stages == ["double", "double"]
    assert screen.names == ["double 1"]
    assert [artifact.key for artifact in screen.artifacts] == ["doubled"]
    assert project.workspace.runs().recent(1)[0].server_run == "remote-1"


def test_nothing_is_new_until_lake_or_settings_change(
    project: Project, take_headlines: Callable[..., dict[str, str]]
) -> None:
    run_here(project, body)
    with Run(project, "body") as run:
        assert run.last_without_news() is not None
    with Run(project, "failing") as other:
        assert other.last_without_news() is None, "another flow's run is no reason to skip"
    changed = project.with_config(model=type(project.config.model)(seed=7))
    with Run(changed, "body") as run:
        assert run.last_without_news() is None
    take_headlines(project.workspace, 5)
    with Run(project, "body") as run:
        assert run.last_without_news() is None


def test_a_killed_run_is_reported_by_the_next(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    killed = f"""
import os, signal
from pathlib import Path
from tasks.project import open_project
from flows.run import run_here

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(run):
    run.stage(die)

run_here(open_project(Path({str(project.workspace.root)!r})), dying)
"""
    ran = subprocess.run([sys.executable, "-c", killed], cwd=Path(__file__).parents[2], check=False)
    assert ran.returncode == -9
    run_here(project, body)
    last, before = project.workspace.runs().recent(9)
    assert (before.flow, before.status, before.stage) == ("dying", RunStatus.CRASHED, "die")
    assert last.status is RunStatus.COMPLETED
    assert any(all(value in line for value in ("dying", "'die'")) for line in caplog.messages)


def test_a_readable_name_is_recorded_before_the_first_stage(project: Project) -> None:
    with Run(project, "body") as run:
        run.rename("body b0001")
        assert [each.name for each in project.workspace.runs().recent(1)] == ["body b0001"]


def test_without_a_server_a_command_runs_at_once_and_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert start(project, body, 2) == 8
    assert "Prefect" in capsys.readouterr().err
