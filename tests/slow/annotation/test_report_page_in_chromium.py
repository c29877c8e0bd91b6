"""The report in a real browser: no error, nothing from elsewhere, both colours, a phone, and texts that stay texts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from chromium import PHONE, WIDE, Browser, chromium

from storage.lake.models import CurvePoint, StrategyResult
from storage.records import BatchResult, BatchStatus, Metric, ModelStatus, RunRecord, RunStatus, Split, StopSign
from tasks.reporting.charts import Point
from tasks.reporting.report_page import Mistake, OnEvaluation, Report, report_page

AT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
EVIL = "<script>document.title='taken'</script><img src=http://127.0.0.1:9/x>"
FIGURES = {name: Metric(name, 0.7, 0.6, 0.8) for name in ("f1", "auc", "ap")}
REPORT = Report(
    task=EVIL,
    workspace="/somewhere",
    made_at=AT,
    lake_version=7,
    code_version="0.1",
    state="Labels: 100 for training.",
    next="pal next",
    positive="related",
    model_id="m00200-b",
    decision="since yesterday: it is better",
    figures=[*FIGURES.values(), Metric("recall", None, reason="no item has related")],
    models=[CurvePoint(f"m{k:05d}", ModelStatus.RETIRED, AT, 100 + k, 300, FIGURES) for k in range(0, 200)],
    batches=[
        BatchResult(f"b{k:04d}-training", Split.TRAINING, BatchStatus.INGESTED, True, 100, 100, 99, k, 10, 1)
        for k in range(40)
    ],
    strategies=[StrategyResult("b0001-training", "random", 10, 1)],
    evaluation=OnEvaluation(
        300,
        "related",
        ("related", "not_related"),
        0.4,
        [(0.1, 1.0), (0.5, 0.8), (1.0, 0.2)],
        (0.5, 0.8),
        [Point(0.1, 0.05, 0.0, 0.1, note="200"), Point(0.9, 1.0, 0.8, 1.0, note="20")],
        [[20, 5], [3, 272]],
        [Mistake("i1", EVIL + "a" * 300, "related", "not_related", 0.99)],
    ),
    signs=(StopSign("kappa of successive models", 0.99, None, None, "at least 0.99", True, "0.990"),),
    advice="go on",
    runs=[RunRecord("nightly-1", "nightly", RunStatus.CRASHED, "h", 1, AT, stage="train", stages={"ingest": 1.0})],
    by_strategy=[("random", Point(0.1, 0, 0.02, 0.4, note="1 of 10"))],
)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Browser]:
    path = tmp_path / "report.html"
    path.write_text(report_page(REPORT), encoding="utf-8")
    assert path.stat().st_size < 500_000
    with chromium(tmp_path / "browser") as browser:
        browser.show_as(WIDE)
        browser.get(path.as_uri())
        yield browser


def test_the_page_shows_everything_in_both_colours_and_on_a_phone_and_asks_for_nothing(page: Browser) -> None:
    assert page.console() == []
    assert page.title.startswith(EVIL)
    assert page.text("h1") == EVIL
    assert EVIL in page.text("td.text")
    assert not page.find_elements("css selector", "script, img")
    assert len(page.find_elements("css selector", "svg.chart")) == 7
    paper = []
    for dark in (False, True):
        page.show_as(WIDE, dark=dark)
        paper.append(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert paper[0] == "rgb(255, 255, 255)"
    assert paper[0] != paper[1]
    page.show_as(PHONE)
    assert page.execute_script("return document.documentElement.scrollWidth") <= PHONE[0]
    loaded = page.execute_script("return performance.getEntriesByType('resource').length")
    assert loaded == 0


def test_the_numbers_behind_a_chart_are_there_without_it(page: Browser) -> None:
    page.element("details summary").click()
    assert "0.700 [0.600, 0.800]" in page.text("details table")
    assert all(chart.get_attribute("aria-label") for chart in page.find_elements("css selector", "svg.chart"))


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_barrier(page: Browser, dark: bool) -> None:
    for size in (WIDE, PHONE):
        page.show_as(size, dark=dark)
        assert page.barriers() == []
