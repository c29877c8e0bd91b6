"""Stage `collect`: the answers of every filled file into the lake, exactly once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotation.batch import sha256_of
from annotation.checks import FilledFile
from annotation.inbox import BatchChecks, CheckedFile, check_file, put_away, settled_files, waiting_files
from annotation.label_set import LabelSet
from storage.errors import BatchError
from storage.lake.annotations import FileAnswers, Ingested, ingest_files, read_files
from storage.workspace import Workspace
from tasks.project import Project

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileReport:
    """What one file brought.

    Attributes:
        n_new: Annotations that were not in the lake.
        n_known: Answers that were.
        errors: Rows that were not taken, in words; they are listed in `errors_file`.
        completed: Batches that it completed.
    """

    file: str
    n_new: int = 0
    n_known: int = 0
    errors: list[str] = field(default_factory=list)
    errors_file: str | None = None
    completed: list[str] = field(default_factory=list)


def collect_answers(project: Project, files: Sequence[Path] = (), form: str | None = None) -> list[FileReport]:
    """Ingest the named files, or everything filled in `batches/` and `inbox/`; running it again changes nothing.

    All files are read, then what is new goes into the lake in one commit, then the files are put away: killed at any
    point, the next run takes what is missing. A file of the inbox that is being written while this looks is left for
    the next time.

    Args:
        files: Paths; none for everything.
        form: The format of the named files; told by their content where that is None.

    Raises:
        BatchError: A named file is not there; nothing is taken from the others either.
    """
    workspace = project.workspace
    with workspace.store().reading():
        arrivals = _arrivals(project, files, form)
    for arrival in arrivals:
        if (
            not arrival.file.in_inbox and not arrival.fault
        ):  # it stays, and once it counts as read nobody looks at its errors again
            arrival.put_away(workspace)
    answers = [
        FileAnswers(arrival.name, batch_id, given)
        for arrival in arrivals
        for batch_id, given in arrival.content.answers.items()
    ]
    read = {arrival.name: arrival.digest for arrival in arrivals if arrival.digest and not arrival.fault}
    results = iter(ingest_files(workspace.store(), answers, read))
    reports = []
    for arrival in arrivals:
        brought = {batch_id: next(results) for batch_id in arrival.content.answers}
        if arrival.file.in_inbox and not arrival.fault:
            arrival.put_away(workspace)
        reports.append(arrival.report(brought))
        _tell(reports[-1])
    return reports


def files_to_collect(project: Project) -> list[FilledFile]:
    """The files of `batches/` and `inbox/` that were filled in and not read as they are now."""
    workspace = project.workspace
    waiting = waiting_files(workspace)
    seen = read_files(workspace.store()) if waiting else {}
    return [file for file in waiting if file.in_inbox or not _is_read(file, workspace, project.label_set, seen)]


def _is_read(file: FilledFile, workspace: Workspace, label_set: LabelSet, seen: Mapping[str, str]) -> bool:
    try:
        return seen.get(workspace.name_of(file.path)) == _digest(file.path, label_set)
    except OSError:
        return False  # the ingest says what is wrong with it


def ingested_rows(reports: Sequence[FileReport]) -> list[dict[str, Any]]:
    """What each file brought, as the rows of a table."""
    return [
        {
            "file": report.file,
            "new answers": report.n_new,
            "known": report.n_known,
            "errors": "; ".join(report.errors),
            "batches completed": ", ".join(report.completed),
        }
        for report in reports
    ]


@dataclass
class _Arrival:
    """A file on its way into the lake.

    Attributes:
        name: As the lake names it.
        digest: What is to be remembered of it once it is read; empty where nothing is, or where the lake has it.
        fault: Why it cannot be read or put away; empty where nothing is wrong.
        errors_file: The list of its faulty rows, once that is written.
    """

    file: FilledFile
    name: str
    digest: str = ""
    content: CheckedFile = field(default_factory=CheckedFile)
    fault: str = ""
    errors_file: Path | None = None

    def refuse(self, error: OSError) -> None:
        """Say why it cannot be read or put away."""
        self.fault = f"{self.file.path} cannot be read or moved: {error.strerror or error}"

    def put_away(self, workspace: Workspace) -> None:
        """Move it out of the inbox, and list its errors beside it."""
        folder = workspace.inbox / ("rejected" if self.content.errors or self.content.unreadable else "done")
        try:
            self.errors_file = put_away(self.file, self.content.errors, folder)
        except OSError as error:
            self.refuse(error)

    def report(self, brought: Mapping[str, Ingested]) -> FileReport:
        """What it brought to each batch."""
        errors = [*map(str, self.content.errors), *self.content.unreadable, *filter(None, [self.fault])]
        return FileReport(
            self.name,
            sum(result.n_new for result in brought.values()),
            sum(result.n_known for result in brought.values()),
            errors,
            str(self.errors_file) if self.errors_file else None,
            [batch_id for batch_id, result in brought.items() if result.complete and result.n_new],
        )


def _arrivals(project: Project, files: Sequence[Path], form: str | None) -> list[_Arrival]:
    """Every file to ingest, read and checked, in order; without those that were read before as they are now."""
    workspace, label_set = project.workspace, project.label_set
    checks = BatchChecks(workspace, label_set)
    seen = read_files(checks.store)
    waiting = waiting_files(workspace, files)
    settled = waiting if files else settled_files(waiting)
    for file in waiting:
        if file not in settled:
            log.warning("%s is still being written; it will be ingested on the next run.", workspace.name_of(file.path))
    arrivals = []
    for file in settled:
        arrival = _Arrival(file, workspace.name_of(file.path))
        try:
            if not file.in_inbox:
                digest = _digest(file.path, label_set)
                if seen.get(arrival.name) != digest:
                    arrival.digest = digest
                elif not files:
                    continue
            arrival.content = check_file(checks, file, form)
        except FileNotFoundError as error:
            if files:
                raise BatchError(f"there is no file {file.path}.", hint="check the path: ls inbox batches") from error
            continue  # another ingest put it away meanwhile
        except OSError as error:
            arrival.refuse(error)
        arrivals.append(arrival)
    return arrivals


def _digest(path: Path, label_set: LabelSet) -> str:
    """Hash of a file and of the answers it may give: it is read again where one of them changes."""
    return hashlib.sha256("\x1f".join((sha256_of(path), *label_set.allowed())).encode()).hexdigest()


def _tell(report: FileReport) -> None:
    if report.n_new or report.n_known or report.errors:
        log.info("%s: %d new, %d known, %d errors", report.file, report.n_new, report.n_known, len(report.errors))
    for error in report.errors[:5]:
        log.warning("%s: %s", report.file, error)
    if report.errors_file:
        log.warning("Fix the rows in %s and put that file into inbox/.", report.errors_file)
    for batch_id in report.completed:
        log.info("batch %s is complete", batch_id)
