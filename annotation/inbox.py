"""Filled files in batch folders and the inbox: find, check and move them; also the check before `pal submit`."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from annotation.batch import as_published, batch_files, published_labels, read_manifest, sha256_of
from annotation.checks import FilledFile, FilledRow, ItemNames, RowError, check_rows, is_plausible, readable_name
from annotation.claims import PUT_AWAY, claimed_files, take_free_name
from annotation.formats.registry import HALF_COPIED, is_for_answers
from annotation.label_set import LabelSet, label_set_of
from storage.errors import BatchError, PalError
from storage.files.folders import MANIFEST, to_disk
from storage.lake.annotations import FileAnswers, annotator_spellings, ingested_hashes, not_ingested
from storage.lake.batches import batches_of_items, find_batch, items_of, published_batches
from storage.lake.codebook import codebook_of
from storage.lake.history import answers_to_earlier_texts, earlier_texts, erased_hashes
from storage.lake.schema import workspace_id
from storage.lake.store import Store
from storage.readers.sheets import WorkbookReader
from storage.readers.spellings import folded, text_hash
from storage.records import Answer
from storage.workspace import Workspace

ERRORS_SUFFIX = ".errors.csv"
SETTLE_S = 1.0
"""How long a recently changed file of the inbox is watched; if it changes meanwhile, it is left for the next run."""
FRESH_S = 10.0
LONGEST_NAME = 255
"""In bytes, on the file systems of Linux and macOS."""
_FOREIGN = "the row belongs to another workspace; ingest it in the one that published it"
_SHIFTED = "this is no workspace's id: the row's cells have moved between columns; restore them as published"
_UUID = re.compile("(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

log = logging.getLogger(__name__)


def waiting_files(workspace: Workspace, paths: Sequence[Path] = ()) -> list[FilledFile]:
    """The files to ingest, in a fixed order: `paths`, or by default all of `batches/` and `inbox/`."""
    if paths:
        return [_located(workspace, path.resolve()) for path in paths]
    files = []
    for manifest in sorted(workspace.batches.glob(f"*/{MANIFEST}")):
        folder = manifest.parent
        if not folder.name.startswith("."):  # an unfinished folder
            files += _filled_in(folder)
    inbox = [*_candidates(workspace.inbox), *claimed_files(workspace.inbox)]
    return files + [FilledFile(path, in_inbox=True) for path in sorted(inbox, key=lambda path: path.name)]


def passed_over(workspace: Workspace) -> list[str]:
    """Advice on files and folders in the inbox that are not ingested; hidden files are left out."""
    if not workspace.inbox.is_dir():
        return []
    advice = []
    for path in sorted(workspace.inbox.iterdir()):
        name = workspace.name_of(path)
        if path.is_dir() and path.name not in PUT_AWAY and not path.name.startswith((".", "~", "__")):
            if any(path.iterdir()):
                advice.append(f"{name} is a folder: move its files into inbox, or run pal ingest {name}/*")
        elif path.name.endswith(HALF_COPIED):
            advice.append(f"{name} is an unfinished copy: wait until it is complete, or rename it")
    return advice


def settled_files(files: Sequence[FilledFile]) -> list[FilledFile]:
    """The files without those of the inbox that are still being written."""
    before = {file: state for file in files if file.in_inbox and (state := _size_and_time(file.path))}
    fresh = {file for file, (_, changed_ns) in before.items() if abs(time.time() - changed_ns / 1e9) < FRESH_S}
    if fresh:
        time.sleep(SETTLE_S)
    return [file for file in files if file not in fresh or _size_and_time(file.path) == before[file]]


def _size_and_time(path: Path) -> tuple[int, int] | None:
    """Size and modification time of a file; None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


class BatchChecks:
    """Checks rows against their batches, which are loaded once for all files.

    Args:
        label_set: The label set of today's pal.toml.
        again: Read the files of archives even if they were ingested before.
    """

    def __init__(self, workspace: Workspace, label_set: LabelSet, *, again: bool = False) -> None:
        self.workspace, self.store = workspace, workspace.store()
        self.workbooks = WorkbookReader()
        self.workspace_id = workspace_id(self.store)
        self._label_set, self._again, self._codebook = label_set, again, codebook_of(self.store)
        self._annotators = annotator_spellings(self.store)
        self._existing: set[str] = set()
        self._batches: dict[str, tuple[ItemNames, LabelSet]] = {}

    @cached_property
    def _erased(self) -> frozenset[str]:
        return erased_hashes(self.store)

    @cached_property
    def ingested(self) -> frozenset[str]:
        """SHA-256 of the files to skip in archives."""
        return frozenset() if self._again else ingested_hashes(self.store)

    def find(self, batch_id: str) -> None:
        """Check that a batch exists.

        Raises:
            BatchError: It does not exist.
        """
        if batch_id not in self._existing:
            find_batch(self.store, batch_id)
            self._existing.add(batch_id)

    def answers(self, batch_id: str, rows: Sequence[FilledRow]) -> tuple[list[Answer], list[RowError]]:
        """Check all rows of one file that belong to one batch: returns the answers and the rejected rows.

        Spellings of an annotator's name are unified: `Anna` is the same annotator as `anna`.

        Raises:
            BatchError: The batch's manifest is damaged.
        """
        if batch_id not in self._batches:
            labels = self._label_set
            if self._codebook.changes:
                labels = label_set_of(labels, self._codebook, find_batch(self.store, batch_id).batch.codebook)
            labels = published_labels(self.workspace.batches / batch_id, labels)
            names = ItemNames(
                items_of(self.store, batch_id),
                earlier_texts(self.store, batch_id),
                answers_to_earlier_texts(self.store, batch_id),
                self._erased,
            )
            self._batches[batch_id] = names, labels
        return check_rows(
            [replace(row, annotator=self._known_name(row.annotator)) for row in rows], *self._batches[batch_id]
        )

    def _known_name(self, annotator: str) -> str:
        name = readable_name(annotator)
        return self._annotators.setdefault(folded(name), name)


def waiting_answers(
    workspace: Workspace, batch_id: str, label_set: LabelSet, waiting: Sequence[FilledFile] | None = None
) -> list[Answer]:
    """The new answers in the files of a batch, which the next ingest would append; rejected rows are left out.

    Args:
        waiting: The result of `waiting_files`, if the caller has it.
    """
    files = [file for file in (waiting_files(workspace) if waiting is None else waiting) if file.batch_id == batch_id]
    if not files:
        return []
    from annotation.formats.detection import read_filled  # slow: imports every format

    checks = BatchChecks(workspace, label_set)
    appended: list[Answer] = []
    for file in files:
        try:
            rows = [row for row in read_filled(file, workbooks=checks.workbooks).rows if row.batch_id in ("", batch_id)]
            answers, _ = checks.answers(batch_id, rows)
        except Exception as error:  # noqa: BLE001 `pal ingest` reports it
            log.debug("Cannot read %s: %r", file.path, error)
            continue
        appended += not_ingested(checks.store, FileAnswers(workspace.name_of(file.path), batch_id, answers))
    return appended


def put_away(file: FilledFile, errors: Sequence[RowError], folder: Path) -> tuple[Path, Path | None]:
    """Write `<file>.errors.csv` if there are errors, and move a file of the inbox to `folder`.

    Both get an unused name in `folder`. A file from elsewhere is not moved; its errors are written beside it, and an
    outdated list of errors is removed.

    Returns:
        The file's path and that of its list of errors, None without errors.
    """
    target = _new_file(folder, file.path) if file.in_inbox else file.path
    error_list = target.with_name(f"{target.name}{ERRORS_SUFFIX}")
    if errors:
        from annotation.formats.csv_file import write_errors

        write_errors(error_list, errors)
    elif not file.in_inbox:
        error_list.unlink(missing_ok=True)
    if file.in_inbox:
        try:
            os.replace(file.path, target)  # noqa: PTH105
        except FileNotFoundError:  # another ingest moved it first, and reported the same
            target.unlink()
            error_list.unlink(missing_ok=True)
            return file.path, None
    return target, error_list if errors else None


def _new_file(folder: Path, path: Path) -> Path:
    """Create an empty file in `folder` named as `path` or with a number; no two ingests get the same name."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = path.stem
    while stem and len(os.fsencode(f"{stem}-000{path.suffix}{ERRORS_SUFFIX}")) > LONGEST_NAME:
        stem = stem[:-1]
    target, number = folder / f"{stem}{path.suffix}", 1
    while True:
        if not target.with_name(f"{target.name}{ERRORS_SUFFIX}").exists():
            with contextlib.suppress(FileExistsError):
                target.open("xb").close()
                return target
        number += 1
        target = folder / f"{stem}-{number}{path.suffix}"


def _located(workspace: Workspace, path: Path) -> FilledFile:
    if path.parent == workspace.inbox.resolve():
        return FilledFile(path, in_inbox=True)
    return _in_batch(path.parent, [path])[0] if path.parent.parent == workspace.batches.resolve() else FilledFile(path)


def _in_batch(folder: Path, paths: Sequence[Path]) -> list[FilledFile]:
    """Files in the folder of a batch, or in a copy of it, with the annotators they were made for."""
    batch_id, annotators = folder.name, dict[str, str]()
    with contextlib.suppress(BatchError):  # a damaged manifest is reported when the batch is loaded
        if paths:
            batch_id = read_manifest(folder).get("batch_id", batch_id)
            annotators = {handout.file: handout.annotator for handout in batch_files(folder)}
    return [FilledFile(path, batch_id=batch_id, annotator=annotators.get(path.name, "")) for path in paths]


def _filled_in(folder: Path) -> list[FilledFile]:
    """Files in a batch's folder that were added or changed since it was published."""
    try:
        published = as_published(folder)
    except BatchError:  # a damaged manifest is reported when the batch is loaded
        published = {}
    candidates = [path for path in _candidates(folder) if not path.name.endswith(ERRORS_SUFFIX)]
    changed = [path for path in candidates if path.name not in published or sha256_of(path) != published[path.name]]
    return _in_batch(folder, changed)


def _candidates(folder: Path) -> list[Path]:
    """Files in a folder that an annotator may have added or filled in, by name."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if (path.is_file() or path.is_symlink()) and is_for_answers(path.name)
    )


@dataclass(frozen=True)
class CheckedFile:
    """The result of checking one file.

    Attributes:
        answers: Accepted answers by batch.
        errors: Rejected rows.
        unreadable: Why the file, or a file of an archive, cannot be ingested at all.
        notes: Oddities that are not errors.
        n_rows: Number of rows read.
        parts: SHA-256 of the files of an archive that have no rejected row.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    errors: list[RowError] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_rows: int = 0
    parts: tuple[str, ...] = ()


def _repeats_header(row: FilledRow) -> bool:
    """Whether a row is the header once more, as in files that were joined."""
    return len(row.cells) > 1 and all(folded(name) == folded(value) for name, value in row.cells.items())


def check_file(checks: BatchChecks, file: FilledFile, form: str | None = None) -> CheckedFile:
    """Read a file and check every row, without changing anything. Any failure becomes an error of this file.

    Args:
        checks: Shared by all files that are checked in a row.
        form: The name of the file's format; by default it is recognized by content.
    """
    from annotation.formats.detection import PageError

    try:
        if file.path.is_symlink():
            raise BatchError(f"{file.path} is a symbolic link.", hint="Replace it by a copy of the file.")
        return _checked(checks, file, form)
    except PageError as error:  # a page in its batch's folder is no error
        return CheckedFile(unreadable=[str(error)] if file.in_inbox or not file.batch_id else [])
    except PalError as error:
        return CheckedFile(unreadable=[str(error)])
    except OSError:
        raise
    except Exception as error:
        log.debug("Reading %s failed.", file.path, exc_info=True)
        what = f"{file.path} cannot be read: {type(error).__name__}: {str(error)[:200]}."
        return CheckedFile(unreadable=[str(BatchError(what, hint="Save the file again, or use another format."))])


def _checked(checks: BatchChecks, file: FilledFile, form: str | None) -> CheckedFile:
    from annotation.formats.detection import read_filled
    from annotation.formats.zip_archive import is_zip

    ingested: Collection[str] = checks.ingested if is_zip(file.path) else ()
    if ingested and sha256_of(file.path) in ingested:  # the answers of the same archive are recognized one by one
        ingested = ()
    reading = read_filled(file, form, checks.workbooks, ingested)
    read = [row for row in reading.rows if not _repeats_header(row)]
    ours = ("", checks.workspace_id)
    others = [row for row in read if row.workspace_id.lower() not in ours]
    is_foreign = all(_UUID.fullmatch(row.workspace_id) for row in others)
    rows = [row for row in read if row.workspace_id.lower() in ours and not row.fault]
    checked = CheckedFile(unreadable=list(reading.unreadable), n_rows=len(reading.rows))
    if reading.skipped:
        checked.notes.append(f"Skipped files that were ingested before: {', '.join(reading.skipped)}.")
    if read and not rows and is_foreign and not any(row.fault for row in read):
        what = f"{file.path} belongs to another workspace."
        checked.unreadable.append(str(BatchError(what, hint="Ingest it in the workspace that published it.")))
    checked.errors.extend(
        RowError(row.row, "label", row.label, row.fault, row.cells, row.part) for row in read if row.fault
    )
    checked.errors.extend(
        RowError(
            row.row,
            "workspace_id",
            row.workspace_id,
            _FOREIGN if _UUID.fullmatch(row.workspace_id) else _SHIFTED,
            row.cells,
            row.part,
        )
        for row in others
        if (rows or not is_foreign) and row.label.strip()
    )
    for batch_id, batch_rows in by_batch(checks.store, file.path, rows).items():
        try:
            checks.find(batch_id)
        except BatchError as error:
            reason = f"{error.what} {error.hint}" if batch_id else f"the row names no batch; {error.hint}"
            answered = [row for row in batch_rows if row.label.strip()]
            checked.errors.extend(
                RowError(row.row, "batch_id", batch_id, reason, row.cells, row.part) for row in answered
            )
            continue
        answers, rejected = checks.answers(batch_id, batch_rows)
        checked.errors.extend(rejected)
        if answers:
            checked.answers[batch_id] = answers
    if not checked.answers and not checked.errors and not checked.unreadable and not reading.skipped:
        _explain_no_answers(checked, file, rows)
    now = datetime.now(UTC)
    n_odd = sum(
        not is_plausible(answer.annotated_at, now) for answers in checked.answers.values() for answer in answers
    )
    if n_odd:
        answers_have = "1 answer has a time" if n_odd == 1 else f"{n_odd:,} answers have times"
        checked.notes.append(f"{answers_have} in the future or before 2000; they count in the order of ingestion.")
    faulty = {error.part.partition(", ")[0] for error in checked.errors}
    intact = tuple(digest for name, digest in reading.hashes.items() if name.partition(", ")[0] not in faulty)
    return replace(checked, parts=intact)


def _explain_no_answers(checked: CheckedFile, file: FilledFile, rows: Sequence[FilledRow]) -> None:
    """Report that a file is still blank, or that its answers are in a column of another name."""
    from annotation.formats.csv_file import CONTEXT_PREFIX, KNOWN_COLUMNS

    cells = [(name, cell) for row in rows for name, cell in row.cells.items() if not name.startswith(CONTEXT_PREFIX)]
    unread = {name: cell for name, cell in cells if name not in KNOWN_COLUMNS and cell.strip()}
    if not unread:
        checked.notes.append("No row is answered yet.")
        return
    shown = ", ".join(f"{name}: {cell[:40]!r}" for name, cell in list(unread.items())[:3])
    what = (
        f"{file.path} has {len(rows):,} rows and no answer in the column 'label', but text in other columns: {shown}."
    )
    checked.unreadable.append(str(BatchError(what, hint="Rename the column with the answers to 'label'.")))


def by_batch(store: Store, path: Path, rows: Sequence[FilledRow]) -> dict[str, list[FilledRow]]:
    """Group rows by batch; a row without a batch belongs to the batch that contains its item.

    Raises:
        BatchError: No row names a batch, and none is about an item of any batch.
    """
    nameless = [row for row in rows if not row.batch_id]
    hashes = [row.text_hash or text_hash(row.text or "") for row in nameless]
    batch_ids = batches_of_items(store, [row.item_id for row in nameless], hashes) if nameless else {}
    batch_of_row = {
        id(row): batch_ids.get(row.item_id) or batch_ids.get(digest, "")
        for row, digest in zip(nameless, hashes, strict=True)
    }
    if rows and len(nameless) == len(rows) and not any(batch_of_row.values()):
        open_batches = [batch.batch_id for batch in published_batches(store)]
        raise BatchError(
            f"{path} names no batch, and none of its {len(rows):,} rows is about an item of a batch.",
            hint=f"Open batches: {', '.join(open_batches) or 'none'}. To add texts to the pool: pal import {path}",
        )
    groups: dict[str, list[FilledRow]] = {}
    for row in rows:
        groups.setdefault(row.batch_id or batch_of_row[id(row)], []).append(row)
    return groups


def into_inbox(workspace: Workspace, path: Path) -> Path:
    """Copy a file into the inbox atomically under an unused name; returns its path."""
    part = workspace.inbox / f".{path.name}.{os.getpid()}.part"
    try:
        shutil.copyfile(path, part)
        to_disk(part)
        number = 1
        while True:
            target = workspace.inbox / (path.name if number == 1 else f"{path.stem} ({number}){path.suffix}")
            if take_free_name(part, target):
                to_disk(workspace.inbox)
                return target
            number += 1
    finally:
        part.unlink(missing_ok=True)
