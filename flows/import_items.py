"""Flow `import-items`: texts into the pool, each once, with their features."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.engine import begin
from storage.importing import ImportReport
from tasks.import_texts import ReadOptions, import_file, import_original_directory
from tasks.prepare import make_features


@flow(name="import-items", flow_run_name="import {files}", log_prints=False)
def import_items(
    workspace: str,
    files: list[str] | None = None,
    original: str | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
) -> list[ImportReport]:
    """Import texts; importing the same file twice changes nothing.

    Args:
        workspace: The project's directory.
        files: CSV, TSV, plain text, JSON lines or Parquet.
        original: A directory of the original scripts: pool and labels.
        text_column: Name or number of the column with the text; found out where left empty.
        id_column: Name or number of the column with the ids; found out where left empty.
        encoding: Of the files; found out where left empty.
        delimiter: Of the files; found out where left empty.
    """
    project = begin(workspace)
    options = ReadOptions(text_column, id_column, encoding, delimiter)
    reports = [import_file(project.workspace, Path(file), options) for file in files or ()]
    if original:
        reports.append(import_original_directory(project.workspace, Path(original), project.config.task))
    make_features(project.workspace, project.config.model.encoder)
    return reports
