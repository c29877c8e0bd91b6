"""Stage `write_report`: the page of a run, and its tables for whoever shows the run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.project import Project
from tasks.report_contents import report_of, write_page
from tasks.reporting.report_page import CURVES, TITLES, Report, figure_text

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WrittenReport:
    """A report and where it was written."""

    report: Report
    pages: tuple[Path, ...]


def write_report(project: Project, run_id: str, model: LoadedModel | None = None) -> WrittenReport:
    """Write `reports/<run_id>.html` and `reports/latest.html`.

    Args:
        model: The production model where it is loaded already.
    """
    report = report_of(project, run_id, model)
    pages = (project.workspace.reports / f"{run_id}.html", project.workspace.reports / "latest.html")
    write_page(report, *pages)
    log.info("Wrote the report %s", pages[0])
    return WrittenReport(report, pages)


def learning_curve_rows(report: Report) -> list[dict[str, Any]]:
    """A row for each model: its labels, its metrics, and how many items those are of."""
    return [
        {
            "model": point.model_id,
            "labels": point.n_training,
            **{TITLES[name]: figure_text(point.figures[name]) for name in CURVES if name in point.figures},
            "evaluation items": point.n_measured,
            "status": point.status.value,
        }
        for point in report.models
    ]


def batch_rows(report: Report) -> list[dict[str, Any]]:
    """A row for each batch: its items, and what their answers brought."""
    return [
        {
            "batch": batch.batch_id,
            "for": batch.purpose.value,
            "items": batch.n,
            "answered": batch.n_answered,
            "labelled": batch.n_labelled,
            report.positive or "positive": batch.n_positive,
        }
        for batch in report.batches
    ]
