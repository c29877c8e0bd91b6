"""Flow `import-items`: import texts into the pool, each text once, and compute their features."""

from __future__ import annotations

from pathlib import Path

from flows.run import Run
from storage.errors import SourceError
from storage.lake.importing import ImportReport
from tasks.import_files import DETECT, ReadOptions, import_file, import_original_directory, open_file, original_labels
from tasks.prepare import make_features
from tasks.project import Project, refuse_lost_labels


def import_items(
    run: Run, files: tuple[str, ...] = (), original: str = "", options: ReadOptions = DETECT
) -> list[ImportReport]:
    """Import texts; importing the same file twice changes nothing.

    Args:
        files: CSV, TSV, plain text, Excel workbooks, JSON or Parquet.
        original: A directory of the original scripts with pool and labels, instead of files.
        options: How to read the files; empty options are detected.
    """
    project = run.project
    paths = [project.workspace.root / file for file in files]
    run.rename(f"import {', '.join(path.name for path in paths) or Path(original).name}")
    check_import(project, paths, original, options)
    reports = [run.stage(import_file, project, path, options) for path in paths]
    if original:
        reports.append(run.stage(import_original_directory, project, project.workspace.root / original))
    run.stage(make_features, project)
    run.share(*(Path(report.rejects_file) for report in reports if report.rejects_file))
    return reports


def check_import(project: Project, paths: list[Path], original: str, options: ReadOptions) -> None:
    """Check that there is something to import and that its columns can be found, before anything starts.

    Raises:
        SourceError: A file is missing or cannot be read, or its text column cannot be found.
    """
    if not paths and not original:
        raise SourceError(
            "Nothing to import.", hint="Name files (pal import texts.csv) or use pal import --original DIR"
        )
    if original or options.label_column:
        refuse_lost_labels(project)
    for path in paths:
        open_file(path, options)
    if original:
        if not (project.workspace.root / original).is_dir():
            raise SourceError(f"Directory {original} does not exist.", hint="Check the path: pal import --original DIR")
        original_labels(project.label_set)
