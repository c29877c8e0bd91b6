"""Run a function in a process of its own and `kill -9` that process at the N-th line it executes in storage/."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from waiting import PATIENCE_S

import storage

SPAWN = multiprocessing.get_context("spawn")
ROOM = str(Path(storage.__file__).parent)


def lines_of(function: Callable[..., Any], *arguments: Any) -> int:
    """How many lines of storage/ a call executes in a process of its own, undisturbed."""
    here, there = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_tell_lines, args=(there, function, *arguments))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    lines: int = here.recv()
    here.close()
    there.close()
    return lines


def killed_at(line: int, function: Callable[..., Any], *arguments: Any) -> None:
    """Run `function` in a spawned process that ends, without any clean-up, as it comes to that line."""
    process = SPAWN.Process(target=_die_at, args=(line, function, *arguments))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL, f"exit code {process.exitcode}: line {line} was never reached"


def _tell_lines(there: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    count = _count_lines(lambda _: None)
    function(*arguments)
    sys.settrace(None)
    there.send(count[0])


def _die_at(line: int, function: Callable[..., Any], *arguments: Any) -> None:
    def die(n: int) -> None:
        if n == line:
            os.kill(os.getpid(), signal.SIGKILL)

    _count_lines(die)
    function(*arguments)


def _count_lines(reached: Callable[[int], None]) -> list[int]:
    """Trace this thread from here on; the returned list's one number is the lines so far."""
    count = [0]

    def line(frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            count[0] += 1
            reached(count[0])
        return line

    def call(frame: FrameType, event: str, argument: object) -> Any:
        return line if frame.f_code.co_filename.startswith(ROOM) else None

    sys.settrace(call)
    return count
