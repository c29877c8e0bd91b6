"""Stage `report`: the page of a run, and the same as artifacts of its flow run."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from annotation.label_set import LabelSet
from annotation.report import CURVES, TITLES, Report, figure_text, report_markdown
from storage.workspace import Workspace
from tasks.report_contents import report_of, write_page

log = logging.getLogger(__name__)


@task
def write_report(workspace: Workspace, label_set: LabelSet, run_id: str) -> Path:
    """Write `reports/<run_id>.html` and `reports/latest.html`; returns the first."""
    report = report_of(workspace, label_set, run_id)
    place = workspace.reports / f"{run_id}.html"
    latest = workspace.reports / "latest.html"
    write_page(report, place, latest)
    for page in (place, latest):
        workspace.share(page)
    if flow_run.id is not None:
        publish_artifacts(report)
    log.info("report: %s", place)
    return place


def publish_artifacts(report: Report) -> None:
    """Show a report in the Prefect UI, beside the flow run that is going on."""
    create_markdown_artifact(report_markdown(report), key="report", description=report.state)
    curve = [
        {
            "model": point.model_id,
            "labels": point.n_training,
            **{TITLES[name]: figure_text(point.figures[name]) for name in CURVES if name in point.figures},
            "evaluation items": point.n_measured,
            "status": point.status.value,
        }
        for point in report.models
    ]
    create_table_artifact(curve, key="learning-curve", description="Every model on the evaluation items.")
    batches = [
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
    create_table_artifact(batches, key="batches", description="What the answers of each batch brought.")
