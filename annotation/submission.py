"""A filled file looked through before anything is taken from it, and put into the inbox whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from annotation.checks import FilledFile, FilledRow, RowError
from annotation.formats.detection import PageError, read_filled
from annotation.inbox import BatchChecks
from storage.errors import BatchError, PalError
from storage.files.folders import to_disk
from storage.lake.batches import batches_of_items, published_batches
from storage.lake.store import Store
from storage.records import Answer
from storage.text_hash import text_hash
from storage.workspace import Workspace


@dataclass(frozen=True)
class CheckedFile:
    """What a file holds.

    Attributes:
        answers: Those that can be taken, by batch.
        errors: Rows that cannot.
        unreadable: Why the file, or a file of an archive, cannot be read at all.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    errors: list[RowError] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def check_file(checks: BatchChecks, file: FilledFile, form: str | None = None) -> CheckedFile:
    """Read a file and check every row; changes nothing.

    Args:
        checks: The same for all files that are looked through one after the other.
        form: Its format; told by its content where that is None.
    """
    found = CheckedFile()
    try:
        reading = read_filled(file, form)
        found.unreadable.extend(reading.unreadable)
        for batch_id, rows in by_batch(checks.store, file.path, reading.rows).items():
            try:
                checks.find(batch_id)
            except BatchError as error:
                reason = f"{error.what} {error.hint}" if batch_id else f"the row names no batch; {error.hint}"
                answered = [row for row in rows if row.label.strip()]
                found.errors.extend(
                    RowError(row.row, "batch_id", batch_id, reason, row.cells, row.part) for row in answered
                )
                continue
            answers, refused = checks.answers(batch_id, rows)
            found.errors.extend(refused)
            if answers:
                found.answers[batch_id] = answers
    except PageError as error:
        if file.in_inbox or not file.batch_id:  # in its batch's folder it has its place
            found.unreadable.append(str(error))
    except PalError as error:
        found.unreadable.append(str(error))
    return found


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
            if _take_free_name(part, place):
                to_disk(workspace.inbox)
                return place
            number += 1
    finally:
        part.unlink(missing_ok=True)


def _take_free_name(part: Path, place: Path) -> bool:
    """Give a file its name; False where that is taken, also by another process just now."""
    try:
        os.link(part, place)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if place.exists():
            return False
        part.replace(place)
    return True
