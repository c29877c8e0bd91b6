"""Flow `ingest`: filled batch files into the lake, exactly once."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.engine import begin
from flows.forms import KnownFormat
from flows.notify import failure_told
from flows.run_names import name_at_start
from tasks.collect import FileReport, collect_answers, ingested_rows
from tasks.publish import publish_batches
from tasks.run_log import run_log


@flow(name="ingest", flow_run_name=name_at_start, on_failure=[failure_told], on_crashed=[failure_told])
def ingest(workspace: str, files: tuple[str, ...] = (), form: KnownFormat = "by content") -> list[FileReport]:
    """Ingest what annotators filled in; bad rows are listed, the good ones of the same file are taken.

    Args:
        workspace: The project's directory.
        files: Files to ingest; none for everything in `batches/` and `inbox/`.
        form: The format of these files.
    """
    project = begin(workspace)
    named = [project.workspace.root / file for file in files]
    with run_log(project.workspace, "ingest", project.settings) as run:
        run.stage("ingest")
        publish_batches(project.workspace, project.config.task)
        project.workspace.pull()
        reports = collect_answers(project, named, None if form == "by content" else form)
        project.workspace.push()
        run.say(f"{sum(report.n_new for report in reports)} new answers from {len(reports)} files")
        create_table_artifact(
            ingested_rows(reports),
            key="ingested",
            description="The files that were ingested, and what each brought.",
        )
    return reports
