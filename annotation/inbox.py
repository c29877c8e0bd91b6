"""What came back from annotators: the filled files of batches and inbox, read, and put away afterwards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from annotation.batch import DEFINITION_NAME, MANIFEST
from annotation.csv_file import read_csv, write_errors
from annotation.filled import FilledRow, RowError
from annotation.journal import read_journal
from storage.workspace import Workspace

ERRORS_SUFFIX = ".errors.csv"


@dataclass(frozen=True)
class FilledFile:
    """A file to ingest.

    Attributes:
        batch_id: The batch whose folder it lies in; empty for a file from elsewhere, whose rows name theirs.
        in_inbox: It is put away once it is ingested.
    """

    path: Path
    batch_id: str = ""
    in_inbox: bool = False


def waiting_files(workspace: Workspace, named: Sequence[Path] = ()) -> list[FilledFile]:
    """The files to ingest, in a fixed order: the named ones, or all of `batches/` and `inbox/`."""
    if named:
        return [_located(workspace, path.resolve()) for path in named]
    found = []
    for manifest in sorted(workspace.batches.glob(f"*/{MANIFEST}")):
        folder = manifest.parent
        found += [FilledFile(path, batch_id=folder.name) for path in _candidates(folder)]
    found += [FilledFile(path, in_inbox=True) for path in _candidates(workspace.inbox)]
    return found


def read_filled(file: FilledFile) -> list[FilledRow]:
    """The rows of a filled file; the format is told by its content.

    Raises:
        PalError: It is no batch file.
    """
    with file.path.open("rb") as opened:
        first = opened.read(1)
    if first == b"{":
        return [
            FilledRow(
                row=line.row,
                batch_id=line.batch_id,
                item_id=line.answer.item_id,
                label=line.answer.answer,
                text_hash=line.text_hash,
                note=line.answer.note,
                annotator=line.answer.annotator,
                seconds=line.answer.seconds,
                annotated_at=line.answer.annotated_at,
                cells={"item_id": line.answer.item_id, "label": line.answer.answer, "batch_id": line.batch_id},
            )
            for line in read_journal(file.path)
        ]
    return read_csv(file.path, batch_id=file.batch_id)


def report_errors(file: FilledFile, errors: Sequence[RowError], rejected: Path) -> Path | None:
    """Write `<file>.errors.csv` (beside the file, or in `rejected` for one of the inbox); removes an outdated one."""
    folder = rejected if file.in_inbox else file.path.parent
    path = folder / f"{file.path.name}{ERRORS_SUFFIX}"
    if not errors:
        if not file.in_inbox:
            path.unlink(missing_ok=True)
        return None
    folder.mkdir(parents=True, exist_ok=True)
    write_errors(path, errors)
    return path


def put_away(file: FilledFile, folder: Path) -> Path | None:
    """Move an ingested file of the inbox to `folder` under a free name; others stay where they are."""
    if not file.in_inbox or not file.path.exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    name, number = file.path.name, 1
    while (folder / name).exists():
        number += 1
        name = f"{file.path.stem}-{number}{file.path.suffix}"
    os.replace(file.path, folder / name)  # noqa: PTH105
    return folder / name


def _located(workspace: Workspace, path: Path) -> FilledFile:
    if path.parent == workspace.inbox.resolve():
        return FilledFile(path, in_inbox=True)
    in_batch = path.parent.parent == workspace.batches.resolve()
    return FilledFile(path, batch_id=path.parent.name if in_batch else "")


def _candidates(folder: Path) -> list[Path]:
    """Files that an annotator may have put there, by name."""
    if not folder.is_dir():
        return []
    ours = {MANIFEST, DEFINITION_NAME}
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.name not in ours
        and not path.name.startswith((".", "~"))
        and not path.name.endswith(ERRORS_SUFFIX)
    )
