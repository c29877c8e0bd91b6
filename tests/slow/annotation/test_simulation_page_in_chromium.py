"""The page of a simulation in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import PHONE, WIDE, chromium

from tasks.reporting.charts import Point
from tasks.reporting.simulation_page import Simulation, SimulationRow, simulation_page

MIXES = [f"mix {n}" for n in range(9)]
ROWS = [SimulationRow(mix, mix, "e", 40, {40: 0.5, 80: 0.6}, 20, 0.5, 0.4, 0.6, 80, "1/0/1") for mix in MIXES]
CURVES = {"AP": {mix: [Point(40 * k, 0.1 * k, 0.05 * k, 0.15 * k) for k in (1, 2, 3)] for mix in MIXES}}


@pytest.mark.parametrize("n", [2, 9])
def test_axe_finds_no_barrier(tmp_path: Path, n: int) -> None:
    found = Simulation(
        "2 mixes.", "AP", 0.6, ROWS[:n], {"AP": dict(list(CURVES["AP"].items())[:n])}, "pal simulate x.csv"
    )
    (tmp_path / "simulation.html").write_text(simulation_page(found), encoding="utf-8")
    with chromium(tmp_path / "browser") as browser:
        for size, dark in ((WIDE, False), (WIDE, True), (PHONE, False)):
            browser.show_as(size, dark=dark)
            browser.get((tmp_path / "simulation.html").as_uri())
            assert browser.barriers() == []
