"""Filled files of batches and inbox: read, put away afterwards; and `pal submit`, which checks a file first."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from annotation.batch import as_published, batch_files, published_labels, sha256_of
from annotation.checks import FilledFile, FilledRow, ItemNames, RowError, check_rows, is_plausible
from annotation.claims import claimed_files, take_free_name
from annotation.formats.registry import HALF_COPIED, is_for_answers
from annotation.label_set import LabelSet, label_set_of
from storage.errors import BatchError, PalError
from storage.files.folders import MANIFEST, to_disk
from storage.lake.annotations import FileAnswers, annotator_spellings, ingested_hashes, not_ingested
from storage.lake.batches import batches_of_items, find_batch, items_of, published_batches
from storage.lake.codebook import codebook_of
from storage.lake.edits import answers_to_earlier_texts, earlier_texts
from storage.lake.schema import workspace_id
from storage.lake.store import Store
from storage.readers.sheets import WorkbookReader
from storage.readers.spellings import folded, text_hash
from storage.records import UNNAMED, Answer
from storage.workspace import Workspace

ERRORS_SUFFIX = ".errors.csv"
SETTLE_S = 1.0
"""How long a file of the inbox is watched, where it is fresh; one that grows meanwhile is left for the next time."""
FRESH_S = 10.0
LONGEST_NAME = 255
"""In bytes, on the file systems of Linux and macOS."""
PUT_AWAY = ("done", "rejected")
"""Folders in the inbox of the files that were ingested, and of those that hold what was refused."""
_FOREIGN = "the row belongs to another workspace; ingest it in the one that published it"

log = logging.getLogger(__name__)


def waiting_files(workspace: Workspace, named: Sequence[Path] = ()) -> list[FilledFile]:
    """The files to ingest, in a fixed order: the named ones, or all of `batches/` and `inbox/`."""
    if named:
        return [_located(workspace, path.resolve()) for path in named]
    found = []
    for manifest in sorted(workspace.batches.glob(f"*/{MANIFEST}")):
        folder = manifest.parent
        if not folder.name.startswith("."):  # one that is being written, or was when its process was killed
            found += _filled_in(folder)
    inbox = [*_candidates(workspace.inbox), *claimed_files(workspace.inbox)]
    return found + [FilledFile(path, in_inbox=True) for path in sorted(inbox, key=lambda path: path.name)]


def passed_over(workspace: Workspace) -> list[str]:
    """What lies in the inbox and is not ingested from there, and what to do with it; hidden files are not named."""
    if not workspace.inbox.is_dir():
        return []
    advice = []
    for path in sorted(workspace.inbox.iterdir()):
        name = workspace.name_of(path)
        if path.is_dir() and path.name not in PUT_AWAY and not path.name.startswith((".", "~", "__")):
            if any(path.iterdir()):
                advice.append(f"{name} is a folder: move its files into inbox, or ingest them with pal ingest {name}/*")
        elif path.name.endswith(HALF_COPIED):
            advice.append(f"{name} is a half-copied file: wait until it is whole, or rename it")
    return advice


def settled_files(files: Sequence[FilledFile]) -> list[FilledFile]:
    """The files without those of the inbox that grow while this looks: somebody is still writing them."""
    before = {file: seen for file in files if file.in_inbox and (seen := _as_seen(file.path))}
    fresh = {file for file, (_, changed_ns) in before.items() if abs(time.time() - changed_ns / 1e9) < FRESH_S}
    if fresh:
        time.sleep(SETTLE_S)
    return [file for file in files if file not in fresh or _as_seen(file.path) == before[file]]


def _as_seen(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


class BatchChecks:
    """What rows are checked against: what each batch asks whom, read once for all the files that answer to it.

    Args:
        label_set: As pal.toml has it by now.
        again: Read the files of archives even if their bytes were ingested before.
    """

    def __init__(self, workspace: Workspace, label_set: LabelSet, *, again: bool = False) -> None:
        self.workspace, self.store = workspace, workspace.store()
        self.workbooks = WorkbookReader()
        self.workspace_id = workspace_id(self.store)
        self._label_set, self._again, self._codebook = label_set, again, codebook_of(self.store)
        self._annotators = annotator_spellings(self.store)
        self._known: set[str] = set()
        self._batches: dict[str, tuple[ItemNames, LabelSet]] = {}

    @cached_property
    def known(self) -> frozenset[str]:
        """SHA-256 of the files that are passed over in archives."""
        return frozenset() if self._again else ingested_hashes(self.store)

    def find(self, batch_id: str) -> None:
        """Look whether there is such a batch.

        Raises:
            BatchError: There is none.
        """
        if batch_id not in self._known:
            find_batch(self.store, batch_id)
            self._known.add(batch_id)

    def answers(self, batch_id: str, rows: Sequence[FilledRow]) -> tuple[list[Answer], list[RowError]]:
        """The answers in all rows of one file that are of one batch, and every row that is none.

        Annotators are named as they were named first: `Anna` is no second annotator beside `anna`.

        Raises:
            BatchError: Its manifest is damaged.
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
            )
            self._batches[batch_id] = names, labels
        return check_rows(
            [replace(row, annotator=self._named(row.annotator)) for row in rows], *self._batches[batch_id]
        )

    def _named(self, annotator: str) -> str:
        name = " ".join(annotator.split()) or UNNAMED
        return self._annotators.setdefault(folded(name), name)


def waiting_answers(
    workspace: Workspace, batch_id: str, label_set: LabelSet, waiting: Sequence[FilledFile] | None = None
) -> list[Answer]:
    """The answers in the files of a batch that an ingest would append; what is faulty is left out.

    Args:
        waiting: What `waiting_files` gives; looked for where None.
    """
    files = [file for file in (waiting_files(workspace) if waiting is None else waiting) if file.batch_id == batch_id]
    if not files:
        return []
    from annotation.formats.detection import read_filled  # every format: where nothing waits, none is needed

    checks = BatchChecks(workspace, label_set)
    appended: list[Answer] = []
    for file in files:
        try:
            rows = [row for row in read_filled(file, workbooks=checks.workbooks).rows if row.batch_id in ("", batch_id)]
            answers, _ = checks.answers(batch_id, rows)
        except Exception as error:  # noqa: BLE001 `pal ingest` says what is wrong with it
            log.debug("%s cannot be read: %r", file.path, error)
            continue
        appended += not_ingested(checks.store, FileAnswers(workspace.name_of(file.path), batch_id, answers))
    return appended


def put_away(file: FilledFile, errors: Sequence[RowError], folder: Path) -> tuple[Path, Path | None]:
    """Write `<file>.errors.csv` where there are errors; move a file of the inbox to `folder`.

    Returns where the file is then, and its list of errors. In `folder` both get a name that is free. A file from
    elsewhere stays, with its errors beside it; once it has none, an outdated list of errors is removed.
    """
    place = _free_place(folder, file.path) if file.in_inbox else file.path
    listed = place.with_name(f"{place.name}{ERRORS_SUFFIX}")
    if errors:
        from annotation.formats.csv_file import write_errors

        write_errors(listed, errors)
    elif not file.in_inbox:
        listed.unlink(missing_ok=True)
    if file.in_inbox:
        try:
            os.replace(file.path, place)  # noqa: PTH105
        except FileNotFoundError:  # another ingest was faster, and reported the same
            place.unlink()
            listed.unlink(missing_ok=True)
            return file.path, None
    return place, listed if errors else None


def _free_place(folder: Path, path: Path) -> Path:
    """A new empty file in `folder`, named as `path` or with a number: two ingests never get the same."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = path.stem
    while stem and len(os.fsencode(f"{stem}-000{path.suffix}{ERRORS_SUFFIX}")) > LONGEST_NAME:
        stem = stem[:-1]
    place, number = folder / f"{stem}{path.suffix}", 1
    while True:
        if not place.with_name(f"{place.name}{ERRORS_SUFFIX}").exists():
            with contextlib.suppress(FileExistsError):
                place.open("xb").close()
                return place
        number += 1
        place = folder / f"{stem}-{number}{path.suffix}"


def _located(workspace: Workspace, path: Path) -> FilledFile:
    if path.parent == workspace.inbox.resolve():
        return FilledFile(path, in_inbox=True)
    return _in_batch(path.parent, [path])[0] if path.parent.parent == workspace.batches.resolve() else FilledFile(path)


def _in_batch(folder: Path, paths: Sequence[Path]) -> list[FilledFile]:
    """Files in a batch's folder, with whom each was handed to."""
    try:
        handed = {each.file: each.annotator for each in batch_files(folder)} if paths else {}
    except BatchError:  # a damaged manifest is reported where the batch is needed
        handed = {}
    return [FilledFile(path, batch_id=folder.name, annotator=handed.get(path.name, "")) for path in paths]


def _filled_in(folder: Path) -> list[FilledFile]:
    """Files in a batch's folder that are not as they were published."""
    try:
        published = as_published(folder)
    except BatchError:  # a damaged manifest is reported where the batch is needed
        published = {}
    mine = [path for path in _candidates(folder) if not path.name.endswith(ERRORS_SUFFIX)]
    changed = [path for path in mine if path.name not in published or sha256_of(path) != published[path.name]]
    return _in_batch(folder, changed)


def _candidates(folder: Path) -> list[Path]:
    """Files that an annotator may have put there, by name."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if (path.is_file() or path.is_symlink()) and is_for_answers(path.name)
    )


@dataclass(frozen=True)
class CheckedFile:
    """What a file holds.

    Attributes:
        answers: Those that can be taken, by batch.
        errors: Rows that cannot.
        unreadable: Why the file, or a file of an archive, cannot be ingested at all.
        notes: What is odd about it, and no error.
        n_rows: Rows that were read.
        parts: SHA-256 of the files in it without a faulty row, where it is an archive.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    errors: list[RowError] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_rows: int = 0
    parts: tuple[str, ...] = ()


def check_file(checks: BatchChecks, file: FilledFile, form: str | None = None) -> CheckedFile:
    """Read a file and check every row; changes nothing. Whatever goes wrong is an error of this file alone.

    Args:
        checks: The same for all files that are looked through one after the other.
        form: Its format; told by its content where that is None.
    """
    from annotation.formats.detection import PageError

    try:
        if file.path.is_symlink():
            raise BatchError(f"{file.path} is a symbolic link.", hint="Put a copy of the file itself there.")
        return _checked(checks, file, form)
    except PageError as error:  # in its batch's folder it has its place
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

    known: Collection[str] = checks.known if is_zip(file.path) else ()
    if known and sha256_of(file.path) in known:  # the answers of a whole file are known by themselves
        known = ()
    reading = read_filled(file, form, checks.workbooks, known)
    rows = [row for row in reading.rows if row.workspace_id in ("", checks.workspace_id)]
    found = CheckedFile(unreadable=list(reading.unreadable), n_rows=len(reading.rows))
    if reading.known:
        found.notes.append(f"Ingested before, and passed over: {', '.join(reading.known)}.")
    if reading.rows and not rows:
        what = f"{file.path} belongs to another workspace."
        found.unreadable.append(str(BatchError(what, hint="Ingest it in the workspace that published it.")))
    found.errors.extend(
        RowError(row.row, "workspace_id", row.workspace_id, _FOREIGN, row.cells, row.part)
        for row in reading.rows
        if rows and row.workspace_id not in ("", checks.workspace_id) and row.label.strip()
    )
    for batch_id, of_batch in by_batch(checks.store, file.path, rows).items():
        try:
            checks.find(batch_id)
        except BatchError as error:
            reason = f"{error.what} {error.hint}" if batch_id else f"the row names no batch; {error.hint}"
            answered = [row for row in of_batch if row.label.strip()]
            found.errors.extend(
                RowError(row.row, "batch_id", batch_id, reason, row.cells, row.part) for row in answered
            )
            continue
        answers, refused = checks.answers(batch_id, of_batch)
        found.errors.extend(refused)
        if answers:
            found.answers[batch_id] = answers
    if not found.answers and not found.errors and not found.unreadable and not reading.known:
        _say_what_stands(found, file, rows)
    now = datetime.now(UTC)
    odd = sum(not is_plausible(each.annotated_at, now) for answers in found.answers.values() for each in answers)
    if odd:
        answers_have = "1 answer has a time" if odd == 1 else f"{odd:,} answers have times"
        found.notes.append(f"{answers_have} in the future or before 2000; they count in the order of ingestion.")
    faulty = {error.part.partition(", ")[0] for error in found.errors}
    whole = tuple(digest for name, digest in reading.hashes.items() if name.partition(", ")[0] not in faulty)
    return replace(found, parts=whole)


def _say_what_stands(found: CheckedFile, file: FilledFile, rows: Sequence[FilledRow]) -> None:
    """Say of a file without answers what stands in it instead, or that it is blank."""
    from annotation.formats.csv_file import CONTEXT_PREFIX, KNOWN_COLUMNS

    cells = [each for row in rows for each in row.cells.items() if not each[0].startswith(CONTEXT_PREFIX)]
    unread = {name: cell for name, cell in cells if name not in KNOWN_COLUMNS and cell.strip()}
    if not unread:
        found.notes.append("No row is answered yet.")
        return
    shown = ", ".join(f"{name}: {cell[:40]!r}" for name, cell in list(unread.items())[:3])
    what = f"{file.path} has {len(rows):,} rows and no answer in the column 'label', but other columns: {shown}."
    found.unreadable.append(str(BatchError(what, hint="Name the column of the answers 'label'.")))


def by_batch(store: Store, path: Path, rows: Sequence[FilledRow]) -> dict[str, list[FilledRow]]:
    """The rows of each batch; those that name none are of the one that asked about them.

    Raises:
        BatchError: No row names a batch, and none is about an item that any batch asked about.
    """
    nameless = [row for row in rows if not row.batch_id]
    hashes = [row.text_hash or text_hash(row.text or "") for row in nameless]
    asked = batches_of_items(store, [row.item_id for row in nameless], hashes) if nameless else {}
    found = {
        id(row): asked.get(row.item_id) or asked.get(digest, "") for row, digest in zip(nameless, hashes, strict=True)
    }
    if rows and len(nameless) == len(rows) and not any(found.values()):
        known = [batch.batch_id for batch in published_batches(store)]
        raise BatchError(
            f"{path} names no batch, and none of its {len(rows)} rows is about an item of one.",
            hint=f"open batches: {', '.join(known) or 'none'}. To add texts to the pool: pal import {path}",
        )
    groups: dict[str, list[FilledRow]] = {}
    for row in rows:
        groups.setdefault(row.batch_id or found[id(row)], []).append(row)
    return groups


def into_inbox(workspace: Workspace, path: Path) -> Path:
    """Copy a file into the inbox, whole or not at all, under a name that is free there; returns where it is."""
    part = workspace.inbox / f".{path.name}.{os.getpid()}.part"
    try:
        shutil.copyfile(path, part)
        to_disk(part)
        number = 1
        while True:
            place = workspace.inbox / (path.name if number == 1 else f"{path.stem} ({number}){path.suffix}")
            if take_free_name(part, place):
                to_disk(workspace.inbox)
                return place
            number += 1
    finally:
        part.unlink(missing_ok=True)
