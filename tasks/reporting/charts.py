"""SVG charts: lines with bands, bars, dots with intervals; colors come from the page, or from the image itself."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 14, 40
NAME = 28
"""Characters that fit beside a row."""

_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #808791 } .axis, .grid { stroke: #808791; stroke-width: 1 }
.grid { opacity: .25 } .line { fill: none; stroke: #3b82c4; stroke-width: 2 } .band { fill: #3b82c4; opacity: .22 }
.dot { fill: #3b82c4 } .whisker { stroke: #3b82c4; stroke-width: 1.5 } .bar { fill: #3b82c4 } .rest { fill: #808791;
opacity: .35 } .mark { fill: none; stroke: #d9730d; stroke-width: 2 } .guide { stroke: #808791; stroke-dasharray: 4 4 }
.said { fill: #d9730d } .cone { fill: #d9730d; opacity: .2 } .ahead { stroke: #d9730d; stroke-width: 2;
stroke-dasharray: 4 4 }
"""
"""Colors that are legible on white and on black, for a chart in an image file."""

COLORS = ["#2f7fc1", "#d9730d", "#2e9e5b", "#b0479f", "#c2a300", "#17a2b8", "#d33f49", "#7a6ff0", "#8c6d46", "#7d8790"]
"""Colors of several lines: class `s0` has the first; they repeat after the last."""

DASHES = ("none", "7 4", "2 4", "12 4 2 4")
"""Dashes of lines with the same color: class `d1` has the second pattern."""


@dataclass(frozen=True)
class Point:
    """A point with an interval.

    Attributes:
        marked: Whether to draw a ring, with `note` beside it.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    marked: bool = False
    note: str = ""


@dataclass(frozen=True)
class Axis:
    """An axis with its label and range."""

    label: str
    low: float
    high: float
    share: bool = False

    def ticks(self) -> list[tuple[float, str]]:
        """Round values within the range, with their texts.

        >>> [text for _, text in Axis("labels", 0, 700).ticks()]
        ['0', '200', '400', '600']
        """
        span = self.high - self.low
        if span <= 0:
            return [(self.low, _number(self.low, self.share))]
        step = 10 ** math.floor(math.log10(span / 2))
        step *= next((factor for factor in (1, 2, 5) if span / (step * factor) <= 5), 10)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        return [((first + k) * step, _number((first + k) * step, self.share)) for k in range(count)]


def line_chart(
    title: str,
    x: Axis,
    y: Axis,
    points: Sequence[Point],
    *,
    guide: bool = False,
    ahead: tuple[Point, Point] | None = None,
) -> str:
    """A line through points in order of x, with a band for their intervals.

    Args:
        guide: Also draw the diagonal.
        ahead: Start of a forecast, and the forecast with its interval.
    """
    scale = _Scale(x, y)
    body = [_axes(scale)]
    if guide:
        ends = (scale.x(x.low), scale.y(y.low), scale.x(x.high), scale.y(y.high))
        body.append('<line class="guide" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends))
    if ahead:
        start, end = ahead
        corners = [(start.x, start.y), (end.x, end.low or end.y), (end.x, end.high or end.y)]
        body.append(
            f'<polygon class="cone" points="{" ".join(f"{scale.x(a):.1f},{scale.y(b):.1f}" for a, b in corners)}"/>'
        )
        ends = (scale.x(start.x), scale.y(start.y), scale.x(end.x), scale.y(end.y))
        body.append('<line class="ahead" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends))
    banded = [point for point in points if point.low is not None and point.high is not None]
    if len(banded) > 1:
        upper = [f"{scale.x(point.x):.1f},{scale.y(point.high or 0):.1f}" for point in banded]
        lower = [f"{scale.x(point.x):.1f},{scale.y(point.low or 0):.1f}" for point in reversed(banded)]
        body.append(f'<polygon class="band" points="{" ".join(upper + lower)}"/>')
    if len(points) > 1:
        path = " ".join(f"{scale.x(point.x):.1f},{scale.y(point.y):.1f}" for point in points)
        body.append(f'<polyline class="line" points="{path}"/>')
    body += [_dot(scale, point, whisker=len(banded) == 1) for point in points if point.marked or len(points) <= 40]
    return _svg(title, body)


def lines_chart(title: str, x: Axis, y: Axis, lines: Sequence[Sequence[Point]], *, bands: bool = True) -> str:
    """Several lines in front of their bands, styled by `look`.

    Args:
        bands: Draw the intervals; with many lines they would hide each other.
    """
    scale = _Scale(x, y)
    areas, curves = [], []
    for k, points in enumerate(lines):
        upper = [f"{scale.x(p.x):.1f},{scale.y(p.high):.1f}" for p in points if p.high is not None]
        lower = [f"{scale.x(p.x):.1f},{scale.y(p.low):.1f}" for p in reversed(points) if p.low is not None]
        if bands and len(upper) > 1:
            areas.append(f'<polygon class="area {look(k)}" points="{" ".join(upper + lower)}"/>')
        path = " ".join(f"{scale.x(point.x):.1f},{scale.y(point.y):.1f}" for point in points)
        curves.append(f'<polyline class="curve {look(k)}" points="{path}"/>')
    return _svg(title, [_axes(scale), *areas, *curves])


def look(k: int) -> str:
    """The CSS classes of line k: a color, and dashes after the tenth line.

    >>> look(3), look(13)
    ('s3', 's3 d1')
    """
    dash = k // len(COLORS) % len(DASHES)
    return f"s{k % len(COLORS)}" + (f" d{dash}" if dash else "")


def dot_chart(title: str, x: Axis, y: Axis, points: Sequence[Point]) -> str:
    """Dots with intervals, and the diagonal on which calibrated values would be."""
    scale = _Scale(x, y)
    ends = (scale.x(x.low), scale.y(y.low), scale.x(x.high), scale.y(y.high))
    guide = '<line class="guide" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'.format(*ends)
    return _svg(title, [_axes(scale), guide, *(_dot(scale, point, whisker=True) for point in points)])


def bar_chart(title: str, y: Axis, bars: Sequence[tuple[str, float, float]]) -> str:
    """Bars (name, part, total): the part colored in front of the total, with its number above; names if they fit."""
    scale = _Scale(Axis("", 0, max(1, len(bars))), y)
    body = [_axes(scale, names=False)]
    every = math.ceil(len(bars) / 8)
    wide = max(1.0, min(40.0, (WIDTH - LEFT - RIGHT) / max(1, len(bars)) * 0.7))
    for k, (name, part, total) in enumerate(bars):
        left = scale.x(k + 0.5) - wide / 2
        for kind, value in (("rest", total), ("bar", part)):
            top = scale.y(value)
            height = scale.y(y.low) - top
            body.append(f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{height:.1f}"/>')
        middle = scale.x(k + 0.5)
        if len(bars) <= 16:
            body.append(_text(middle, scale.y(part) - 3, _number(part, False), "middle"))
        if k % every == 0:
            body.append(_text(middle, HEIGHT - BOTTOM + 15, name, "middle"))
    return _svg(title, body)


def interval_chart(title: str, x: Axis, rows: Sequence[tuple[str, Point]]) -> str:
    """One row per name: a dot with its interval, and its note on the right; a dashed line at zero."""
    high = 26 * len(rows) + TOP + BOTTOM
    wide = 190
    scale = _Scale(x, Axis("", 0, 1), left=wide, right=80)
    body = []
    for value, text in x.ticks():
        across = scale.x(value)
        body.append(f'<line class="grid" x1="{across:.1f}" x2="{across:.1f}" y1="{TOP}" y2="{high - BOTTOM}"/>')
        body.append(_text(across, high - BOTTOM + 15, text, "middle"))
    if x.low <= 0 <= x.high:
        zero = scale.x(0)
        body.append(f'<line class="guide" x1="{zero:.1f}" x2="{zero:.1f}" y1="{TOP}" y2="{high - BOTTOM}"/>')
    for k, (name, point) in enumerate(rows):
        down = TOP + 26 * k + 13
        low, top = (scale.x(point.x if end is None else end) for end in (point.low, point.high))
        body.append(_text(wide - 10, down + 4, name if len(name) <= NAME else f"{name[: NAME - 1]}…", "end"))
        body.append(f'<line class="whisker" x1="{low:.1f}" x2="{top:.1f}" y1="{down}" y2="{down}"/>')
        body.append(f'<circle class="dot" cx="{scale.x(point.x):.1f}" cy="{down}" r="4"/>')
        body.append(_text(WIDTH - 4, down + 4, point.note, "end"))
    body.append(_text((wide + WIDTH - 80) / 2, high - 6, x.label, "middle"))
    return _svg(title, body, high)


def as_image(svg: str) -> str:
    """A chart as a data URL of an image with its own colors."""
    image = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    image = image.replace("</title>", f"</title><style>{_STYLE}</style>", 1)
    return f"data:image/svg+xml;base64,{base64.b64encode(image.encode()).decode()}"


class _Scale:
    """Maps values to coordinates in the picture."""

    def __init__(self, x: Axis, y: Axis, left: float = LEFT, right: float = RIGHT) -> None:
        self.across, self.up, self.left, self.right = x, y, left, right

    def x(self, value: float) -> float:
        share = (value - self.across.low) / ((self.across.high - self.across.low) or 1)
        return self.left + share * (WIDTH - self.left - self.right)

    def y(self, value: float) -> float:
        share = (value - self.up.low) / ((self.up.high - self.up.low) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(scale: _Scale, *, names: bool = True) -> str:
    parts = []
    for value, text in scale.up.ticks():
        down = scale.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(_text(LEFT - 6, down + 4, text, "end"))
    if names:
        for value, text in scale.across.ticks():
            parts.append(_text(scale.x(value), HEIGHT - BOTTOM + 15, text, "middle"))
    bottom = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, scale.across.label, "middle"))
    parts.append(_text(LEFT, TOP - 3, scale.up.label, "start"))
    return "".join(parts)


def _dot(scale: _Scale, point: Point, *, whisker: bool) -> str:
    across, down = scale.x(point.x), scale.y(point.y)
    parts = []
    if whisker and point.low is not None and point.high is not None:
        low, high = scale.y(point.low), scale.y(point.high)
        parts.append(f'<line class="whisker" x1="{across:.1f}" x2="{across:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    parts.append(f'<circle class="dot" cx="{across:.1f}" cy="{down:.1f}" r="3"/>')
    if point.marked:
        parts.append(f'<circle class="mark" cx="{across:.1f}" cy="{down:.1f}" r="6"/>')
    if point.note:
        end, above = across > WIDTH * 0.6, down - 7 >= TOP + 12  # at the top it would cover the line
        place = across + (-9 if end else 9), down - 7 if above else down + 19
        parts.append(_text(*place, point.note, "end" if end else "start", "said"))
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    css_class = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css_class}>{escape(text)}</text>'


def _svg(title: str, body: Sequence[str], height: float = HEIGHT) -> str:
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
    return f"{head}<title>{escape(title)}</title>{''.join(body)}</svg>"


def _number(value: float, share: bool) -> str:
    if share:
        return f"{value:.0%}"
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.10g}"
