"""Reads a filled file, whatever program it comes from: the format follows from its content, never from its name."""

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

_OLD_OFFICE = b"\xd0\xcf\x11\xe0"  # of an encrypted workbook, or one of before 2007
_LIST, _OBJECT = re.compile(rb"\[\s*([{\]]|$)"), re.compile(rb"\{\s*([\"}]|$)")  # not a cell that begins so
_OF_AN_ANSWER = {"batch_id", "item_id", "text_hash", "answer"}


class PageError(BatchError):
    """A file is the page to answer on, not the answers that it saves."""


@dataclass(frozen=True)
class Reading:
    """What a file holds.

    Attributes:
        unreadable: Files of an archive that could not be read, in words.
        hashes: Name -> SHA-256 of each file of an archive that was read.
        known: Files of an archive that were passed over, since their bytes are known.
    """

    rows: list[FilledRow]
    unreadable: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)


def read_filled(
    file: FilledFile,
    form: str | None = None,
    workbooks: WorkbookReader | None = None,
    known: Collection[str] = (),
) -> Reading:
    """The rows of a filled file, or of every file in an archive of them.

    Args:
        form: Its format, by its name in `annotation.formats.registry`; told by the content where that is None.
        workbooks: What reads workbooks; one for this file alone where None.
        known: SHA-256 of files that were ingested before; in an archive they are passed over.

    Raises:
        PalError: It is no file of a batch.
        OSError: It cannot be read.
    """
    size = file.path.stat().st_size
    if size > MAX_BYTES:
        what = f"{file.path} has {size:,} bytes; at most {MAX_BYTES:,} are read."
        raise BatchError(what, hint="a batch file is far smaller; split it.")
    wanted, workbooks = FORMATS[form] if form else None, workbooks or WorkbookReader()
    if not is_zip(file.path) or is_workbook(file.path):
        found = _read(file.path, file.batch_id, file.path.name, wanted, workbooks)
        return Reading([replace(row, annotator=row.annotator.strip() or file.annotator) for row in found])
    reading, pages = Reading([]), []
    with opened_archive(file.path) as parts:
        for part in parts:
            if not is_for_answers(PurePosixPath(part.name).name):  # a batch's whole folder was sent back
                continue
            try:
                with _placed(part.content, f"{file.path}, {part.name}"):
                    digest = sha256_of(part.path)
                    if digest in known:
                        reading.known.append(part.name)
                        continue
                    name = PurePosixPath(part.name).name
                    found = _read(part.path, file.batch_id, name, wanted, workbooks)
            except PageError as error:
                pages.append(str(error))
                continue
            except PalError as error:
                reading.unreadable.append(str(error))
                continue
            reading.hashes[part.name] = digest
            reading.rows.extend(
                replace(row, part=f"{part.name}, {row.part}" if row.part else part.name) for row in found
            )
    if not reading.known and not any(row.label.strip() for row in reading.rows):  # else a whole folder was sent
        reading.unreadable.extend(pages)
    return reading


def format_of(path: Path) -> Format:
    """The format that a file is in, by its content; CSV where it is in none.

    Raises:
        BatchError: It is JSON of no tool that is known, or the page itself and not the answers that it saves.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    encoding = next((name for bom, name in BOMS.items() if start.startswith(bom)), "utf-8")
    head = start.decode(encoding, "ignore").removeprefix("\ufeff").encode().lstrip()
    if is_zip(path) or start.startswith(_OLD_OFFICE):
        return XLSX
    if head[:14].lower().startswith((b"<!doctype html", b"<html")):
        hint = "open it in a browser, press 'Save answers', and put the file that this saves into the inbox."
        raise PageError(f"{path} is the page itself; it holds no answers.", hint=hint)
    is_object = _OBJECT.match(head) is not None
    if _LIST.match(head) or (is_object and not _is_torn(path)):
        return _format_of_json(path)
    if is_object or (not head and path.suffix == ".jsonl"):  # opened, and left without an answer
        return HTML
    return CSV


def _read(path: Path, batch_id: str, name: str, form: Format | None, workbooks: WorkbookReader) -> list[FilledRow]:
    """Every row of one file; `name` is the one it came under."""
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
    """Whether a file's only line was cut off while it was written, as only a file of answers can be."""
    with path.open("rb") as file:
        return b"}" not in file.read(1 << 20)


def _format_of_json(path: Path) -> Format:
    """Whose JSON it is, by its first entry."""
    # Tools' formats need more than our own: imported for a file that may be of one of them.
    from annotation.formats.argilla import is_argilla
    from annotation.formats.doccano import is_doccano
    from annotation.formats.json_entries import read_entries
    from annotation.formats.label_studio import is_label_studio
    from annotation.formats.prodigy import is_prodigy

    tools = ((LABEL_STUDIO, is_label_studio), (ARGILLA, is_argilla), (PRODIGY, is_prodigy), (DOCCANO, is_doccano))
    first = next(read_entries(path), None)
    if first is None:  # an export of nothing
        return LABEL_STUDIO
    if first.values.keys() >= _OF_AN_ANSWER:
        return HTML
    for form, recognises in tools:
        if recognises(first.values):
            return form
    known = ", ".join(form.name for form, _ in tools)
    keys = ", ".join(map(repr, list(first.values)[:5]))
    what = f"{path} is JSON, but its first entry ({keys}) is neither an answer of ours nor of: {known}."
    raise BatchError(what, hint="export it again as docs/formats.md says.")


@contextmanager
def _placed(content: Path | BatchError, place: str) -> Iterator[None]:
    """Let the errors of an unpacked file name its place in the archive."""
    try:
        yield
    except PalError as error:
        if isinstance(content, BatchError):
            raise
        told = (text.replace(str(content), place) for text in (error.what, error.hint))
        raise type(error)(*told) from error
