"""A child is stopped with all that it started, whether it listens or not, and is known again by its command."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from waiting import until

from flows.server import processes as room
from flows.server.processes import command_of, end_group, group_of, start

NESTED = """
import signal, subprocess, sys, time  # prefect: the name by which ours are told
signal.signal(signal.SIGTERM, signal.{how})
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)  # prefect"])
print("started", child.pid, flush=True)
time.sleep(60)
"""
pytestmark = pytest.mark.skipif(os.name == "nt", reason="groups of processes are POSIX")


def started(folder: Path, how: str = "SIG_DFL") -> tuple[room.Child, int]:
    """A child that started another process, whose number it prints."""
    child = start([sys.executable, "-c", NESTED.format(how=how)], folder / "child.log", os.environ, folder)
    line = until(lambda: next((line for line in child.tail().splitlines() if line.startswith("started ")), None))
    return child, int(line.split()[1])


@pytest.mark.parametrize("how", ["SIG_DFL", "SIG_IGN"])
def test_stopping_a_child_ends_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(room, "PATIENCE_S", 0.5)
    child, grandchild = started(tmp_path, how)
    assert set(group_of(child.process.pid)) == {child.process.pid, grandchild}
    child.stop()
    assert child.ended
    assert command_of(grandchild) is None
    assert group_of(child.process.pid) == []


def test_what_a_killed_child_left_is_ended_by_its_group(tmp_path: Path) -> None:
    child, grandchild = started(tmp_path)
    child.process.send_signal(signal.SIGKILL)
    child.process.wait()
    assert command_of(grandchild) is not None
    assert end_group(child.process.pid) == 1
    assert command_of(grandchild) is None
    assert end_group(child.process.pid) == 0


def test_a_command_is_known_by_its_number_and_there_is_none_for_a_free_one(tmp_path: Path) -> None:
    child, _ = started(tmp_path)
    assert command_of(child.process.pid) == " ".join(child.command)
    child.stop()
    assert command_of(child.process.pid) is None


def test_a_long_log_is_set_aside_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_LOG_BYTES", 10)
    (tmp_path / "x.log").write_text("a long log of before\n", encoding="utf-8")
    child = start([sys.executable, "-c", "print('new')"], tmp_path / "x.log", os.environ, tmp_path)
    child.process.wait()
    assert child.tail() == "new"
    assert (tmp_path / "x.old.log").read_text(encoding="utf-8") == "a long log of before\n"
