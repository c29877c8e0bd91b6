"""Charts are well-formed SVG whose marks lie where the values are, and show texts as texts."""

from __future__ import annotations

import base64
import itertools
import xml.etree.ElementTree as ElementTree

import pytest

from tasks.reporting.charts import (
    COLORS,
    DASHES,
    Axis,
    Point,
    as_image,
    bar_chart,
    dot_chart,
    interval_chart,
    line_chart,
    lines_chart,
    look,
)

SHARE = Axis("share", 0, 1, share=True)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def of_class(svg: str, name: str) -> list[ElementTree.Element]:
    return [each for each in parsed(svg).iter() if each.get("class") == name]


def texts(svg: str) -> list[str]:
    return [str(each.text) for each in parsed(svg).iter("text")]


def test_a_line_goes_up_where_the_values_do_and_a_band_lies_around_it() -> None:
    points = [Point(0, 0.2, 0.1, 0.3), Point(50, 0.5, 0.4, 0.6), Point(100, 0.9, 0.8, 1.0, marked=True, note="0.900")]
    svg = line_chart("F1 against labels", Axis("labels", 0, 100), Axis("F1", 0, 1), points)
    (line,), (band,), (mark,) = of_class(svg, "line"), of_class(svg, "band"), of_class(svg, "mark")
    places = [tuple(map(float, pair.split(","))) for pair in str(line.get("points")).split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True), "down is more in a picture"
    assert len(str(band.get("points")).split()) == 6
    assert (float(str(mark.get("cx"))), float(str(mark.get("cy")))) == places[-1]
    assert {"0.900", "labels", "F1"} <= set(texts(svg))
    assert parsed(svg).get("aria-label") == "F1 against labels"


def test_many_points_are_a_line_without_dots_but_for_the_marked_one() -> None:
    points = [Point(k, k / 200, marked=k == 7) for k in range(200)]
    svg = line_chart("t", Axis("x", 0, 200), Axis("y", 0, 1), points)
    assert len(of_class(svg, "dot")) == len(of_class(svg, "mark")) == 1


def test_more_lines_than_colours_are_told_apart_by_their_dashes() -> None:
    n = len(COLORS) * len(DASHES)
    assert len({look(k) for k in range(n)}) == n
    assert look(n) == look(0)
    svg = lines_chart("t", SHARE, SHARE, [[Point(0, k / 20, 0, 1), Point(1, k / 20, 0, 1)] for k in range(12)])
    assert [len(of_class(svg, f"curve {name}")) for name in ("s0", "s9", "s0 d1", "s1 d1", "s2 d1")] == [1, 1, 1, 1, 0]
    assert len(of_class(svg, "area s1 d1")) == 1
    assert svg.rindex('class="area') < svg.index('class="curve'), "no band lies over a line"
    bare = lines_chart("t", SHARE, SHARE, [[Point(0, 0.5, 0, 1), Point(1, 0.5, 0, 1)]], bands=False)
    assert ("area" in bare, "curve" in bare) == (False, True)


def test_bars_are_as_high_as_their_values_and_forty_of_them_stay_apart() -> None:
    svg = bar_chart("t", Axis("items", 0, 100), [("b1", 25, 100), ("b2", 50, 50)])
    heights = [float(str(each.get("height"))) for each in of_class(svg, "bar")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert {"25", "50", "b1", "b2"} <= set(texts(svg))
    many = of_class(bar_chart("t", Axis("", 0, 9), [(f"b{k}", 3, 9) for k in range(40)]), "bar")
    ends = [(float(str(each.get("x"))), float(str(each.get("width")))) for each in many]
    assert all(x + wide <= after for (x, wide), (after, _) in itertools.pairwise(ends))


def test_dots_and_rows_have_their_intervals() -> None:
    point = Point(0.5, 0.4, 0.2, 0.6, note="12")
    assert len(of_class(dot_chart("t", SHARE, SHARE, [point]), "whisker")) == 1
    svg = interval_chart("t", SHARE, [("random", Point(0.1, 0, 0.05, 0.2, note="1 of 10")), ("outlier", point)])
    (first, second) = of_class(svg, "whisker")
    assert float(str(first.get("x2"))) < float(str(second.get("x2")))
    assert {"random", "outlier", "1 of 10"} <= set(texts(svg))


def test_a_text_is_a_text_whatever_it_contains() -> None:
    svg = bar_chart("<script>&", Axis('"', 0, 1), [("<b>", 1, 1)])
    assert "<b>" in texts(svg)
    assert not list(parsed(svg).iter("script"))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 7), (0, 813), (0, 1_000_000), (0.2, 0.3), (0, 0)])
def test_ticks_are_few_round_and_within_the_axis(low: float, high: float) -> None:
    ticks = Axis("", low, high).ticks()
    assert 1 <= len(ticks) <= 6
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in ticks)
    assert len({text for _, text in ticks}) == len(ticks)


def test_an_image_stands_alone_with_its_colours() -> None:
    address = as_image(line_chart("t", SHARE, SHARE, [Point(0, 0), Point(1, 1)], guide=True))
    kind, _, content = address.partition(",")
    assert kind == "data:image/svg+xml;base64"
    image = ElementTree.fromstring(base64.b64decode(content))
    assert image.tag == "{http://www.w3.org/2000/svg}svg"
    assert ".line" in str(image.findtext("{http://www.w3.org/2000/svg}style"))
