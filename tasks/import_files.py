"""Stages `import_file` and `import_original_directory`: import texts into the lake."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from annotation.label_set import AnswerError, LabelSet
from storage.errors import SourceError
from storage.lake.codebook import codebook_of
from storage.lake.importing import FileLabels, ImportReport, import_original, import_source
from storage.readers.columns import ColumnRequest
from storage.readers.opening import open_columns
from storage.readers.source import Source
from storage.readers.spellings import folded_label, without_list
from storage.records import Split
from storage.workspace import Workspace
from tasks.project import Project
from tasks.reporting.progress import progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReadOptions:
    """How to read files; empty options are detected.

    Attributes:
        text_columns: Name or number of the column with the text; several are joined.
        id_column: Name or number of the column with the ids.
        encoding: Encoding of the files.
        delimiter: One character, or `tab`.
        context: Names or numbers of columns to keep beside the text; if empty all others, `none` for none.
        label_column: Name or number of a column with labels to import; if empty, no labels are imported.
        split: The split of the labeled items.
    """

    text_columns: tuple[str, ...] = ()
    id_column: str = ""
    encoding: str = ""
    delimiter: str = ""
    context: tuple[str, ...] = ()
    label_column: str = ""
    split: Literal["training", "validation", "evaluation"] = "training"


DETECT = ReadOptions()
"""Detect everything."""


def import_file(project: Project, path: Path, options: ReadOptions) -> ImportReport:
    """Import the texts of one file; importing it again changes nothing."""
    workspace, source = project.workspace, open_file(path, options)
    labels = file_labels(project, options.split) if options.label_column else None
    with workspace.scratch() as scratch, progress(f"import {path.name}", source.size_bytes) as advance:
        report = import_source(project.store, source, scratch, _rejects_file(workspace, path), advance, labels)
    log.info("%s: %s", report.source, report.description)
    return report


def import_original_directory(project: Project, directory: Path) -> ImportReport:
    """Import a directory of the original scripts: pool and labels; importing it again changes nothing."""
    workspace, label_set = project.workspace, project.label_set
    labels = original_labels(label_set)
    size = sum(path.stat().st_size for path in directory.glob("unlabeled_data/*.csv"))
    with workspace.scratch() as scratch, progress(f"import {directory.name}", size) as advance:
        report = import_original(
            project.store,
            directory,
            (labels, label_set.digest),
            scratch,
            _rejects_file(workspace, directory),
            advance,
        )
    log.info("%s: %s", report.source, report.description)
    return report


def file_labels(project: Project, split: str) -> FileLabels:
    """Interpret labels in a file as in a batch file: by name or key, in any case and spacing.

    Renamed and merged labels are mapped to the new ones.
    """
    codebook, label_set = codebook_of(project.store), project.label_set
    removed = {
        row.label: row for change in codebook.changes if change.label for row in codebook.last_of(change.label)[:1]
    }
    also = ((name, codebook.became(name, row.codebook - 1)) for name, row in removed.items() if name)
    label_set = dataclasses.replace(label_set, also=tuple((name, new) for name, new in also if new))
    kinds = {folded_label(name): row.kind for name, row in removed.items() if name}

    def answer(label: str) -> str | None:
        try:
            return label_set.answer(without_list(label))
        except AnswerError as error:
            names = ", ".join(label_set.allowed()[:20])
            hint = f"Add it to the labels of pal.toml, make it the key of a label, or use one of these: {names}."
            if kind := kinds.get(folded_label(without_list(label))):
                hint = f"The label was removed by a label change ({kind}). Use one of {names}, or leave the cell empty."
            raise SourceError(error.what, hint=hint) from error

    return FileLabels(Split(split), answer, label_set.digest)


def original_labels(label_set: LabelSet) -> dict[str, str]:
    """The original's labels "1" and "0" -> label names.

    Raises:
        SourceError: No label has one of these keys.
    """
    try:
        return {digit: label_set.answer(digit) or "" for digit in ("1", "0")}
    except AnswerError as error:
        raise SourceError(
            f"The labels of the original scripts are 1 and 0, and pal.toml lacks one of them: {error.what}",
            hint='Give two labels the keys "1" and "0", or use the preset: pal init DIR --preset chapter-2',
        ) from error


def open_file(path: Path, options: ReadOptions) -> Source:
    """Open a file of texts and find its columns, without reading it all.

    Raises:
        SourceError: There is no such file, it cannot be read, or its text column cannot be found.
    """
    context = () if options.context == ("none",) else options.context or None
    request = ColumnRequest(options.text_columns, options.id_column or None, options.label_column or None, context)
    return open_columns(path, request, options.encoding or None, options.delimiter or None)


def _rejects_file(workspace: Workspace, path: Path) -> Path:
    """The file of rejected rows, distinct for each path."""
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:6]
    return workspace.reports / f"import-{path.name}-{digest}.rejects.csv"
