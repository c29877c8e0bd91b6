"""Stages that change items: `erase_items` and `edit_item`.

`erase_items` removes texts from every version of the lake, batches, inbox, reports, predictions and runs. The plan is
written to a file first, so that the next call finishes an interrupted erasure. `edit_item` corrects a text, also in the
files of open batches, and queries the item again if needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from annotation.batch import contents_of, published_labels, sha256_of, write_batch, write_changed
from annotation.checks import FilledFile
from annotation.inbox import waiting_answers
from storage.errors import BatchError
from storage.files.folders import write_whole
from storage.lake.annotations import ingested_hashes
from storage.lake.batches import find_batch, given_answers
from storage.lake.history import Edited, has_only_outdated_answers
from storage.lake.history import edit_item as edit
from storage.records import IMPORTED, ORIGINAL, Purpose
from storage.run_records import RUNS_FILE
from storage.upkeep.erasure import (
    INTENT,
    Erasure,
    Mentions,
    catalog_copies,
    erase_from_lake,
    items_containing,
    plan_erasure,
)
from storage.workspace import CONFIG_NAME, Workspace
from tasks.ask_again import Again, reserve_again
from tasks.collect import JOURNAL, files_to_collect
from tasks.project import Project
from tasks.sample import publish_batches

_FOREIGN = (".git", ".venv", "backups")


@dataclass(frozen=True)
class Erased:
    """A planned or finished erasure.

    Attributes:
        deleted: Files of the workspace that contain one of the texts and are deleted.
        left: Remaining places that may contain the texts: the user's own files, backups, other machines.
    """

    erasure: Erasure
    deleted: tuple[str, ...]
    left: tuple[str, ...]


def plan_of(project: Project, item_ids: Sequence[str]) -> Erased:
    """Plan an erasure, or the rest of an interrupted one; changes nothing.

    Raises:
        BatchError: An id is unknown, or filled files have not been ingested yet.
    """
    workspace = project.workspace
    interrupted = _interrupted(workspace)
    if interrupted is None:
        if not item_ids:
            raise BatchError("No erasure was interrupted.", hint="Name the items: pal items erase ID")
        if waiting := _waiting(project):
            raise BatchError(
                f"Nothing was erased: {len(waiting):,} filled files are not ingested ({waiting[0].path.name}, ...).",
                hint="Ingest them first: pal ingest",
            )
        interrupted = plan_erasure(project.store, item_ids)
    elif new := set(item_ids) - set(interrupted.item_ids):
        raise BatchError(
            f"An erasure was interrupted; {len(new)} of these items were not part of it.",
            hint="Finish it first: pal items erase --yes",
        )
    deleted, left = _files_with(workspace, project, interrupted)
    shared, _, unreadable = _shared_with(project, interrupted)
    return Erased(interrupted, (*deleted, *_addresses(workspace, shared)), (*left, *unreadable))


def erase_items(project: Project, plan: Erased) -> Erased:
    """Erase as planned; returns what was done. After a kill, repeat the call, with or without item ids.

    Raises:
        StoreError: Another maintenance command is running, or a server fails.
    """
    workspace, erasure = project.workspace, plan.erasure
    intent = workspace.root / "lake" / INTENT
    write_whole(intent, json.dumps(asdict(erasure)).encode())
    _edit_records(workspace, Mentions(erasure.texts, in_pieces=True))
    erase_from_lake(project.store, erasure)  # which also clears what a PostgreSQL server kept of the records
    for path in catalog_copies(project.store):
        path.unlink()
    for name in ("scratch-*", "spill"):
        for folder in (workspace.root / "lake").glob(name):
            shutil.rmtree(folder, ignore_errors=True)
    _write_batches_again(project, erasure.batches)
    deleted, left = _files_with(workspace, project, erasure)
    for name in deleted:
        (workspace.root / name).unlink(missing_ok=True)
    shared, kept, unreadable = _shared_with(project, erasure)
    kept |= {sha256_of(path) for path in workspace.batches.rglob("*") if path.is_file()}
    workspace.erase_shared({name: digest for name, digest in shared.items() if digest not in kept})
    workspace.push()
    intent.unlink()
    deleted = (*deleted, *_addresses(workspace, shared))
    return Erased(erasure, tuple(sorted({*plan.deleted, *deleted})), (*left, *unreadable))


def _addresses(workspace: Workspace, shared: Iterable[str]) -> list[str]:
    """Where shared files are that are deleted for good: not those of batches, which are written again."""
    return [f"{workspace.files}/{name}" for name in shared if not name.startswith("batches/")]


def _waiting(project: Project) -> list[FilledFile]:
    """The filled files with answers to ingest: none of those that are only read again because labels changed."""
    hashes = ingested_hashes(project.store)
    return [
        file
        for file in files_to_collect(project)
        if file.in_inbox
        or sha256_of(file.path) not in hashes
        or waiting_answers(project.workspace, file.batch_id, project.label_set, [file])
    ]


def _interrupted(workspace: Workspace) -> Erasure | None:
    """The erasure of a killed process; None if there is none."""
    try:
        values = json.loads((workspace.root / "lake" / INTENT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    n_answers = int(values.pop("n_answers"))
    return Erasure(n_answers=n_answers, **{name: tuple(value) for name, value in values.items()})


def _write_batches_again(project: Project, batch_ids: Sequence[str]) -> None:
    """Write the folders of these batches again from the lake."""
    store, batches = project.store, project.workspace.batches
    for batch_id in batch_ids:
        try:
            label_set = published_labels(batches / batch_id, project.label_set)
        except BatchError:  # its manifest is damaged
            label_set = project.label_set
        for folder in (batches / batch_id, *batches.glob(f".{batch_id}.*.part")):
            shutil.rmtree(folder, ignore_errors=True)
        batch = find_batch(store, batch_id).batch
        if batch.n and not batch_id.startswith((IMPORTED, ORIGINAL)):  # imported batches have no files
            contents = contents_of(store, batch, project.config.batch.context)
            contents = replace(contents, answers=given_answers(store, batch_id))
            write_batch(batches / batch_id, batch, contents, label_set)


def _edit_records(workspace: Workspace, mentions: Mentions) -> None:
    """Remove the texts from the record of runs and the journal of ingests; other lines are kept."""
    runs = workspace.runs()
    runs.put(*(replace(run, message="") for run in runs.all() if mentions.in_text(run.message)))
    runs.compact()
    journal = workspace.reports / JOURNAL
    with contextlib.suppress(FileNotFoundError):
        lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
        remaining = [line for line in lines if not mentions.in_text(line)]
        if len(remaining) < len(lines):
            write_whole(journal, "".join(remaining).encode())


def _shared_with(project: Project, erasure: Erasure) -> tuple[dict[str, str], set[str], tuple[str, ...]]:
    """Files in the object store: name -> SHA-256 of those to delete, hashes of the others, names of unreadable ones."""
    in_pieces, ours = Mentions(erasure.texts, in_pieces=True), ("inbox/", "reports/")
    folders = tuple(f"batches/{batch_id}/" for batch_id in erasure.batches)
    digests: dict[str, str] = {}
    kept, unreadable = set(), []
    for name, content in project.workspace.shared_files():
        digest = hashlib.sha256(content).hexdigest()
        try:
            is_found = name.startswith(ours) and in_pieces.in_stream(io.BytesIO(content))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            is_found = False
            unreadable.append(f"{project.workspace.files}/{name} (it cannot be read: {error})")
        if is_found or name.startswith(folders):
            digests[name] = digest
        else:
            kept.add(digest)
    return digests, kept, tuple(unreadable)


def _files_with(workspace: Workspace, project: Project, erasure: Erasure) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files that contain the texts: those to delete, and those that remain, by name."""
    exact, in_pieces = Mentions(erasure.texts), Mentions(erasure.texts, in_pieces=True)
    our_folders = tuple(f"{folder}/" for folder in ("inbox", "reports", project.config.server.home))
    deleted: list[str] = []
    remaining: list[str] = []
    for path in _searched(workspace):
        name = path.relative_to(workspace.root).as_posix()
        is_ours = name.startswith(our_folders)
        try:
            if name in (RUNS_FILE, f"reports/{JOURNAL}") or not (in_pieces if is_ours else exact).in_file(path):
                continue
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            remaining.append(f"{name} (it cannot be read: {error})")
            continue
        (deleted if is_ours or _is_prediction(path, name) else remaining).append(name)
    if others := items_containing(project.store, erasure.item_ids, exact.long_beginnings):
        remaining.append(
            f"{len(others):,} other items with the text in their text, context or notes: {', '.join(others[:5])}"
        )
    if (workspace.root / "backups").is_dir():
        remaining.append("backups/ (backups are not touched)")
    remaining += _out_of_reach(workspace)
    return tuple(deleted), tuple(remaining)


def _out_of_reach(workspace: Workspace) -> Iterator[str]:
    """What may hold the texts on servers and other machines, and how to clear it."""
    if workspace.files:
        yield (
            "predictions, exports and reports/ingested-files.jsonl on other machines (their batches, inbox and reports "
            "follow with the next pal command there; find the others by a word of the text: grep -rl WORD .)"
        )
    elif workspace.catalog.startswith("postgres:"):
        yield "workspaces of other machines (find copies there by a word of the text: grep -rl WORD .)"
    if workspace.catalog.startswith("postgres:"):
        yield (
            "the PostgreSQL server's write-ahead log, log, statistics and backups (psql -c 'SELECT pg_switch_wal()' -c "
            "CHECKPOINT lets the server reuse the first; ask its administrator about the others)"
        )
    for root in dict.fromkeys(filter(None, (workspace.files, workspace.data if "://" in workspace.data else ""))):
        bucket, _, prefix = root.partition("://")[2].partition("/")
        versions = f"aws s3api list-object-versions --bucket {bucket} --prefix {prefix}"
        yield f"earlier versions of objects in {root}, if the bucket keeps them" + (
            f" ({versions})" if root.startswith("s3://") else ""
        )


def _searched(workspace: Workspace) -> Iterator[Path]:
    """The files of a workspace except the lake, the batches, backups and folders of other programs."""
    for folder, folders, names in os.walk(workspace.root):
        if Path(folder) == workspace.root:
            folders[:] = [name for name in folders if name not in ("lake", "batches", *_FOREIGN)]
        paths = (Path(folder) / name for name in sorted(names) if not name.endswith(".safetensors"))
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


def _is_prediction(path: Path, name: str) -> bool:
    """Whether a file was written by `pal predict` or `pal export`: it has a column `item_id`."""
    return name != CONFIG_NAME and not name.startswith(("models/", "encoders/")) and Mentions(["item_id"]).in_file(path)


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ItemEdit:
    """A correction, and the batch that queries the item again, if any."""

    edited: Edited
    batch_id: str | None


def edit_item(project: Project, item_id: str, text: str) -> ItemEdit:
    """Correct an item's text and query the item again if it was answered. After a kill, repeat the call.

    Raises:
        SourceError: The new text is empty.
        BatchError: There is no such item, another item has this text, or it was answered in an open review batch.
    """
    store, batches = project.store, project.workspace.batches
    edited = edit(store, item_id, text)
    for batch_id in edited.open_batches:
        batch = find_batch(store, batch_id).batch
        contents = contents_of(store, batch, project.config.batch.context)
        write_changed(batches / batch_id, batch, contents, project.label_set)
        log.info("Updated the files of batch %s with the corrected text.", batch_id)
    again: str | None = None
    if has_only_outdated_answers(store, item_id):
        again = reserve_again(project, Purpose.REVIEW, Again([item_id], "corrected"), beside_open=True)
    publish_batches(project)
    return ItemEdit(edited, again)
