"""Flow `ingest`: filled batch files into the lake, exactly once."""

from __future__ import annotations

from pathlib import Path

from annotation.claims import CLAIMED
from flows.log_lines import counted
from flows.run import KnownFormat, Run, Table
from storage.errors import BatchError
from tasks.collect import FileReport, collect_answers, files_to_collect, ingested_rows
from tasks.project import Project, refuse_lost_labels
from tasks.sample import lacks_files, publish_batches


def ingest(
    run: Run, files: tuple[str, ...] = (), form: KnownFormat = "by content", again: bool = False
) -> list[FileReport]:
    """Ingest what annotators filled in; bad rows are listed, the good ones of the same file are taken.

    Args:
        files: Files to ingest; none for everything in `batches/` and `inbox/`.
        form: The format of these files.
        again: Take the files as later answers, even if the same bytes were ingested before.
    """
    project = run.project
    paths = [project.workspace.root / file for file in files]
    run.rename(f"ingest {', '.join(path.name for path in paths)}".strip())
    run.stage(publish_batches, project)
    reports = run.stage(collect_answers, project, paths, None if form == "by content" else form, again=again)
    n_new = sum(report.n_new for report in reports)
    run.say(f"Ingested {counted(n_new, 'new answer')} from {counted(len(reports), 'file')}.")
    run.complete_work()
    run.show(Table("ingested", "The files that were ingested, and what each brought.", ingested_rows(reports)))
    return reports


def check_ingest(project: Project, paths: list[Path]) -> bool:
    """Whether there is anything to ingest.

    Raises:
        BatchError: A named file is missing.
        ConfigError: pal.toml lacks a label that items have.
    """
    refuse_lost_labels(project)
    for path in paths:
        if not path.is_file() and not (path.parent / CLAIMED / path.name).is_file():
            raise BatchError(f"There is no file {path}.", hint="check the path: ls inbox batches")
    is_shared = bool(project.workspace.files)  # other machines' files are not here yet
    return bool(is_shared or paths or files_to_collect(project) or lacks_files(project))
