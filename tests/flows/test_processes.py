"""A child is stopped with all that it started, whether it listens or not, and is known again by when it began."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from waiting import until

from flows.server import processes as room
from flows.server.processes import born_at, end_group, group_of, is_same, start

NESTED = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.{how})
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("started", child.pid, flush=True)
time.sleep(60)
"""


def started(folder: Path, how: str = "SIG_DFL") -> tuple[room.Child, int]:
    """A child that started another process, whose number it prints."""
    child = start([sys.executable, "-c", NESTED.format(how=how)], folder / "child.log", os.environ, folder)
    line = until(lambda: next((line for line in child.tail().splitlines() if line.startswith("started ")), None))
    return child, int(line.split()[1])


@pytest.mark.parametrize("how", ["SIG_DFL", "SIG_IGN"])
def test_stopping_a_child_ends_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(room, "PATIENCE_S", 0.5)
    child, grandchild = started(tmp_path, how)
    members = group_of(child.process.pid, tmp_path)
    assert {process.pid for process in members} == {child.process.pid, grandchild}
    assert group_of(child.process.pid, tmp_path.parent) == [], "of a copy of the workspace"
    child.stop()
    assert child.ended
    assert not born_at(grandchild)
    assert group_of(child.process.pid, tmp_path) == []


def test_what_a_killed_child_left_is_ended_by_its_group(tmp_path: Path) -> None:
    child, grandchild = started(tmp_path)
    child.process.send_signal(signal.SIGKILL)
    child.process.wait()
    assert born_at(grandchild)
    assert end_group(child.process.pid, tmp_path) == 1
    assert not born_at(grandchild)
    assert end_group(child.process.pid, tmp_path) == 0


def test_a_process_is_known_by_its_number_and_when_it_began(tmp_path: Path) -> None:
    child, _ = started(tmp_path)
    born = born_at(child.process.pid)
    assert is_same(child.process.pid, born)
    assert not is_same(child.process.pid, born - 60), "an earlier one had that number"
    child.stop()
    assert not is_same(child.process.pid, born)
    assert not is_same(child.process.pid, 0.0)


def test_a_long_log_is_set_aside_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_LOG_BYTES", 10)
    (tmp_path / "x.log").write_text("a long log of before\n", encoding="utf-8")
    child = start([sys.executable, "-c", "print('new')"], tmp_path / "x.log", os.environ, tmp_path)
    child.process.wait()
    assert child.tail() == "new"
    assert (tmp_path / "x.old.log").read_text(encoding="utf-8") == "a long log of before\n"
