"""The formats in which a batch goes out and comes back: the names of their files, who writes and who reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from annotation.checks import FilledRow
from annotation.handout import Handout, safe_name
from storage.errors import BatchError
from storage.files.folders import MANIFEST

DEFINITION_NAME = "definition.txt"


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: As in `[batch] formats` and `--format`.
        file: Name of its file, without and with the suffix.
        module: Which writes and reads it; imported only then.
        writer: Its function `(path, handout)`.
        reader: Its function `(path, *, batch_id)`.
        description: In a line, for people.
        setup: A file beside it that sets the tool up, and the function that gives its text for a handout.
    """

    name: str
    file: tuple[str, str]
    module: str
    writer: str
    reader: str
    description: str
    setup: tuple[str, str] | None = None

    def path(self, folder: Path, annotator: str = "") -> Path:
        """Where an annotator's file lies; the shared one's place without a name."""
        stem, suffix = self.file
        return folder / f"{stem}{'-' + safe_name(annotator) if annotator else ''}{suffix}"

    def write(self, path: Path, handout: Handout) -> None:
        """Write the file to fill in, and what sets the tool up beside it."""
        self._function(self.writer)(path, handout)
        if self.setup:
            file, function = self.setup
            path.with_name(file).write_text(self._function(function)(handout), encoding="utf-8", newline="\n")

    def read(self, path: Path, batch_id: str, **more: Any) -> list[FilledRow]:
        """Every row of a filled file.

        Args:
            batch_id: Of rows that name none.

        Raises:
            PalError: It is no file of this format.
            OSError: It cannot be read.
        """
        rows: list[FilledRow] = self._function(self.reader)(path, batch_id=batch_id, **more)
        return rows

    def _function(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(import_module(self.module), name)
        return found


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
    "Label Studio tasks, and the labelling interface",
    ("label-studio-config.xml", "label_studio_config"),
)
ARGILLA = Format(
    "argilla",
    ("argilla", ".json"),
    "annotation.formats.argilla",
    "write_argilla",
    "read_argilla",
    "Argilla 2 records, and the dataset's settings",
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
    "Prodigy tasks of the interface `choice`",
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
"""Every format by its name."""

SETUP_FILES = frozenset(form.setup[0] for form in FORMATS.values() if form.setup)
"""Files beside those to fill in that set a tool up."""


def find_formats(names: Iterable[str]) -> list[Format]:
    """The formats of these names.

    Raises:
        BatchError: There is none of one of them.
    """
    found = []
    for name in names:
        if name not in FORMATS:
            near = get_close_matches(name, FORMATS, n=1)
            hint = f"did you mean {near[0]!r}? Otherwise one of: " if near else "choose from: "
            raise BatchError(f"there is no format {name!r}.", hint=f"{hint}{', '.join(FORMATS)}.")
        found.append(FORMATS[name])
    return found


HALF_COPIED = (".part", ".crdownload", ".tmp", ".download")
"""How the names of files end that a program is still writing."""


def is_for_answers(name: str) -> bool:
    """Whether a file of that name may hold answers: it is none that goes with a batch, nor hidden, nor half copied."""
    hidden = name.startswith((".", "~")) or name.endswith(HALF_COPIED)
    return not hidden and name not in {MANIFEST, DEFINITION_NAME, *SETUP_FILES}
