"""Stage `collect`: the answers of every filled file into the lake, exactly once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefect import task

from annotation.batch import published_labels
from annotation.filled import FilledFile, FilledRow, RowError, check_rows
from annotation.inbox import put_away, read_filled, waiting_files
from annotation.label_set import LabelSet
from storage.annotations import Ingested, ingest, read_files, remember_read
from storage.batches import find_batch, items_of
from storage.errors import BatchError, PalError
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
def collect_answers(workspace: Workspace, label_set: LabelSet, files: Sequence[Path] = ()) -> list[FileReport]:
    """Ingest the named files, or everything filled in `batches/` and `inbox/`; running it again changes nothing."""
    store = workspace.store()
    seen = read_files(store)
    reports = []
    for file in waiting_files(workspace, files):
        name = workspace.name_of(file.path)
        try:
            digest = _digest(file.path, label_set)
            if not file.in_inbox and not files and seen.get(name) == digest:
                continue
            report = _collect(workspace, store, label_set, file, name)
        except FileNotFoundError as error:
            if files:
                raise BatchError(f"there is no file {file.path}.", hint="check the path: ls inbox batches") from error
            continue  # another ingest put it away meanwhile
        except OSError as error:
            reports.append(FileReport(name, errors=[f"{file.path} cannot be read or moved: {error.strerror or error}"]))
            _tell(reports[-1])
            continue
        if not file.in_inbox:
            remember_read(store, name, digest)
        _tell(report)
        reports.append(report)
    return reports


def _collect(workspace: Workspace, store: Store, label_set: LabelSet, file: FilledFile, name: str) -> FileReport:
    """One file: read, take what is good, write down what is not, put it away."""
    results: list[Ingested] = []
    completed: list[str] = []
    errors: list[RowError] = []
    unreadable = None
    try:
        for batch_id, rows in _by_batch(read_filled(file)).items():
            try:
                find_batch(store, batch_id)
            except BatchError as error:
                reason = f"{error.what} {error.hint}" if batch_id else f"the row names no batch; {error.hint}"
                errors += [RowError(row.row, "batch_id", batch_id, reason, row.cells) for row in rows]
                continue
            labels = published_labels(workspace.batches / batch_id, label_set)
            answers, refused = check_rows(rows, items_of(store, batch_id), labels)
            errors += refused
            if answers:
                result = ingest(store, batch_id, answers, name)
                results.append(result)
                completed += [batch_id] if result.complete and result.n_new else []
    except PalError as error:
        unreadable = str(error)
    folder = workspace.inbox / ("rejected" if errors or unreadable else "done")
    errors_file = put_away(file, errors, folder)
    return FileReport(
        name,
        sum(result.n_new for result in results),
        sum(result.n_known for result in results),
        [str(error) for error in errors] + ([unreadable] if unreadable else []),
        str(errors_file) if errors_file else None,
        completed,
    )


def _by_batch(rows: Sequence[FilledRow]) -> dict[str, list[FilledRow]]:
    groups: dict[str, list[FilledRow]] = {}
    for row in rows:
        groups.setdefault(row.batch_id, []).append(row)
    return groups


def _digest(path: Path, label_set: LabelSet) -> str:
    """Hash of a file and of the answers it may give: it is read again where one of them changes."""
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256("\x1f".join((content, *label_set.allowed())).encode()).hexdigest()


def _tell(report: FileReport) -> None:
    if report.n_new or report.n_known or report.errors:
        log.info("%s: %d new, %d known, %d errors", report.file, report.n_new, report.n_known, len(report.errors))
    for error in report.errors[:5]:
        log.warning("%s: %s", report.file, error)
    if report.errors_file:
        log.warning("mend the rows in %s and put that file into inbox/", report.errors_file)
    for batch_id in report.completed:
        log.info("batch %s is complete", batch_id)
