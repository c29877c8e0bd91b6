"""Processes that begin at the same moment, as the tests of races need them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

from waiting import PATIENCE_S

SPAWN = multiprocessing.get_context("spawn")


def together(function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
    """Call a function with each of these arguments, each in a process of its own; the (small) results of the calls."""
    gate, said = SPAWN.Barrier(len(arguments)), SPAWN.Queue()
    processes = [SPAWN.Process(target=_call, args=(gate, said, function, each)) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    results = [said.get() for _ in processes]
    said.close()
    said.join_thread()
    return results


def _call(gate: Any, said: Any, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    gate.wait(PATIENCE_S)
    said.put(function(*arguments))
