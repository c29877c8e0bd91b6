"""The picture of a simulation, really drawn: a PNG of the right size with its lines, its legend and its texts."""

from __future__ import annotations

import io
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import resvg_py
from PIL import Image

from storage.errors import PalError
from tasks.reporting.charts import COLORS, Point
from tasks.reporting.simulation_page import WIDE, ZOOM, Simulation, SimulationRow, as_png, simulation_svg


def simulation(*names: str) -> Simulation:
    """Lines that end at different heights."""
    rows = [SimulationRow(name, name, "e", 50, {100: 0.5}, None, 0.6, 0.5, 0.7, None, "") for name in names]
    lines = {
        name: [Point(100, 0.3, 0.25, 0.35), Point(500, 0.5 + k / 40, 0.45 + k / 40, 0.55 + k / 40)]
        for k, name in enumerate(names)
    }
    return Simulation("what was replayed", "AP", 0.5, rows, {"AP": lines, "F1": {}}, "pal simulate x.csv")


def pixels(png: bytes) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(picture: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]], colour: str) -> int:
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return int(np.all(picture == wanted, axis=2).sum())


def test_it_is_a_png_of_its_size_on_white_with_every_line_in_its_colour() -> None:
    svg = simulation_svg(simulation("random", "default", "badge"))
    png = as_png(svg)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    high = int(str(ElementTree.fromstring(svg).get("height")))
    assert pixels(png).shape == (ZOOM * high, ZOOM * WIDE, 3)
    assert pixels(png)[0, 0].tolist() == [255, 255, 255]
    counts = [count(pixels(png), colour) for colour in COLORS]
    assert min(counts[:3]) > 1500, "a line across the chart and one in the legend"
    assert max(counts[3:]) == 0


def test_title_about_axis_and_legend_are_written() -> None:
    found = simulation("random", "a <b> & c")
    svg = simulation_svg(found)
    written = [str(each.text) for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("text")]
    assert {"AP by number of queried items", "queried items", "random: area 0.600"} <= set(written)
    assert "a <b> & c: area 0.600" in written
    for text in ("AP by number of queried items</text>", ">queried items</text>", "random: area 0.600</text>"):
        start = svg.index(text)
        assert as_png(svg[:start] + svg[start:].replace(text, text[: text.startswith(">")] + "</text>", 1)) != as_png(
            svg
        )
    assert any("what was replayed. Means over seeds with 95% intervals." in text for text in written)


def test_more_lines_than_colours_are_dashed_and_without_bands_and_a_long_mix_makes_it_wider() -> None:
    many = simulation_svg(simulation(*(f"mix {k}" for k in range(12))))
    assert ("area s" in many.split("</style>")[1], 'class="curve s1 d1"' in many) == (False, True)
    assert "intervals" not in many
    assert count(pixels(as_png(many)), COLORS[9]) > 1500
    long = ",".join(f"strategy_{k}=10" for k in range(12))
    assert pixels(as_png(simulation_svg(simulation(long)))).shape[1] > ZOOM * WIDE


def test_nothing_in_it_is_known_to_browsers_alone() -> None:
    svg = simulation_svg(simulation("random"))
    assert "var(" not in svg
    assert "system-ui" not in svg


def test_without_resvg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(PalError) as error:
        as_png(simulation_svg(simulation("random")))
    assert "resvg-py" in error.value.what
    assert "pip install 'pytorch-active-learning[png]'" in error.value.hint


def test_without_a_font_there_is_no_picture_without_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resvg_py, "svg_to_bytes", partial(resvg_py.svg_to_bytes, skip_system_fonts=True))
    with pytest.raises(PalError) as error:
        as_png(simulation_svg(replace(simulation("random"), about="x")))
    assert "fonts-dejavu-core" in error.value.hint
