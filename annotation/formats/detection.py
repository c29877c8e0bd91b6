"""Reads a filled file of any program; the format is recognized by content, never by file name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from annotation.batch import sha256_of
from annotation.checks import FilledFile, FilledRow
from annotation.formats.csv_file import MAX_BYTES
from annotation.formats.registry import (
    ARGILLA,
    CSV,
    DOCCANO,
    FORMATS,
    HTML,
    LABEL_STUDIO,
    ORIGINAL,
    PRODIGY,
    XLSX,
    Format,
    is_for_answers,
)
from annotation.formats.zip_archive import is_workbook, is_zip, opened_archive
from storage.errors import BatchError, PalError
from storage.readers.file_kinds import BOMS
from storage.readers.sheets import WorkbookReader

_OLD_OFFICE = b"\xd0\xcf\x11\xe0"  # an encrypted workbook, or one from before 2007
_LIST, _OBJECT = re.compile(rb"\[\s*([{\]]|$)"), re.compile(rb"\{\s*([\"}]|$)")  # not a cell that begins like JSON
_ANSWER_KEYS = {"batch_id", "item_id", "text_hash", "answer"}


class PageError(BatchError):
    """A file is the page itself instead of the answers that it saves."""


@dataclass(frozen=True)
class Reading:
    """The contents of a filled file.

    Attributes:
        unreadable: Errors of files of an archive that could not be read.
        hashes: Name -> SHA-256 of each file of an archive that was read.
        skipped: Files of an archive that were ingested before.
    """

    rows: list[FilledRow]
    unreadable: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def read_filled(
    file: FilledFile,
    form: str | None = None,
    workbooks: WorkbookReader | None = None,
    ingested: Collection[str] = (),
) -> Reading:
    """Read a filled file, or every file in an archive.

    Args:
        form: The name of its format in `annotation.formats.registry`; by default recognized by content.
        workbooks: A shared reader of workbooks.
        ingested: SHA-256 of files that were ingested before; in an archive they are skipped.

    Raises:
        PalError: The file is not a batch file.
        OSError: The file cannot be read.
    """
    size = file.path.stat().st_size
    if size > MAX_BYTES:
        what = f"{file.path} has {size:,} bytes; at most {MAX_BYTES:,} are read."
        raise BatchError(what, hint="Check that it is a batch file, or split it.")
    requested, workbooks = FORMATS[form] if form else None, workbooks or WorkbookReader()
    if not is_zip(file.path) or is_workbook(file.path):
        rows = _read(file.path, file.batch_id, file.path.name, requested, workbooks)
        return Reading([replace(row, annotator=row.annotator.strip() or file.annotator) for row in rows])
    reading, pages = Reading([]), []
    with opened_archive(file.path) as parts:
        for part in parts:
            if not is_for_answers(PurePosixPath(part.name).name):  # from a batch's folder that was sent back
                continue
            try:
                with _placed(part.content, f"{file.path}, {part.name}"):
                    digest = sha256_of(part.path)
                    if digest in ingested:
                        reading.skipped.append(part.name)
                        continue
                    name = PurePosixPath(part.name).name
                    rows = _read(part.path, file.batch_id, name, requested, workbooks)
            except PageError as error:
                pages.append(str(error))
                continue
            except PalError as error:
                reading.unreadable.append(str(error))
                continue
            reading.hashes[part.name] = digest
            reading.rows.extend(
                replace(row, part=f"{part.name}, {row.part}" if row.part else part.name) for row in rows
            )
    if not reading.skipped and not any(row.label.strip() for row in reading.rows):  # else the page came with answers
        reading.unreadable.extend(pages)
    return reading


def format_of(path: Path) -> Format:
    """Recognize the format of a file by its content; CSV if it is none of the others.

    Raises:
        BatchError: It is JSON of an unknown tool, or the page itself instead of its answers.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    encoding = next((name for bom, name in BOMS.items() if start.startswith(bom)), "utf-8")
    head = start.decode(encoding, "ignore").removeprefix("\ufeff").encode().lstrip()
    if is_zip(path) or start.startswith(_OLD_OFFICE):
        return XLSX
    if head[:14].lower().startswith((b"<!doctype html", b"<html")):
        hint = "Open it in a browser, press 'Save answers', and put the saved file into the inbox."
        raise PageError(f"{path} is the page itself; it contains no answers.", hint=hint)
    is_object = _OBJECT.match(head) is not None
    if _LIST.match(head) or (is_object and not _is_torn(path)):
        return _format_of_json(path)
    if is_object or (not head and path.suffix == ".jsonl"):  # an empty file of answers
        return HTML
    return CSV


def _read(path: Path, batch_id: str, name: str, form: Format | None, workbooks: WorkbookReader) -> list[FilledRow]:
    """Every row of one file; `name` is its original name."""
    form = form or format_of(path)
    if form is DOCCANO:
        from annotation.formats.doccano import doccano_annotator

        return form.read(path, batch_id, annotator=doccano_annotator(name))
    if form is XLSX:
        return form.read(path, batch_id, workbooks=workbooks)
    try:
        return form.read(path, batch_id)
    except BatchError:
        if form is CSV and _is_original(path):
            return ORIGINAL.read(path, batch_id)
        raise


def _is_original(path: Path) -> bool:
    from annotation.formats.original_rows import is_original

    return is_original(path)


def _is_torn(path: Path) -> bool:
    """Whether a file's only line is incomplete, which happens only to files of answers."""
    with path.open("rb") as file:
        return b"}" not in file.read(1 << 20)


def _format_of_json(path: Path) -> Format:
    """Recognize the format of a JSON file by its first entry."""
    # Imported only for files that may come from one of these tools.
    from annotation.formats.argilla import is_argilla
    from annotation.formats.doccano import is_doccano
    from annotation.formats.json_entries import read_entries
    from annotation.formats.label_studio import is_label_studio
    from annotation.formats.prodigy import is_prodigy

    tools = ((LABEL_STUDIO, is_label_studio), (ARGILLA, is_argilla), (PRODIGY, is_prodigy), (DOCCANO, is_doccano))
    first = next(read_entries(path), None)
    if first is None:  # an empty export
        return LABEL_STUDIO
    if first.values.keys() >= _ANSWER_KEYS:
        return HTML
    for form, recognizes in tools:
        if recognizes(first.values):
            return form
    tool_names = ", ".join(form.name for form, _ in tools)
    keys = ", ".join(map(repr, list(first.values)[:5]))
    what = f"{path} is JSON, but its first entry ({keys}) is neither an answer of pal nor of {tool_names}."
    raise BatchError(what, hint="Export it again as described in docs/formats.md.")


@contextmanager
def _placed(content: Path | BatchError, name_in_archive: str) -> Iterator[None]:
    """Make the errors of an unpacked file show its name in the archive."""
    try:
        yield
    except PalError as error:
        if isinstance(content, BatchError):
            raise
        what, hint = (text.replace(str(content), name_in_archive) for text in (error.what, error.hint))
        raise type(error)(what, hint) from error
