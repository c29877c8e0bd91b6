"""JSON lines and JSON arrays: one object a row, its keys named as the columns of a CSV file would be."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.errors import SourceError
from storage.readers.columns import Asked, choose_columns, layout_of, unique_names
from storage.readers.delimited import SAMPLE_LINES, sample_lines
from storage.readers.file_kinds import NAMES, next_lines, open_text
from storage.readers.rows import Cells, checked, string_cells, with_all_rows
from storage.readers.source import Chunk, Layout, Reject, Source, shortened
from storage.readers.spellings import id_text, label_text

MOST_ARRAY_BYTES = 500_000_000
"""An array is read whole; JSON lines are not."""


@dataclass(frozen=True)
class _Keys:
    """The keys that matter.

    Attributes:
        context: What is kept beside the text; None for all other keys.
    """

    texts: tuple[str, ...]
    item_id: str | None = None
    date: str | None = None
    label: str | None = None
    context: tuple[str, ...] | None = ()

    def text_alone(self) -> _Keys:
        return _Keys(self.texts)

    def context_of(self, record: Mapping[str, Any]) -> str | None:
        """What is kept of a record, as JSON; None for nothing."""
        if self.context is None:
            apart = {*self.texts, self.item_id, self.label}
            kept = {key: value for key, value in record.items() if key not in apart}
        else:
            kept = {key: record[key] for key in self.context if key in record}
        return json.dumps(kept, ensure_ascii=False) if kept else None


@dataclass(frozen=True)
class _Part:
    """Some entries: row, and the value there, of which a string says what is wrong; and as a reject shows them."""

    entries: Sequence[tuple[int, Any]]
    shown: Sequence[str]
    bytes_read: int


def open_json(path: Path, encoding: str, asked: Asked) -> Source:
    """Find out which keys of JSON lines, or of the objects in an array, matter.

    Raises:
        SourceError: no object is there, or the key of the texts cannot be told.
    """
    entries = _array(path, encoding)
    return open_records(path, "JSON lines" if entries is None else "JSON array", encoding, entries, asked)


def open_records(path: Path, name: str, encoding: str, entries: list[Any] | None, asked: Asked) -> Source:
    """Find out which keys of records matter.

    Args:
        name: Of the file's format.
        entries: The records; None for the lines of the file.

    Raises:
        SourceError: No object is there, or the key of the texts cannot be told.
    """
    lines = sample_lines(path, encoding) if entries is None else []
    found = [_object(line) for line in lines] if entries is None else entries[:SAMPLE_LINES]
    _refuse_twice(path, lines)
    objects = [value for value in found if isinstance(value, dict)]
    if entries == []:
        raise SourceError(f"{path} is an empty JSON array.", hint="A file needs at least one text.")
    if not objects:
        raise _no_objects(path, encoding, entries)
    names = list(dict.fromkeys(key for record in objects for key in record))
    wrapped = len(found) == 1 and any(_holds_objects(value) for value in objects[0].values())
    if wrapped or not any(isinstance(value, str) for record in objects for value in record.values()):
        what = f"The objects of {path} hold no text; their keys: {', '.join(map(repr, names[:20]))}."
        raise SourceError(what, hint=_flattened(path, objects[0], "" if entries is None else ".[]"))
    sample = [[_plain(record.get(key)) for key in names] for record in objects]
    columns = choose_columns(path, names, sample, asked)
    single = (columns.item_id, columns.date, columns.label)
    item_id, date, label = (None if position is None else names[position] for position in single)
    context = None if asked.context is None else tuple(names[at] for at in columns.context.values())
    keys = _Keys(tuple(names[at] for at in columns.texts), item_id, date, label, context)
    size = path.stat().st_size

    def read(count: int, all_columns: bool) -> Iterator[Chunk]:
        parts = _parts_of_lines(path, encoding, count) if entries is None else _parts_of_array(entries, size, count)
        if not all_columns:
            yield from (_chunk(path, part, keys) for part in parts)
            return
        every = dict.fromkeys(names)  # keys that the sample does not have come after those of the sample
        again = _parts_of_lines(path, encoding, count) if entries is None else [_Part(list(enumerate(entries)), [], 0)]
        for part in again:
            for _, value in part.entries:
                every.update(dict.fromkeys(value) if isinstance(value, dict) else {})
        yield from (_with_all_rows(_chunk(path, part, keys.text_alone()), part, list(every), keys) for part in parts)

    form = Layout(f"{name}, {NAMES.get(encoding, encoding)}", encoding)
    return Source(path, size, layout_of(form, columns, names, sample, path), read)


def _flattened(path: Path, value: Any, before: str = "") -> str:
    """The command that writes the objects with texts, wherever they are in a value, as JSON lines."""
    place = _place_of_texts(value)
    if place is None:
        return 'One object a line is needed: {"text": "..."}'
    where = f"'{before}{place}'" if "'" not in place else shlex.quote(before + place)
    return f"Write these objects alone: jq -c {where} {shlex.quote(path.name)} > flat.jsonl"


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _place_of_texts(value: Any, depth: int = 20) -> str | None:
    """Where the first objects with a text are in a value, lists of them first, as jq writes it; None where none are.

    >>> _place_of_texts({"meta": "1.0", "data": [{"text": "a"}]}), _place_of_texts({"a b": {"c": {"text": "a"}}})
    ('.data[]', '."a b".c')
    """
    if isinstance(value, list):
        places = (_place_of_texts(each, depth - 1) for each in value[:20] if depth)
        return next((f"[]{place}" for place in places if place is not None), None)
    if not isinstance(value, dict) or not depth:
        return None
    if any(isinstance(each, str) for each in value.values()) and not any(map(_holds_objects, value.values())):
        return ""
    for key in sorted(value, key=lambda key: not _holds_objects(value[key])):
        if (place := _place_of_texts(value[key], depth - 1)) is not None:
            name = key if key.isidentifier() and key.isascii() else json.dumps(key, ensure_ascii=False)
            return f".{name}{place}"
    return None


def _refuse_twice(path: Path, lines: Sequence[str]) -> None:
    """Refuse lines of which one has the same key twice: the parser would keep the last."""
    at = 0

    def single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in found if names.count(name) > 1)
            what = f"Line {at} of {path} has the key {twice!r} more than once."
            raise SourceError(what, hint="Rename one of them where the file is written.")
        return found

    for at, line in enumerate(lines, start=1):  # noqa: B007  # `single` says it
        with suppress(ValueError, RecursionError):  # told row by row
            json.loads(line, object_pairs_hook=single)


def _array(path: Path, encoding: str) -> list[Any] | None:
    """The entries of a file that is one JSON array; None for another one.

    Raises:
        SourceError: The array is broken, or too large to be read whole.
    """
    first = next((line.lstrip("\ufeff \t") for line in sample_lines(path, encoding) if line.strip("\ufeff \t\r\n")), "")
    if not first.startswith("["):
        return None
    hint = f"Write one object a line: jq -c '.[]' {path.name} > {path.stem}.jsonl"
    if path.stat().st_size > MOST_ARRAY_BYTES:
        raise SourceError(f"{path} is one JSON array of {path.stat().st_size:,} bytes.", hint=hint)
    with path.open("rb") as binary, open_text(binary, encoding) as stream:
        try:
            values = json.loads(stream.read().removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            if isinstance(_object(first), dict) or _is_whole(first):
                return None  # an array on the first line, and more below
            raise SourceError(f"{path} is not a whole JSON array: {error}.", hint="Export it again.") from error
    texts = ({"text": value} if isinstance(value, str) else value for value in values)
    return [value if isinstance(value, dict) else "not a JSON object" for value in texts]


def _is_whole(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _no_objects(path: Path, encoding: str, entries: list[Any] | None) -> SourceError:
    """The error of a file without objects, with the command that would make it one of JSON lines."""
    hint = 'One object a line is needed: {"text": "..."}'
    if path.stat().st_size <= MOST_ARRAY_BYTES:
        with path.open("rb") as binary, open_text(binary, encoding) as stream:
            whole = _object(stream.read().removeprefix("\ufeff"))
        if isinstance(whole, dict):
            hint = _flattened(path, whole) if _place_of_texts(whole) else f"Write it in one line: jq -c . {path.name}"
    part = "line" if entries is None else "entry"
    return SourceError(f"No {part} of {path} is a JSON object.", hint=hint)


def _parts_of_array(entries: Sequence[Any], size: int, count: int) -> Iterator[_Part]:
    for start in range(0, len(entries), count):
        part = [(start + i + 1, value) for i, value in enumerate(entries[start : start + count])]
        yield _Part(part, [_dumped(value) for _, value in part], size * (start + len(part)) // len(entries))


def _parts_of_lines(path: Path, encoding: str, count: int) -> Iterator[_Part]:
    size = path.stat().st_size
    row = 1
    with path.open("rb") as binary, open_text(binary, encoding) as stream:
        while lines := next_lines(stream, count, first=row == 1):
            found = [(row + i, _object(line)) for i, line in enumerate(lines)]
            row += len(lines)
            yield _Part(found, lines, min(binary.tell(), size))


def _with_all_rows(chunk: Chunk, part: _Part, names: Sequence[str], keys: _Keys) -> Chunk:
    """A chunk with every row of its part but blank lines, and the values of all keys as strings."""
    rows = [
        row for row, shown in zip(part.entries, part.shown, strict=True) if isinstance(row[1], dict) or shown.strip()
    ]
    records = [value if isinstance(value, dict) else {} for _, value in rows]
    cells = [string_cells([_as_string(record.get(name)) for record in records]) for name in names]
    ids = None if keys.item_id is None else [id_text(record.get(keys.item_id)) for record in records]
    numbers = np.array([row for row, _ in rows], dtype=np.int64)
    return with_all_rows(chunk, numbers, pa.table(cells, names=unique_names(names)), ids)


def _as_string(value: object) -> str | None:
    """A value of any kind as a cell: strings as they are, else JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _chunk(path: Path, part: _Part, keys: _Keys) -> Chunk:
    """The rows of some entries; each alone, so that a bad one costs no other."""
    entries, shown = part.entries, part.shown
    rejects: list[Reject] = []
    good: list[tuple[int, dict[str, Any]]] = []
    for i, (row, value) in enumerate(entries):
        fault = value if isinstance(value, str) else _fault(value, keys)
        if fault is None:
            good.append((i, value))
        elif shown[i].strip():
            rejects.append(Reject(str(path), row, shortened(shown[i]), fault))
    records = [record for _, record in good]
    texts = [[_plain(record.get(key)) for record in records] for key in keys.texts]
    cells = Cells(
        texts[0],
        None if keys.item_id is None else [id_text(record.get(keys.item_id)) for record in records],
        None if keys.date is None else [_plain(record.get(keys.date)) for record in records],
        None if keys.label is None else [label_text(record.get(keys.label)) for record in records],
        texts[1:],
        () if keys.context == () else string_cells(list(map(keys.context_of, records))),
    )
    rows = np.array([entries[i][0] for i, _ in good], dtype=np.int64)
    table, unfit = checked(str(path), rows, cells, lambda k: shown[good[k][0]])
    return Chunk(table, sorted(rejects + unfit, key=lambda reject: reject.row), part.bytes_read)


def _object(line: str) -> dict[str, Any] | str:
    """The object of a line, or what is wrong with it."""
    try:
        value = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else f"not JSON: {error}"
    except RecursionError:
        return "not JSON that can be read: nested too deeply"
    return value if isinstance(value, dict) else "not a JSON object"


def _fault(record: dict[str, Any], keys: _Keys) -> str | None:
    if not any(key in record for key in keys.texts):
        return f"the key {keys.texts[0]!r} is missing"
    for key in keys.texts:
        text = record.get(key)
        if text is not None and (not isinstance(text, str | int | float) or isinstance(text, bool)):
            return f"{key!r} is not a string"
    if keys.label is not None and label_text(record.get(keys.label)) is None:
        return f"{keys.label!r} is not a single label: {_dumped(record[keys.label])}"
    return None


def _dumped(value: object) -> str:
    return value if isinstance(value, str) else shortened(json.dumps(value, ensure_ascii=False))


def _plain(value: object) -> str:
    """A value as a cell of a CSV file; a list of one as what is in it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | list):
        return label_text(value) or ""
    return "" if value is None or isinstance(value, dict) else id_text(value) or ""
