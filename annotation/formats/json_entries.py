"""Reads and writes the JSON of annotation tools; the reader is strict, and its errors name file and row."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from annotation.checks import FilledRow
from annotation.formats.csv_file import MAX_BYTES, as_unicode, filled_row
from annotation.label_set import Handout, beside
from storage.errors import BatchError, SourceError
from storage.readers.file_kinds import find_encoding, open_text, readable_file
from storage.readers.spellings import id_text
from storage.records import BatchItem

LONGEST_S = 1e12
"""Maximum duration of an answer."""

_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Entry:
    """One object of a file.

    Attributes:
        row: The line number in JSON lines, or the number in a list; from 1.
        place: File and row, for errors.
    """

    row: int
    place: str
    values: dict[str, Any]

    def fault(self, what: str) -> BatchError:
        """An error about this entry."""
        hint = "Export it again from the tool, or correct the entry if the file was edited."
        return BatchError(f"{self.place}: {what}.", hint=hint)

    def objects(self, values: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        """The list of objects under a name; empty if the name is missing.

        Raises:
            BatchError: The value is not a list of objects.
        """
        objects = values.get(name) or []
        if not isinstance(objects, list) or not all(isinstance(value, dict) for value in objects):
            raise self.fault(f"{name!r} is not a list of objects")
        return objects

    def time(self, value: object) -> datetime | None:
        """Convert a time to UTC from ISO text (UTC without a zone) or seconds since 1970; None stays None.

        Raises:
            BatchError: It is neither.
        """
        if value is None:
            return None
        with contextlib.suppress(ValueError, OverflowError, OSError):  # reported below
            if isinstance(value, str):
                time = datetime.fromisoformat(value)
                return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return datetime.fromtimestamp(value, UTC)
        raise self.fault(f"{shown(value)!r} is not a time")

    def seconds(self, value: object) -> float | None:
        """Check a duration; None stays None.

        Raises:
            BatchError: It is not a number, or longer than `LONGEST_S`.
        """
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LONGEST_S:
            return float(value)
        raise self.fault(f"{shown(value)!r} is not a number of seconds")

    def row_of(
        self,
        fields: Mapping[str, Any],
        batch_id: str,
        label: str,
        *,
        note: str = "",
        annotator: str = "",
    ) -> FilledRow:
        """Convert the entry, or one answer in it, to a row.

        Args:
            fields: The item's fields as exported: text, item_id, batch_id, text_hash, annotator.
            batch_id: The default if the entry names no batch.
            annotator: The name in the tool; by default the one in `fields`.
        """
        cells = {name: cell(fields.get(name)) for name in ("item_id", "batch_id", "text_hash", "workspace_id")}
        if fields.get("text") is not None:
            cells["text"] = cell(fields["text"])
        cells |= {"label": label, "note": note, "annotator": annotator or cell(fields.get("annotator"))}
        return filled_row(self.row, cells, batch_id)


def has_context(handout: Handout) -> bool:
    """Whether any item has context; tools need the same keys in all entries."""
    return any(map(beside, handout.items))


def outgoing(handout: Handout) -> Iterator[tuple[BatchItem, dict[str, str], dict[str, str]]]:
    """Every item with its context field and the ids that are returned with its answer."""
    with_context = has_context(handout)
    optional = {"annotator": handout.annotator, "workspace_id": handout.workspace_id}
    optional = {name: value for name, value in optional.items() if value}
    for item in handout.items:
        ids = {"item_id": item.item_id, "batch_id": handout.batch_id, "text_hash": item.text_hash}
        yield item, {"context": beside(item)} if with_context else {}, ids | optional


def write_list(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list, one entry per line, in ASCII, which is safe whatever encoding a tool assumes."""
    path.write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n", encoding="ascii", newline="\n")


def write_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines in ASCII, like `write_list`."""
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="ascii", newline="\n")


def read_entries(path: Path) -> Iterator[Entry]:
    """Read the objects of a JSON list or of JSON lines; blank lines are left out.

    Raises:
        BatchError: The file cannot be read, or an entry is not a JSON object; the error names file and row.
    """
    text = _text(path)
    start = _after_space(text, 0)
    if text.startswith("[", start):
        yield from _listed(path, text, start + 1)
        return
    for row, line in enumerate(text.split("\n"), start=1):
        if line.strip(" \t\r"):
            yield _entry(f"{path}, row {row}", row, line.strip(" \t\r"), 0, fills_line=True)[0]


def cell(value: object) -> str:
    """Convert a value to the text of a table cell."""
    if isinstance(value, str):
        return as_unicode(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "(a JSON object)" if isinstance(value, dict) else "(a JSON list)"
    return id_text(value) or ""


def chosen(value: object) -> str:
    """The label that a tool's choice stands for; several choices are joined, which is not a valid answer."""
    return ", ".join(map(cell, value)) if isinstance(value, list) else cell(value)


def shown(value: object) -> str:
    """A value, shortened for an error."""
    return cell(value)[:80]


def _text(path: Path) -> str:
    if path.is_file() and path.stat().st_size == 0:  # an export without answers
        return ""
    try:
        head = readable_file(path)
        if path.stat().st_size > MAX_BYTES:
            raise BatchError(
                f"{path} has {path.stat().st_size:,} bytes.", hint="Export only this batch, or split the file."
            )
        encoding = find_encoding(path, head)
        with path.open("rb") as binary, open_text(binary, encoding) as file:
            return file.read().removeprefix("\ufeff")
    except SourceError as error:
        raise BatchError(error.what, hint="Use the tool's JSON export, unpacked.") from error


def _listed(path: Path, text: str, position: int) -> Iterator[Entry]:
    row, position = 0, _after_space(text, position)
    while not text.startswith("]", position):
        row += 1
        entry, position = _entry(f"{path}, entry {row}", row, text, position)
        position = _after_space(text, position)
        if text.startswith(",", position):
            position = _after_space(text, position + 1)
        elif not text.startswith("]", position):
            raise entry.fault("it is not followed by a comma or the end of the list")
        yield entry
    if text[position + 1 :].strip(" \t\r\n"):
        raise BatchError(f"{path} has text after its list.", hint="Export it again from the tool.")


def _entry(place: str, row: int, text: str, position: int, *, fills_line: bool = False) -> tuple[Entry, int]:
    """The object at a position, and its end position."""
    malformed = Entry(row, place, {})
    try:
        values, end = _DECODER.raw_decode(text, position)
    except ValueError as error:
        raise malformed.fault(f"not JSON ({error})") from error
    except RecursionError as error:
        raise malformed.fault("nested too deeply") from error
    if fills_line and end < len(text):
        raise malformed.fault("not a single JSON object per line")
    if not isinstance(values, dict):
        raise malformed.fault("not a JSON object")
    return Entry(row, place, values), end


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)!r} occurs twice")
    return values


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
