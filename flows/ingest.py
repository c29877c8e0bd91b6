"""Flow `ingest`: filled batch files into the lake, exactly once."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.engine import begin
from tasks.collect import FileReport, collect_answers
from tasks.publish import publish_batches


@flow(name="ingest", flow_run_name="ingest")
def ingest(workspace: str, files: list[str] | None = None, form: str | None = None) -> list[FileReport]:
    """Ingest what annotators filled in; bad rows are listed, the good ones of the same file are taken.

    Args:
        workspace: The project's directory.
        files: Files to ingest; everything in `batches/` and `inbox/` where left empty.
        form: The format of these files; told by their content where left empty.
    """
    project = begin(workspace)
    publish_batches(project.workspace, project.config.task)
    return collect_answers(project.workspace, project.config.task, [Path(file) for file in files or ()], form)
