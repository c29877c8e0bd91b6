"""What came back from annotators: the filled files of batches and inbox, read, and put away afterwards."""

from __future__ import annotations

import codecs
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from annotation.batch import DEFINITION_NAME, published_labels
from annotation.csv_file import as_unicode, read_csv, write_errors
from annotation.filled import FilledFile, FilledRow, RowError, check_rows
from annotation.journal import JournalLine, read_journal
from annotation.label_set import LabelSet
from storage.annotations import not_ingested
from storage.batches import items_of
from storage.errors import PalError
from storage.folders import MANIFEST
from storage.workspace import Workspace

ERRORS_SUFFIX = ".errors.csv"


def waiting_files(workspace: Workspace, named: Sequence[Path] = ()) -> list[FilledFile]:
    """The files to ingest, in a fixed order: the named ones, or all of `batches/` and `inbox/`."""
    if named:
        return [_located(workspace, path.resolve()) for path in named]
    found = []
    for manifest in sorted(workspace.batches.glob(f"*/{MANIFEST}")):
        folder = manifest.parent
        if not folder.name.startswith("."):  # one that is being written, or was when its process was killed
            mine = [path for path in _candidates(folder) if not path.name.endswith(ERRORS_SUFFIX)]
            found += [FilledFile(path, batch_id=folder.name) for path in mine]
    found += [FilledFile(path, in_inbox=True) for path in _candidates(workspace.inbox)]
    return found


def read_filled(file: FilledFile) -> list[FilledRow]:
    """The rows of a filled file; the format is told by its content.

    Raises:
        PalError: It is no batch file.
        OSError: It cannot be read.
    """
    with file.path.open("rb") as opened:
        head = opened.read(64).removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith(b"{") or (not head and file.path.suffix == ".jsonl"):  # opened, and left without an answer
        return [_journal_row(line) for line in read_journal(file.path)]
    return read_csv(file.path, batch_id=file.batch_id)


def waiting_answers(workspace: Workspace, batch_id: str, label_set: LabelSet) -> dict[str, str]:
    """Answers in the files of a batch that an ingest would append: item_id -> answer. What is faulty is left out."""
    store, folder = workspace.store(), workspace.batches / batch_id
    items, labels = items_of(store, batch_id), published_labels(folder, label_set)
    waiting: dict[str, str] = {}
    for file in waiting_files(workspace):
        if file.batch_id != batch_id:
            continue
        try:
            answers, _ = check_rows(read_filled(file), items, labels)
        except (PalError, OSError):
            continue  # `pal ingest` says what is wrong with it
        new = not_ingested(store, batch_id, answers, workspace.name_of(file.path))
        waiting.update({each.item_id: each.answer for each in new})
    return waiting


def put_away(file: FilledFile, errors: Sequence[RowError], folder: Path) -> Path | None:
    """Write `<file>.errors.csv` where there are errors, and return it; move a file of the inbox to `folder`.

    In `folder` both get a name that is free. A file from elsewhere stays, with its errors beside it; once it has none,
    an outdated list of errors is removed.
    """
    place = _free_place(folder, file.path) if file.in_inbox else file.path
    listed = place.with_name(f"{place.name}{ERRORS_SUFFIX}")
    if errors:
        write_errors(listed, errors)
    elif not file.in_inbox:
        listed.unlink(missing_ok=True)
    if file.in_inbox:
        try:
            os.replace(file.path, place)  # noqa: PTH105
        except FileNotFoundError:  # another ingest was faster, and reported the same
            place.unlink()
            listed.unlink(missing_ok=True)
            return None
    return listed if errors else None


def _free_place(folder: Path, path: Path) -> Path:
    """A new empty file in `folder`, named as `path` or with a number: two ingests never get the same."""
    folder.mkdir(parents=True, exist_ok=True)
    place, number = folder / path.name, 1
    while True:
        if not place.with_name(f"{place.name}{ERRORS_SUFFIX}").exists():
            with contextlib.suppress(FileExistsError):
                place.open("xb").close()
                return place
        number += 1
        place = folder / f"{path.stem}-{number}{path.suffix}"


def _journal_row(line: JournalLine) -> FilledRow:
    answer = line.answer
    cells = {
        "label": answer.answer,
        "note": answer.note,
        "annotator": answer.annotator,
        "item_id": answer.item_id,
        "batch_id": line.batch_id,
        "text_hash": line.text_hash,
    }
    cells = {name: as_unicode(cell) for name, cell in cells.items()}
    return FilledRow(**cells, row=line.row, seconds=answer.seconds, annotated_at=answer.annotated_at, cells=cells)


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
        if path.is_file() and path.name not in ours and not path.name.startswith((".", "~"))
    )
