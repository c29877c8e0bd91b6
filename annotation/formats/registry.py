"""The formats of batch files: their file names, writers and readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from annotation.checks import FilledRow
from annotation.label_set import Handout, safe_name
from storage.errors import BatchError
from storage.files.folders import MANIFEST

DEFINITION_NAME = "definition.txt"


@dataclass(frozen=True)
class Format:
    """A format of batch files.

    Attributes:
        name: As in `[batch] formats` and `--format`.
        file: Stem and suffix of its files.
        module: The module that writes and reads it, imported on use.
        writer: Name of its function `(path, handout)`.
        reader: Name of its function `(path, *, batch_id)`.
        description: One line for people.
        setup: Name of a configuration file for the tool, and of the function that makes its text from a handout.
    """

    name: str
    file: tuple[str, str]
    module: str
    writer: str
    reader: str
    description: str
    setup: tuple[str, str] | None = None

    def path(self, folder: Path, annotator: str = "") -> Path:
        """Path of an annotator's file; without a name, of the shared file."""
        stem, suffix = self.file
        return folder / f"{stem}{'-' + safe_name(annotator) if annotator else ''}{suffix}"

    def write(self, path: Path, handout: Handout) -> None:
        """Write the file to fill in, and the tool's configuration beside it."""
        self._function(self.writer)(path, handout)
        if self.setup:
            file, function = self.setup
            path.with_name(file).write_text(self._function(function)(handout), encoding="utf-8", newline="\n")

    def read(self, path: Path, batch_id: str, **more: Any) -> list[FilledRow]:
        """Read every row of a filled file.

        Args:
            batch_id: The default for rows that name no batch.

        Raises:
            PalError: The file is not in this format.
            OSError: The file cannot be read.
        """
        rows: list[FilledRow] = self._function(self.reader)(path, batch_id=batch_id, **more)
        return rows

    def _function(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module(self.module), name)
        return function


CSV = Format("csv", ("batch", ".csv"), "annotation.formats.csv_file", "write_csv", "read_csv", "for any spreadsheet")
XLSX = Format(
    "xlsx",
    ("batch", ".xlsx"),
    "annotation.formats.workbook",
    "write_workbook",
    "read_workbook",
    "a workbook with a drop-down of answers",
)
HTML = Format(
    "html",
    ("batch", ".html"),
    "annotation.formats.web_page",
    "write_web_page",
    "read_answers",
    "a page for any browser; it saves a file of answers",
)
LABEL_STUDIO = Format(
    "label-studio",
    ("label-studio", ".json"),
    "annotation.formats.label_studio",
    "write_label_studio",
    "read_label_studio",
    "Label Studio tasks, and the labeling interface",
    ("label-studio-config.xml", "label_studio_config"),
)
ARGILLA = Format(
    "argilla",
    ("argilla", ".json"),
    "annotation.formats.argilla",
    "write_argilla",
    "read_argilla",
    "Argilla 2 records, and the dataset settings",
    ("argilla-settings.json", "argilla_settings"),
)
DOCCANO = Format(
    "doccano",
    ("doccano", ".jsonl"),
    "annotation.formats.doccano",
    "write_doccano",
    "read_doccano",
    "doccano texts, and the labels",
    ("doccano-labels.json", "doccano_labels"),
)
PRODIGY = Format(
    "prodigy",
    ("prodigy", ".jsonl"),
    "annotation.formats.prodigy",
    "write_prodigy",
    "read_prodigy",
    "Prodigy tasks for the interface `choice`",
)
ORIGINAL = Format(
    "original",
    ("original", ".csv"),
    "annotation.formats.original_rows",
    "write_original",
    "read_original",
    "the five columns of the original scripts",
)
FORMATS = {form.name: form for form in (CSV, XLSX, HTML, LABEL_STUDIO, ARGILLA, DOCCANO, PRODIGY, ORIGINAL)}
"""All formats by name."""

SETUP_FILES = frozenset(form.setup[0] for form in FORMATS.values() if form.setup)
"""Names of configuration files for tools."""


def find_formats(names: Iterable[str]) -> list[Format]:
    """Look up formats by name.

    Raises:
        BatchError: There is no format of one of the names.
    """
    formats = []
    for name in names:
        if name not in FORMATS:
            near = get_close_matches(name, FORMATS, n=1)
            hint = f"Did you mean {near[0]!r}? Otherwise use one of: " if near else "Use one of: "
            raise BatchError(f"There is no format {name!r}.", hint=f"{hint}{', '.join(FORMATS)}.")
        formats.append(FORMATS[name])
    return formats


HALF_COPIED = (".part", ".crdownload", ".tmp", ".download")
"""Suffixes of files that a program is still writing."""


def is_for_answers(name: str) -> bool:
    """Whether a file of this name may contain answers: not a batch's own metadata, hidden or half-copied."""
    hidden = name.startswith((".", "~")) or name.endswith(HALF_COPIED)
    return not hidden and name not in {MANIFEST, DEFINITION_NAME, *SETUP_FILES}
