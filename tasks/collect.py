"""Stage `collect`: the answers of every filled file into the lake, exactly once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact

from annotation.batch import sha256_of
from annotation.filled import FilledFile
from annotation.inbox import put_away, settled_files, waiting_files
from annotation.label_set import LabelSet
from annotation.submission import check_file
from storage.annotations import ingest, read_files, remember_read
from storage.errors import BatchError
from storage.store import Store
from storage.workspace import Workspace

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


@task
def collect_answers(
    workspace: Workspace, label_set: LabelSet, files: Sequence[Path] = (), form: str | None = None
) -> list[FileReport]:
    """Ingest the named files, or everything filled in `batches/` and `inbox/`; running it again changes nothing.

    A file of the inbox that is being written while this looks is left for the next time.

    Args:
        form: The format of the named files; told by their content where that is None.
    """
    workspace.pull()
    store = workspace.store()
    seen = read_files(store)
    waiting = waiting_files(workspace, files)
    settled = waiting if files else settled_files(waiting)
    for file in waiting:
        if file not in settled:
            log.warning("%s is still being written; it is taken the next time", workspace.name_of(file.path))
    reports = []
    for file in settled:
        name = workspace.name_of(file.path)
        again = not file.in_inbox and not files
        try:
            digest = None if file.in_inbox else _digest(file.path, label_set)
            if again and seen.get(name) == digest:
                continue
            report = _collect(workspace, store, label_set, file, name, form)
        except FileNotFoundError as error:
            if files:
                raise BatchError(f"there is no file {file.path}.", hint="check the path: ls inbox batches") from error
            continue  # another ingest put it away meanwhile
        except OSError as error:
            reports.append(FileReport(name, errors=[f"{file.path} cannot be read or moved: {error.strerror or error}"]))
            _tell(reports[-1])
            continue
        if digest:
            remember_read(store, name, digest)
        _tell(report)
        reports.append(report)
    workspace.push()
    return reports


def show_reports(reports: Sequence[FileReport]) -> None:
    """What each file brought, as an artifact of the flow run that is going on."""
    rows = [
        {
            "file": report.file,
            "new answers": report.n_new,
            "known": report.n_known,
            "errors": "; ".join(report.errors),
            "batches completed": ", ".join(report.completed),
        }
        for report in reports
    ]
    create_table_artifact(rows, key="ingested", description="The files that were ingested, and what each brought.")


def _collect(
    workspace: Workspace, store: Store, label_set: LabelSet, file: FilledFile, name: str, form: str | None
) -> FileReport:
    """One file: read, take what is good, write down what is not, put it away."""
    found = check_file(workspace, label_set, file, form)
    results = {batch_id: ingest(store, batch_id, answers, name) for batch_id, answers in found.answers.items()}
    folder = workspace.inbox / ("rejected" if found.errors or found.unreadable else "done")
    errors_file = put_away(file, found.errors, folder)
    return FileReport(
        name,
        sum(result.n_new for result in results.values()),
        sum(result.n_known for result in results.values()),
        [str(error) for error in found.errors] + found.unreadable,
        str(errors_file) if errors_file else None,
        [batch_id for batch_id, result in results.items() if result.complete and result.n_new],
    )


def _digest(path: Path, label_set: LabelSet) -> str:
    """Hash of a file and of the answers it may give: it is read again where one of them changes."""
    return hashlib.sha256("\x1f".join((sha256_of(path), *label_set.allowed())).encode()).hexdigest()


def _tell(report: FileReport) -> None:
    if report.n_new or report.n_known or report.errors:
        log.info("%s: %d new, %d known, %d errors", report.file, report.n_new, report.n_known, len(report.errors))
    for error in report.errors[:5]:
        log.warning("%s: %s", report.file, error)
    if report.errors_file:
        log.warning("mend the rows in %s and put that file into inbox/", report.errors_file)
    for batch_id in report.completed:
        log.info("batch %s is complete", batch_id)
