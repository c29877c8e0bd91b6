"""What a simulation found as a picture for a document: the chart of its figure with a legend, PNG by the extra png."""

from __future__ import annotations

import math
import textwrap
from html import escape

from storage.errors import PalError
from tasks.reporting.charts import COLOURS, DASHES, HEIGHT, WIDTH, look
from tasks.reporting.simulation_page import Simulation, figure_chart

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
