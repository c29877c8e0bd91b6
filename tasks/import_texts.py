"""Stage `import`: files of texts into the lake."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from prefect import task

from annotation.label_set import AnswerError, LabelSet
from annotation.progress import progress
from storage.errors import SourceError
from storage.importing import ImportReport, import_original, import_source
from storage.sources.opening import open_source
from storage.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadOptions:
    """How to read files whose layout cannot be told; None to find it out."""

    text_column: str | None = None
    id_column: str | None = None
    encoding: str | None = None
    delimiter: str | None = None


@task(task_run_name="import {path}")
def import_file(workspace: Workspace, path: Path, options: ReadOptions) -> ImportReport:
    """Take the texts of one file; taking it again changes nothing."""
    source = open_source(
        path,
        text_column=options.text_column,
        id_column=options.id_column,
        encoding=options.encoding,
        delimiter=options.delimiter,
    )
    with workspace.scratch() as scratch, progress(f"import {path.name}", source.size_bytes) as advance:
        report = import_source(workspace.store(), source, scratch, _rejects_file(workspace, path), advance)
    _tell(workspace, report)
    return report


@task(task_run_name="import original {directory}")
def import_original_directory(workspace: Workspace, directory: Path, label_set: LabelSet) -> ImportReport:
    """Take a directory of the original scripts: pool and labels; taking it again changes nothing."""
    try:
        labels = {digit: label_set.answer(digit) or "" for digit in ("1", "0")}
    except AnswerError as error:
        raise SourceError(
            f"the original's labels are 1 and 0, and pal.toml has no label for one of them: {error.what}",
            hint='give two labels the keys "1" and "0", or start from its preset: pal init DIR --preset chapter-2',
        ) from error
    size = sum(path.stat().st_size for path in directory.glob("unlabeled_data/*.csv"))
    with workspace.scratch() as scratch, progress(f"import {directory.name}", size) as advance:
        report = import_original(
            workspace.store(),
            directory,
            labels,
            label_set.digest,
            scratch,
            _rejects_file(workspace, directory),
            advance,
        )
    _tell(workspace, report)
    return report


def _tell(workspace: Workspace, report: ImportReport) -> None:
    if report.rejects_file:
        workspace.share(Path(report.rejects_file))
    log.info("%s: %s", report.source, report.description)
    log.info(
        "%s rows: %s new items, %s duplicates, %s rejected%s",
        f"{report.n_rows:,}",
        f"{report.n_new:,}",
        f"{report.n_duplicates:,}",
        f"{report.n_rejected:,}",
        f" (see {report.rejects_file})" if report.rejects_file else "",
    )
    for note in report.notes:
        log.info("%s", note)
    if report.labels:
        log.info("labels: %s", ", ".join(f"{n:,} {split}" for split, n in report.labels.items()))


def _rejects_file(workspace: Workspace, path: Path) -> Path:
    """One for each path: files of the same name in other folders have their own."""
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:6]
    return workspace.reports / f"import-{path.name}-{digest}.rejects.csv"
