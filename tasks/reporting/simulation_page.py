"""The results of a simulation: a table for the terminal, an HTML page, and a PNG chart (extra `png`)."""

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
from tasks.reporting.charts import COLORS, DASHES, HEIGHT, WIDTH, Axis, Point, interval_chart, lines_chart, look


@dataclass(frozen=True)
class SimulationRow:
    """Results of one mix of strategies with an encoder and a batch size.

    Attributes:
        name: The mix, with encoder and batch size if there are several.
        at: Number of queried items -> mean metric, at a few steps, interpolated if needed.
        positives: Mean number of positives at the end; None without a positive label.
        area: Area under the curve, with its 95% interval.
        to_target: Number of queried items at which the target is reached; None if it is not.
        record: Wins, ties and losses by seed, against random with the same encoder and batch size; empty for random.
        gain: Area minus that of random, mean over the seeds with its 95% interval; None for random.
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
    """The contents of the page.

    Attributes:
        about: A sentence on the data and the replays.
        figure: Display name of the metric of the rows.
        curves: Metric -> name of a row -> its points with intervals, in the order of the rows.
        command: The command that repeats the simulation.
        warning: Why the results are not reliable; empty if they may be.
        no_picture: Why there is no simulation.png, with a hint; empty if there is one.
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
        """Whether charts show intervals, which they do unless there are more lines than colors."""
        return len(self.rows) <= len(COLORS)


def simulation_text(simulation: Simulation) -> str:
    """A table for the terminal, largest area first."""
    steps = list(simulation.rows[0].at)
    wide = max(len(row.name) for row in simulation.rows) + 2
    heads = "".join(f"{f'@{step}':>8}" for step in steps)
    until = f"items until {simulation.figure} is {simulation.target:g}"
    heading = f"{simulation.figure} by number of queried items, area under the curve, {until}"
    lines = [simulation.about, *filter(None, [simulation.warning]), heading]
    if simulation.several:
        lines.append("win/tie/loss against random with the same encoder and batch size")
    lines.append(f"{'mix':<{wide}}{heads}{'positives':>11}   area                 {'to target':>9}  win/tie/loss")
    for row in simulation.rows:
        values = "".join(f"{value:>8.3f}" for value in row.at.values())
        positives = f"{row.positives:>11.0f}" if row.positives is not None else f"{'':>11}"
        area = f"{row.area:.3f} [{row.low:.3f}, {row.high:.3f}]"
        target = f"{row.to_target:,}" if row.to_target is not None else "-"
        lines.append(f"{row.name:<{wide}}{values}{positives}   {area}{target:>9}  {row.record}")
    return "\n".join(lines)


def simulation_page(simulation: Simulation) -> str:
    """One self-contained page: the table, and a chart of every figure."""
    return _template().render(
        simulation=simulation,
        charts={name: Markup(figure_chart(simulation, name)) for name in simulation.curves},
        gains=Markup(gain_chart(simulation)),
        steps=list(simulation.rows[0].at),
        colors=COLORS,
        dashes=DASHES,
        look=look,
    )


def gain_chart(simulation: Simulation) -> str:
    """The paired differences from random with their intervals; empty if nothing is compared."""
    rows = [(row.name, row.gain) for row in simulation.rows if row.gain]
    if not rows:
        return ""
    ends = [bound for _, point in rows for bound in (point.low, point.high) if bound is not None]
    title = "Area under the curve minus that of random"
    return interval_chart(title, Axis(title, min(0.0, *ends), max(0.0, *ends)), rows)


def figure_chart(simulation: Simulation, name: str) -> str:
    """The chart of one metric, as SVG."""
    by_line = simulation.curves[name]
    points = [point for line in by_line.values() for point in line]
    values = [value for point in points for value in (point.y, *((point.low, point.high) if simulation.banded else ()))]
    shown = [value for value in values if value is not None]
    most = max((point.x for point in points), default=1.0)
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    up = Axis(name, math.floor(10 * low) / 10, math.ceil(10 * high) / 10) if high <= 1 else Axis(name, 0, high)
    title, across = f"{name} by number of queried items", Axis("queried items", 0, most)
    return lines_chart(title, across, up, list(by_line.values()), bands=simulation.banded)


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
"""Font families by name, since the renderer has no generic families; the first installed one is used."""

_STYLE = (
    f"text {{ font-family: {_FONTS}; font-size: 13px; fill: #1c2126 }}"
    " .chart text { font-size: 8.5px; fill: #5c6670 } .soft { fill: #5c6670 }"
    " .title { font-size: 19px; font-weight: bold }"
    " .axis, .grid { stroke: #5c6670; stroke-width: 1 } .grid { opacity: .2 }"
    " .curve { fill: none; stroke-width: 2 } .area { opacity: .13 }"
    + "".join(f" .curve.s{k} {{ stroke: {colour} }} .area.s{k} {{ fill: {colour} }}" for k, colour in enumerate(COLORS))
    + "".join(f" .curve.d{k} {{ stroke-dasharray: {dash} }}" for k, dash in enumerate(DASHES) if k)
)
"""The light theme of the page, without variables, which only browsers support."""


def simulation_svg(simulation: Simulation) -> str:
    """A self-contained picture: title, description, the chart of the metric, and a legend with areas."""
    title = f"{simulation.figure} by number of queried items"
    body = [_text(MARGIN, MARGIN + 16, title, "title")]
    down = MARGIN + 40
    means = "Means over seeds" + (" with 95% intervals" if simulation.banded else "")
    for line in textwrap.wrap(f"{simulation.about}. {means}.", WRAP):
        body.append(_text(MARGIN, down, line, "soft"))
        down += 18
    wide, high = WIDTH * SCALE, HEIGHT * SCALE
    positioned = f'<svg x="{MARGIN}" y="{down}" width="{wide:.0f}" height="{high:.0f}" '
    body.append(figure_chart(simulation, simulation.figure).replace("<svg ", positioned, 1))
    down += round(high) + ROW
    legend = [f"{row.name}: area {row.area:.3f}" for row in simulation.rows]
    cell = max(map(len, legend)) * CHARACTER + SAMPLE + MARGIN / 2
    across = max(WIDE, math.ceil(cell) + 2 * MARGIN)  # a long name makes the picture wider
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
    """Render a picture on white, with two pixels per unit.

    Raises:
        PalError: The extra `[png]` is not installed, or the machine has no usable font.
    """
    try:
        from resvg_py import svg_to_bytes
    except ImportError as error:
        raise PalError(
            f"A PNG needs resvg-py, which is not installed ({error}).",
            hint="Install it: pip install 'pytorch-active-learning[png]'",
        ) from error

    def drawn(picture: str) -> bytes:
        return bytes(svg_to_bytes(svg_string=picture, background="#ffffff", zoom=ZOOM))

    empty = f'<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20"><style>{_STYLE}</style></svg>'
    # Without a font, texts are silently left out.
    if drawn(empty) == drawn(empty.replace("</svg>", f"{_text(2, 14, 'area')}</svg>")):
        raise PalError(
            "A PNG needs a font, and no usable font is installed.",
            hint="Install one and run the command again: apt-get install fonts-dejavu-core",
        )
    return drawn(svg)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    css_class = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y}"{css_class}>{escape(text)}</text>'
