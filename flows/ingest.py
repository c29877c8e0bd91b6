"""Flow `ingest`: read filled batch files into the lake, exactly once."""

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
    """Ingest filled batch files; invalid rows are listed, the valid rows of the same file are ingested.

    Args:
        files: Files to ingest; none for everything in `batches/` and `inbox/`.
        form: The format of these files.
        again: Ingest the files as later answers, even if the same bytes were ingested before.
    """
    project = run.project
    paths = [project.workspace.root / file for file in files]
    run.rename(f"ingest {', '.join(path.name for path in paths)}".strip())
    run.stage(publish_batches, project)
    reports = run.stage(collect_answers, project, paths, None if form == "by content" else form, again=again)
    n_new = sum(report.n_new for report in reports)
    run.say(f"Ingested {counted(n_new, 'new answer')} from {counted(len(reports), 'file')}.")
    run.complete_work()
    run.show(
        lambda: [Table("ingested", "The ingested files, and the number of answers from each.", ingested_rows(reports))]
    )
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
            raise BatchError(f"File {path} does not exist.", hint="Check the path: ls inbox batches")
    is_shared = bool(project.workspace.files)  # files of other machines have not been downloaded yet
    return bool(is_shared or paths or files_to_collect(project) or lacks_files(project))
