"""A report as one HTML file that needs nothing else: no network, no script; light and dark, on paper and on a phone."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from tasks.reporting.report_page import (
    CURVES,
    TITLES,
    Report,
    batch_chart,
    evaluation_charts,
    figure_text,
    learning_charts,
    stage_rows,
    strategy_chart,
)

_TEMPLATE = Path(__file__).with_name("report_page.html")


def report_page(report: Report) -> str:
    """The page; texts of items stand in it as text, whatever they contain."""
    stages, runs = stage_rows(report)
    return _template().render(
        report=report,
        titles=TITLES,
        curves=CURVES,
        figure_text=figure_text,
        learning={name: Markup(chart) for name, chart in learning_charts(report).items()},
        batches=Markup(batch_chart(report)),
        strategies=Markup(strategy_chart(report)),
        charts={name: Markup(chart) for name, chart in evaluation_charts(report).items()},
        stages=stages,
        runs=runs,
        most_s=max((total for _, _, total in runs), default=0.0),
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
