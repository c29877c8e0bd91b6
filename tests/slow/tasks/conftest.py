"""Stages that are killed, or run at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# One process imports everything and opens nothing; each run is a fork of it.
CHILD = f"""
import os, signal, sys
from pathlib import Path
import annotation.inbox
from tasks.config.settings import BatchConfig
from tasks.config.template import DISASTER
from storage.workspace import Workspace
from tasks.ask_again import draw_disputed
from tasks.collect import collect_answers
from tasks.config.settings import Config, TaskConfig
from tasks.project import Project
from tasks.sample import publish_batches

def adjudicate(project):
    draw_disputed(project)
    publish_batches(project)

annotation.inbox.SETTLE_S, annotation.inbox.FRESH_S = 0, 1e9  # the same lines in each run, however late it starts
stage = {{"collect": collect_answers, "publish": publish_batches, "adjudicate": adjudicate}}[sys.argv[1]]
config = Config(task=TaskConfig.of(DISASTER), batch=BatchConfig(formats=("csv",)))
here = {str(ROOT)!r}
traced = tuple(here + path for path in ("/annotation", "/tasks", "/storage/files/folders", "/storage/lake/annotations",
    "/storage/lake/batches", "/storage/lake/history"))

def start(root, last):
    pid = os.fork()
    if pid:
        return pid
    n = 0
    def trace(frame, event, arg):
        nonlocal n
        if not frame.f_code.co_filename.startswith(traced):
            return None
        if event == "line":
            n += 1
            if n == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    if last is not None:
        sys.settrace(trace)
    stage(Project(Workspace(Path(root)), config))
    sys.settrace(None)
    if last == 0:
        Path(root, "lines").write_text(str(n), encoding="utf-8")
    os._exit(0)

def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

first, *others = sys.argv[3:]
if sys.argv[2] == "kill":
    codes = [end(start(first, 0))]
    lines = int(Path(first, "lines").read_text(encoding="utf-8"))
    codes += [end(start(root, 1 + (lines - 1) * k // len(others))) for k, root in enumerate(others, start=1)]
else:
    codes = [end(pid) for pid in [start(root, None) for root in sys.argv[3:]]]
print(*codes)
"""


def _codes(*arguments: str | Path) -> list[int]:
    if os.name != "posix":
        pytest.skip("fork and SIGKILL are POSIX")
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    return [int(code) for code in ran.stdout.split()]


@pytest.fixture
def kill_at_lines() -> Callable[[str, list[Path]], None]:
    """Runs a stage in each workspace, killed at lines spread from its first to its last; whole in the first one."""

    def run(stage: str, roots: list[Path]) -> None:
        assert _codes(stage, "kill", *roots) == [0] + [-signal.SIGKILL] * (len(roots) - 1)

    return run


@pytest.fixture
def run_at_once() -> Callable[[str, Path], None]:
    """Runs a stage in two processes on one workspace."""

    def run(stage: str, root: Path) -> None:
        assert _codes(stage, "both", root, root) == [0, 0]

    return run
