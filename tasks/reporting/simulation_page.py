"""What a simulation found: as a table for the terminal, and as one HTML page with its curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from tasks.reporting.charts import COLOURS, DASHES, Axis, Point, lines_chart, look


@dataclass(frozen=True)
class SimulationRow:
    """One mix of strategies in a line, with an encoder and in batches of a size.

    Attributes:
        name: The mix; with encoder and batch size where several were asked for.
        at: Items asked about -> mean of the figure, at a few steps; between two of its own where it has no such step.
        positives: Positives found by the end, mean; None where no label is looked for.
        area: Under its curve, with its 95 % interval.
        to_target: Items asked about until the target is reached; None where it is not.
        record: Wins, ties and losses by seed, against random with the same encoder and batch size; empty for random.
    """

    name: str
    mix: str
    encoder: str
    batch_size: int
    at: Mapping[int, float]
    positives: float | None
    area: float
    low: float
    high: float
    to_target: int | None
    record: str


@dataclass(frozen=True)
class Simulation:
    """Everything that is told.

    Attributes:
        about: What was replayed on what, in a sentence.
        figure: The one that rows are about, by its name for people.
        curves: Figure -> name of a row -> its points with intervals, in the order of the rows.
        no_picture: Why there is no simulation.png, and what to type; empty where there is one.
    """

    about: str
    figure: str
    target: float
    rows: Sequence[SimulationRow]
    curves: Mapping[str, Mapping[str, Sequence[Point]]]
    command: str
    no_picture: str = ""

    @property
    def several(self) -> bool:
        """Whether there is more than one encoder or batch size."""
        return len({(row.encoder, row.batch_size) for row in self.rows}) > 1

    @property
    def banded(self) -> bool:
        """Whether charts show intervals: not of more lines than there are colours."""
        return len(self.rows) <= len(COLOURS)


def simulation_text(found: Simulation) -> str:
    """A table for the terminal, the largest area first."""
    steps = list(found.rows[0].at)
    wide = max(len(row.name) for row in found.rows) + 2
    heads = "".join(f"{f'@{step}':>8}" for step in steps)
    told = f"{found.figure} by items asked about, area under the curve, items until {found.figure} is {found.target:g}"
    lines = [found.about, told]
    if found.several:
        lines.append("win/tie/loss against random with the same encoder and batch size")
    lines.append(f"{'mix':<{wide}}{heads}{'positives':>11}   area                 {'to target':>9}  win/tie/loss")
    for row in found.rows:
        values = "".join(f"{value:>8.3f}" for value in row.at.values())
        positives = f"{row.positives:>11.0f}" if row.positives is not None else f"{'':>11}"
        area = f"{row.area:.3f} [{row.low:.3f}, {row.high:.3f}]"
        target = f"{row.to_target:,}" if row.to_target is not None else "-"
        lines.append(f"{row.name:<{wide}}{values}{positives}   {area}{target:>9}  {row.record}")
    return "\n".join(lines)


def simulation_page(found: Simulation) -> str:
    """One self-contained page: the table, and a chart of every figure."""
    return _template().render(
        found=found,
        charts={name: Markup(figure_chart(found, name)) for name in found.curves},
        steps=list(found.rows[0].at),
        colours=COLOURS,
        dashes=DASHES,
        look=look,
    )


def figure_chart(found: Simulation, name: str) -> str:
    """The chart of one figure, as SVG."""
    by_line = found.curves[name]
    points = [point for line in by_line.values() for point in line]
    ends = [each for point in points for each in (point.y, *((point.low, point.high) if found.banded else ()))]
    shown = [each for each in ends if each is not None]
    most = max((point.x for point in points), default=1.0)
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    up = Axis(name, math.floor(10 * low) / 10, math.ceil(10 * high) / 10) if high <= 1 else Axis(name, 0, high)
    title, across = f"{name} against the items asked about", Axis("items asked about", 0, most)
    return lines_chart(title, across, up, list(by_line.values()), bands=found.banded)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    path = Path(__file__).with_name("simulation_page.html")
    return environment.from_string(path.read_text(encoding="utf-8"))
