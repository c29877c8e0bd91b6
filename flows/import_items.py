"""Flow `import-items`: texts into the pool, each once, with their features."""

from __future__ import annotations

from pathlib import Path

from flows.run import Run
from storage.importing import ImportReport
from tasks.import_texts import ReadOptions, import_file, import_original_directory
from tasks.prepare import make_features


def import_items(
    run: Run,
    files: tuple[str, ...] = (),
    original: str = "",
    text_column: str = "",
    id_column: str = "",
    encoding: str = "",
    delimiter: str = "",
) -> list[ImportReport]:
    """Import texts; importing the same file twice changes nothing.

    Args:
        files: CSV, TSV, plain text, JSON lines or Parquet.
        original: A directory of the original scripts, pool and labels, in place of files.
        text_column: Name or number of the column with the text; found out where left empty.
        id_column: Name or number of the column with the ids; found out where left empty.
        encoding: Of the files; found out where left empty.
        delimiter: Of the files; found out where left empty.
    """
    project = run.project
    options = ReadOptions(text_column or None, id_column or None, encoding or None, delimiter or None)
    reports = [run.stage(import_file.fn, project.workspace, project.workspace.root / file, options) for file in files]
    if original:
        reports.append(
            import_original_directory(project.workspace, project.workspace.root / original, project.config.task)
        )
    run.rename("import " + ", ".join(Path(file).name for file in files))
    run.stage(make_features.fn, project.workspace, project.config.model.encoder)
    return reports
