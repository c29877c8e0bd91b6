"""The entries of a tool's JSON: what goes out with every item, and files read strictly, each fault with its place."""

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
from annotation.handout import Handout, beside
from storage.errors import BatchError, SourceError
from storage.readers.file_kinds import find_encoding, open_text, readable_file
from storage.readers.spellings import id_text
from storage.records import BatchItem

LONGEST_S = 1e12
"""A duration beyond this is none."""

_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Entry:
    """One object of a file.

    Attributes:
        row: Its line in JSON lines, its number in a list; from 1.
        place: File and row in words, for errors.
    """

    row: int
    place: str
    values: dict[str, Any]

    def fault(self, what: str) -> BatchError:
        """That the entry is not what the tool writes."""
        hint = "Export it again from the tool; where the file was edited, correct that entry."
        return BatchError(f"{self.place}: {what}.", hint=hint)

    def objects(self, values: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        """The list of objects under a name; empty where there is none.

        Raises:
            BatchError: Something else is there.
        """
        found = values.get(name) or []
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise self.fault(f"{name!r} is not a list of objects")
        return found

    def time(self, value: object) -> datetime | None:
        """A time in UTC: ISO text, UTC where it names no zone, or seconds since 1970; None for none.

        Raises:
            BatchError: It is neither.
        """
        if value is None:
            return None
        with contextlib.suppress(ValueError, OverflowError, OSError):  # told below, as every other value
            if isinstance(value, str):
                when = datetime.fromisoformat(value)
                return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return datetime.fromtimestamp(value, UTC)
        raise self.fault(f"{shown(value)!r} is no time")

    def seconds(self, value: object) -> float | None:
        """A duration; None for none.

        Raises:
            BatchError: It is no number, or beyond `LONGEST_S`.
        """
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LONGEST_S:
            return float(value)
        raise self.fault(f"{shown(value)!r} is no number of seconds")

    def row_of(
        self,
        sent: Mapping[str, Any],
        batch_id: str,
        label: str,
        *,
        note: str = "",
        annotator: str = "",
    ) -> FilledRow:
        """The entry, or one answer in it, as a row.

        Args:
            sent: What went out with the item, as it came back: text, item_id, batch_id, text_hash, annotator.
            batch_id: Of an entry that names none.
            annotator: As the tool names them; whoever the file was made for where it does not.
        """
        cells = {name: cell(sent.get(name)) for name in ("item_id", "batch_id", "text_hash", "workspace_id")}
        if sent.get("text") is not None:
            cells["text"] = cell(sent["text"])
        cells |= {"label": label, "note": note, "annotator": annotator or cell(sent.get("annotator"))}
        return filled_row(self.row, cells, batch_id)


def has_context(handout: Handout) -> bool:
    """Whether something is shown beside the texts; then beside each, as tools want the same keys in all entries."""
    return any(map(beside, handout.items))


def outgoing(handout: Handout) -> Iterator[tuple[BatchItem, dict[str, str], dict[str, str]]]:
    """Every item with what is shown beside its text, and with what is sent to come back with its answers."""
    context = has_context(handout)
    more = {"annotator": handout.annotator, "workspace_id": handout.workspace_id}
    named = {name: value for name, value in more.items() if value}
    for item in handout.items:
        sent = {"item_id": item.item_id, "batch_id": handout.batch_id, "text_hash": item.text_hash}
        yield item, {"context": beside(item)} if context else {}, sent | named


def write_list(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON list, one entry a line; in ASCII, which tools read alike whatever encoding they take it for."""
    path.write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n", encoding="ascii", newline="\n")


def write_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines; in ASCII, as `write_list`."""
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="ascii", newline="\n")


def read_entries(path: Path) -> Iterator[Entry]:
    """Every object of a JSON list, or of JSON lines; blank lines are left out.

    Raises:
        BatchError: The file cannot be read, or an entry is broken or no object; names file and row.
    """
    text = _text(path)
    start = _after_space(text, 0)
    if text.startswith("[", start):
        yield from _listed(path, text, start + 1)
        return
    for row, line in enumerate(text.split("\n"), start=1):
        if line.strip(" \t\r"):
            yield _entry(f"{path}, row {row}", row, line.strip(" \t\r"), 0, alone=True)[0]


def cell(value: object) -> str:
    """A value as a cell of a table; numbers as they are written."""
    if isinstance(value, str):
        return as_unicode(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "(a JSON object)" if isinstance(value, dict) else "(a JSON list)"
    return id_text(value) or ""


def chosen(value: object) -> str:
    """The label that a tool's choice stands for; several are joined, and are then no answer."""
    return ", ".join(map(cell, value)) if isinstance(value, list) else cell(value)


def shown(value: object) -> str:
    """A value as an error shows it."""
    return cell(value)[:80]


def _text(path: Path) -> str:
    if path.is_file() and path.stat().st_size == 0:  # the export of someone who has not begun
        return ""
    try:
        head = readable_file(path)
        if path.stat().st_size > MAX_BYTES:
            raise BatchError(f"{path} has {path.stat().st_size:,} bytes.", hint="export the batch alone, or split it.")
        encoding = find_encoding(path, head)
        with path.open("rb") as binary, open_text(binary, encoding) as file:
            return file.read().removeprefix("\ufeff")
    except SourceError as error:
        raise BatchError(error.what, hint="put the tool's JSON export there, unpacked.") from error


def _listed(path: Path, text: str, at: int) -> Iterator[Entry]:
    row, at = 0, _after_space(text, at)
    while not text.startswith("]", at):
        row += 1
        entry, at = _entry(f"{path}, entry {row}", row, text, at)
        at = _after_space(text, at)
        if text.startswith(",", at):
            at = _after_space(text, at + 1)
        elif not text.startswith("]", at):
            raise entry.fault("neither a comma nor the end of the list follows it")
        yield entry
    if text[at + 1 :].strip(" \t\r\n"):
        raise BatchError(f"{path} goes on after its list.", hint="export it again from the tool.")


def _entry(place: str, row: int, text: str, at: int, *, alone: bool = False) -> tuple[Entry, int]:
    """The object at a position, and where it ends."""
    broken = Entry(row, place, {})
    try:
        values, end = _DECODER.raw_decode(text, at)
    except ValueError as error:
        raise broken.fault(f"not JSON ({error})") from error
    except RecursionError as error:
        raise broken.fault("nested too deeply") from error
    if alone and end < len(text):
        raise broken.fault("not one JSON object alone on its line")
    if not isinstance(values, dict):
        raise broken.fault("not a JSON object")
    return Entry(row, place, values), end


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)!r} stands there twice")
    return values


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
