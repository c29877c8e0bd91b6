"""The result of a simulation: a table for the terminal, an HTML page, and a PNG chart (extra `png`)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from storage.errors import PalError
from tasks.reporting.charts import COLOURS, DASHES, HEIGHT, WIDTH, Axis, Point, interval_chart, lines_chart, look


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
        gain: Area minus that of random, mean over the seeds with its 95 % interval; None for random.
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
    gain: Point | None = None


@dataclass(frozen=True)
class Simulation:
    """Everything that the page shows.

    Attributes:
        about: What was replayed on what, in a sentence.
        figure: The one that rows are about, by its name for people.
        curves: Figure -> name of a row -> its points with intervals, in the order of the rows.
        command: What replays the same.
        warning: Why the page decides nothing; empty where it may.
        no_picture: Why there is no simulation.png, and what to type; empty where there is one.
    """

    about: str
    figure: str
    target: float
    rows: Sequence[SimulationRow]
    curves: Mapping[str, Mapping[str, Sequence[Point]]]
    command: str
    warning: str = ""
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
    lines = [found.about, *filter(None, [found.warning]), told]
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
        gains=Markup(gain_chart(found)),
        steps=list(found.rows[0].at),
        colours=COLOURS,
        dashes=DASHES,
        look=look,
    )


def gain_chart(found: Simulation) -> str:
    """The paired differences from random, each with its interval; empty where nothing is compared."""
    rows = [(row.name, row.gain) for row in found.rows if row.gain]
    if not rows:
        return ""
    ends = [each for _, point in rows for each in (point.low, point.high) if each is not None]
    title = "Area under the curve minus that of random"
    return interval_chart(title, Axis(title, min(0.0, *ends), max(0.0, *ends)), rows)


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


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    path = Path(__file__).with_name("simulation_page.html")
    return environment.from_string(path.read_text(encoding="utf-8"))


MARGIN, SCALE, ZOOM = 24, 1.8, 2
WIDE = round(WIDTH * SCALE) + 2 * MARGIN
ROW, CHARACTER, SAMPLE, WRAP = 22, 6.6, 34, 105

_FONTS = (
    "'DejaVu Sans', 'Liberation Sans', 'Noto Sans', 'Helvetica Neue', Helvetica, Arial, Roboto, Ubuntu, Cantarell,"
    " 'Open Sans', FreeSans, 'Nimbus Sans', Carlito, sans-serif"
)
"""Families by name, for the renderer knows no other way to one that is there; the first of them that is."""

_STYLE = (
    f"text {{ font-family: {_FONTS}; font-size: 13px; fill: #1c2126 }}"
    " .chart text { font-size: 8.5px; fill: #5c6670 } .soft { fill: #5c6670 }"
    " .title { font-size: 19px; font-weight: bold }"
    " .axis, .grid { stroke: #5c6670; stroke-width: 1 } .grid { opacity: .2 }"
    " .curve { fill: none; stroke-width: 2 } .area { opacity: .13 }"
    + "".join(
        f" .curve.s{k} {{ stroke: {colour} }} .area.s{k} {{ fill: {colour} }}" for k, colour in enumerate(COLOURS)
    )
    + "".join(f" .curve.d{k} {{ stroke-dasharray: {dash} }}" for k, dash in enumerate(DASHES) if k)
)
"""The light theme of the page, without the variables that only browsers know."""


def simulation_svg(found: Simulation) -> str:
    """A picture that stands alone: title, what was replayed, the chart of the figure, and each line with its area."""
    title = f"{found.figure} against the items asked about"
    body = [_text(MARGIN, MARGIN + 16, title, "title")]
    down = MARGIN + 40
    told = "Means over seeds" + (" with their 95 % intervals" if found.banded else "")
    for line in textwrap.wrap(f"{found.about}. {told}.", WRAP):
        body.append(_text(MARGIN, down, line, "soft"))
        down += 18
    wide, high = WIDTH * SCALE, HEIGHT * SCALE
    place = f'<svg x="{MARGIN}" y="{down}" width="{wide:.0f}" height="{high:.0f}" '
    body.append(figure_chart(found, found.figure).replace("<svg ", place, 1))
    down += round(high) + ROW
    legend = [f"{row.name}: area {row.area:.3f}" for row in found.rows]
    cell = max(map(len, legend)) * CHARACTER + SAMPLE + MARGIN / 2
    across = max(WIDE, math.ceil(cell) + 2 * MARGIN)  # one long mix makes it wider
    columns = int((across - 2 * MARGIN) / cell)
    rows = math.ceil(len(legend) / columns)
    for k, line in enumerate(legend):
        left = MARGIN + k // rows * (across - 2 * MARGIN) / columns
        y = down + k % rows * ROW
        body.append(f'<polyline class="curve {look(k)}" points="{left:.0f},{y - 4} {left + SAMPLE - 8:.0f},{y - 4}"/>')
        body.append(_text(left + SAMPLE, y, line))
    down += (rows - 1) * ROW + MARGIN
    size = f'width="{across}" height="{down}" viewBox="0 0 {across} {down}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{"".join(body)}</svg>'


def as_png(svg: str) -> bytes:
    """A picture that stands alone, on white, two pixels for each of its units.

    Raises:
        PalError: The extra `[png]` is not installed, or the machine has no font to write with.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise PalError(
            f"A PNG needs resvg-py, which is not installed ({error}).",
            hint="pip install 'pytorch-active-learning[png]'",
        ) from error

    def drawn(picture: str) -> bytes:
        return bytes(svg_to_bytes(svg_string=picture, background="#ffffff", zoom=ZOOM))

    empty = f'<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20"><style>{_STYLE}</style></svg>'
    if drawn(empty) == drawn(empty.replace("</svg>", f"{_text(2, 14, 'area')}</svg>")):  # it leaves texts out silently
        raise PalError(
            "A PNG needs a font, and none is found that it can be written with.",
            hint="apt-get install fonts-dejavu-core, or another package with DejaVu Sans; then again",
        )
    return drawn(svg)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y}"{named}>{escape(text)}</text>'
