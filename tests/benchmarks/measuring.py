"""Figures, each measured in a process of its own, and the table they are told in."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Seconds = dict[str, float]
"""By figure; what a function that measures returns."""
FILE, FEATURES, PASS = "floor: the file through Arrow", "floor: reading the features", "floor: one pass of the network"


@dataclass(frozen=True)
class Measured:
    """Seconds by figure, and the peak memory of the process that measured them."""

    seconds: Seconds
    peak_mb: float


def timed(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measured(script: str, arguments: Sequence[str], limit: float | None = None) -> Measured | str:
    """What a process of its own finds; or in words why it found nothing.

    Args:
        script: Its `--measure` with these arguments leads to `tell`.
        limit: Seconds for the whole process, its start included.
    """
    command = [sys.executable, script, "--measure", *arguments]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"more than {limit:.0f} s"
    if ran.returncode:
        return f"failed: {(ran.stderr.strip().splitlines() or [f'exit {ran.returncode}'])[-1][:70]}"
    return Measured(**json.loads(ran.stdout.splitlines()[-1]))


def tell(seconds: Seconds) -> None:
    """The last line of a process that measures."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


@dataclass
class Column:
    """What was measured at one size: figure -> seconds and peak MB, or why there are none."""

    n_items: int
    cells: dict[str, tuple[float, float] | str] = field(default_factory=dict)

    def take(self, named: str, found: Measured | str) -> None:
        """Keep a process's figures; `named` is the row where there are none."""
        if isinstance(found, str):
            self.cells[named] = found
        else:
            self.cells |= {figure: (seconds, found.peak_mb) for figure, seconds in found.seconds.items()}

    def seconds(self, figures: Sequence[str]) -> float:
        """Sum of the figures; 0 where one is missing."""
        found = [self.cells.get(figure) for figure in figures]
        return sum(each[0] for each in found if isinstance(each, tuple)) if all(found) else 0.0


def table(columns: Sequence[Column], floors: Mapping[str, Sequence[str]]) -> str:
    """All figures as Markdown: seconds, ratio to the floor, peak MB at each size, and growth between the last two.

    Args:
        floors: Figure -> the figures whose sum is its floor at the same size.
    """
    growth = [f"{_short(columns[-2].n_items)} to {_short(columns[-1].n_items)}"] if len(columns) > 1 else []
    heads = [
        "",
        *(f"{_short(each.n_items)}: s | x floor | MB" for each in columns),
        *(f"{g}: time | memory" for g in growth),
    ]
    figures = list(dict.fromkeys(figure for each in columns for figure in each.cells))
    rows = [" | ".join(heads).split(" | ")]
    for figure in figures:
        cells = [figure]
        for column in columns:
            cells += _cells(column, figure, floors.get(figure, ()))
        rows.append(cells + (_growth(columns[-2], columns[-1], figure) if growth else []))
    widths = [max(map(len, part)) for part in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if k == 0 else ":") for k, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _cells(column: Column, figure: str, floor: Sequence[str]) -> list[str]:
    found = column.cells.get(figure, "")
    if isinstance(found, str):
        return [found, "", ""]
    least = column.seconds(floor) if floor else 0.0
    return [f"{found[0]:.2f}", f"{found[0] / least:.1f}" if least else "", f"{found[1]:.0f}"]


def _growth(smaller: Column, larger: Column, figure: str) -> list[str]:
    before, after = smaller.cells.get(figure), larger.cells.get(figure)
    if not isinstance(before, tuple) or not isinstance(after, tuple):
        return ["", ""]
    return [f"{after[k] / before[k]:.1f}" if before[k] else "" for k in (0, 1)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        f"{cell:<{width}}" if k == 0 else f"{cell:>{width}}"
        for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *rest]) + " |"


def _short(n: int) -> str:
    return (
        f"{n // 1_000_000}M" if n >= 1_000_000 and n % 1_000_000 == 0 else f"{n // 1000}k" if n % 1000 == 0 else f"{n}"
    )
