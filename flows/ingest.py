"""Flow `ingest`: filled batch files into the lake, exactly once."""

from __future__ import annotations

from flows.forms import KnownFormat
from flows.run import Run
from tasks.collect import FileReport, collect_answers, show_reports
from tasks.publish import publish_batches
from tasks.run_log import run_log


def ingest(run: Run, files: tuple[str, ...] = (), form: KnownFormat = "by content") -> list[FileReport]:
    """Ingest what annotators filled in; bad rows are listed, the good ones of the same file are taken.

    Args:
        files: Files to ingest; none for everything in `batches/` and `inbox/`.
        form: The format of these files.
    """
    project = run.project
    named = [project.workspace.root / file for file in files]
    with run_log(project.workspace, "ingest", project.settings) as remembered:
        remembered.stage("ingest")
        publish_batches(project.workspace, project.config.task)
        reports = collect_answers(project.workspace, project.config.task, named, None if form == "by content" else form)
        remembered.say(f"{sum(report.n_new for report in reports)} new answers from {len(reports)} files")
        show_reports(reports)
    return reports
