"""JSON lines: one object a line, its keys named as the columns of a CSV file would be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import SourceError
from storage.readers.columns import choose_columns, described
from storage.readers.delimited import sample_lines
from storage.readers.file_kinds import NAMES, next_lines, open_text
from storage.readers.rows import checked, id_text, shortened
from storage.readers.source import Chunk, Reject, Source

Keys = tuple[str, str | None, str | None]  # of the text, the id, the date


def open_json_lines(path: Path, encoding: str, *, text_column: str | None, id_column: str | None) -> Source:
    """Find out which keys matter.

    Raises:
        SourceError: no line is a JSON object, or the key of the texts cannot be told.
    """
    found = [_object(line) for line in sample_lines(path, encoding)]
    objects = [value for value in found if isinstance(value, dict)]
    if not objects:
        hint = f"one object a line is needed: jq -c . {path.name} > lines.jsonl"
        raise SourceError(f"No line of {path} is a JSON object.", hint=hint)
    names = list(dict.fromkeys(name for record in objects for name in record))
    sample = [[_plain(record.get(name)) for name in names] for record in objects]
    columns = choose_columns(path, names, sample, text_column, id_column)
    keys: Keys = (
        names[columns.text],
        None if columns.item_id is None else names[columns.item_id],
        None if columns.date is None else names[columns.date],
    )

    def read(count: int) -> Iterator[Chunk]:
        return _chunks(path, encoding, keys, count)

    said = f"JSON lines, {NAMES.get(encoding, encoding)}; {described(columns, names, sample)}"
    return Source(path, path.stat().st_size, said, read)


def _chunks(path: Path, encoding: str, keys: Keys, count: int) -> Iterator[Chunk]:
    size = path.stat().st_size
    row = 1
    with path.open("rb") as binary, open_text(binary, encoding) as stream:
        while lines := next_lines(stream, count, first=row == 1):
            chunk = _chunk(path, lines, row, keys)
            row += len(lines)
            done = binary.tell()
            yield Chunk(chunk.table, chunk.rejects, min(done, size))


def _chunk(path: Path, lines: list[str], first_row: int, keys: Keys) -> Chunk:
    """The rows of some lines; each line alone, so that a bad one costs no other."""
    text_key, id_key, date_key = keys
    rejects: list[Reject] = []
    good: list[tuple[int, dict[str, Any]]] = []
    for i, line in enumerate(lines):
        value = _object(line)
        fault = value if isinstance(value, str) else _fault(value, text_key)
        if fault is None and isinstance(value, dict):
            good.append((i, value))
        elif line.strip():
            rejects.append(Reject(str(path), first_row + i, shortened(line), str(fault)))
    table, unfit = checked(
        str(path),
        np.array([first_row + i for i, _ in good], dtype=np.int64),
        [record[text_key] for _, record in good],
        None if id_key is None else [id_text(record.get(id_key)) for _, record in good],
        None if date_key is None else [_plain(record.get(date_key)) for _, record in good],
        lambda k: lines[good[k][0]],
    )
    return Chunk(table, sorted(rejects + unfit, key=lambda reject: reject.row), 0)


def _object(line: str) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it."""
    try:
        value = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else f"not JSON: {error}"
    except RecursionError:
        return "not JSON that can be read: nested too deeply"
    return value if isinstance(value, dict) else "not a JSON object"


def _fault(record: dict[str, Any], text_key: str) -> str | None:
    if text_key not in record:
        return f"the key {text_key!r} is missing"
    if not isinstance(record[text_key], str):
        return f"{text_key!r} is not a string"
    return None


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or isinstance(value, dict | list) else id_text(value) or ""
