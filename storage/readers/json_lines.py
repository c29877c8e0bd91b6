"""Read JSON lines and JSON arrays: one object per row, with the same keys as the columns of a CSV file."""

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
from storage.readers.columns import ColumnRequest, choose_columns, layout_of, unique_names
from storage.readers.delimited import SAMPLE_LINES, sample_lines
from storage.readers.file_kinds import NAMES, next_lines, open_text
from storage.readers.rows import Cells, checked, string_cells, with_all_rows
from storage.readers.source import Chunk, Layout, Reject, Source, shortened
from storage.readers.spellings import id_text, label_text

MAX_ARRAY_BYTES = 500_000_000
"""An array must fit into memory; JSON lines are read in chunks."""


@dataclass(frozen=True)
class _Keys:
    """The keys to read.

    Attributes:
        context: What is kept beside the text; None for all other keys.
    """

    texts: tuple[str, ...]
    item_id: str | None = None
    date: str | None = None
    label: str | None = None
    context: tuple[str, ...] | None = ()

    def text_only(self) -> _Keys:
        return _Keys(self.texts)

    def context_of(self, record: Mapping[str, Any]) -> str | None:
        """Return the context of a record as JSON; None if there is none."""
        if self.context is None:
            excluded = {*self.texts, self.item_id, self.label}
            kept = {key: value for key, value in record.items() if key not in excluded}
        else:
            kept = {key: record[key] for key in self.context if key in record}
        return json.dumps(kept, ensure_ascii=False) if kept else None


@dataclass(frozen=True)
class _Part:
    """Some entries of a file.

    Attributes:
        entries: Row number and object; in place of an object that cannot be read, the reason as a string.
        shown: The entries as the rejects show them.
    """

    entries: Sequence[tuple[int, Any]]
    shown: Sequence[str]
    bytes_read: int


def open_json(path: Path, encoding: str, request: ColumnRequest) -> Source:
    """Detect the keys to read in JSON lines or in the objects of a JSON array.

    Raises:
        SourceError: The file has no objects, a key is repeated, or the choice of a key is ambiguous.
    """
    entries = _read_array(path, encoding)
    return open_records(path, "JSON lines" if entries is None else "JSON array", encoding, entries, request)


def open_records(path: Path, name: str, encoding: str, entries: list[Any] | None, request: ColumnRequest) -> Source:
    """Detect the keys to read in records.

    Args:
        path: The file.
        name: The name of its format.
        encoding: Its encoding.
        entries: The records; None for the lines of the file.
        request: The columns that the user requested.

    Raises:
        SourceError: As `open_json`.
    """
    lines = sample_lines(path, encoding) if entries is None else []
    values = [_parse_object(line) for line in lines] if entries is None else entries[:SAMPLE_LINES]
    _require_unique_keys(path, lines)
    objects = [value for value in values if isinstance(value, dict)]
    if entries == []:
        raise SourceError(f"{path} is an empty JSON array.", hint="A file needs at least one text.")
    if not objects:
        raise _no_objects_error(path, encoding, entries)
    names = list(dict.fromkeys(key for record in objects for key in record))
    wrapped = len(values) == 1 and any(_holds_objects(value) for value in objects[0].values())
    if wrapped or not any(isinstance(value, str) for record in objects for value in record.values()):
        message = f"The objects of {path} contain no text. Their keys: {', '.join(map(repr, names[:20]))}."
        raise SourceError(message, hint=_flatten_hint(path, objects[0], "" if entries is None else ".[]"))
    sample = [[_cell(record.get(key)) for key in names] for record in objects]
    columns = choose_columns(path, names, sample, request)
    single = (columns.item_id, columns.date, columns.label)
    item_id, date, label = (None if position is None else names[position] for position in single)
    context = None if request.context is None else tuple(names[at] for at in columns.context.values())
    keys = _Keys(tuple(names[at] for at in columns.texts), item_id, date, label, context)
    size = path.stat().st_size

    def read(count: int, all_columns: bool) -> Iterator[Chunk]:
        parts = _parts_of_lines(path, encoding, count) if entries is None else _parts_of_array(entries, size, count)
        if not all_columns:
            yield from (_chunk(path, part, keys) for part in parts)
            return
        all_names = dict.fromkeys(names)  # keys that are not in the sample are appended
        first_pass = (
            _parts_of_lines(path, encoding, count) if entries is None else [_Part(list(enumerate(entries)), [], 0)]
        )
        for part in first_pass:
            for _, value in part.entries:
                all_names.update(dict.fromkeys(value) if isinstance(value, dict) else {})
        yield from (_with_all_rows(_chunk(path, part, keys.text_only()), part, list(all_names), keys) for part in parts)

    form = Layout(f"{name}, {NAMES.get(encoding, encoding)}", encoding)
    return Source(path, size, layout_of(form, columns, names, sample, path), read)


def _flatten_hint(path: Path, value: Any, before: str = "") -> str:
    """Return the hint with the jq command that writes the nested objects with texts as JSON lines."""
    texts_path = _path_of_texts(value)
    if texts_path is None:
        return 'Write one object per line: {"text": "..."}'
    quoted = f"'{before}{texts_path}'" if "'" not in texts_path else shlex.quote(before + texts_path)
    return f"Extract the objects with texts: jq -c {quoted} {shlex.quote(path.name)} > flat.jsonl"


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _path_of_texts(value: Any, depth: int = 20) -> str | None:
    """Return the jq path of the first objects with a text, preferring lists of objects; None if there are none.

    >>> _path_of_texts({"meta": "1.0", "data": [{"text": "a"}]}), _path_of_texts({"a b": {"c": {"text": "a"}}})
    ('.data[]', '."a b".c')
    """
    if isinstance(value, list):
        paths = (_path_of_texts(element, depth - 1) for element in value[:20] if depth)
        return next((f"[]{path}" for path in paths if path is not None), None)
    if not isinstance(value, dict) or not depth:
        return None
    if any(isinstance(field, str) for field in value.values()) and not any(map(_holds_objects, value.values())):
        return ""
    for key in sorted(value, key=lambda key: not _holds_objects(value[key])):
        if (path := _path_of_texts(value[key], depth - 1)) is not None:
            name = key if key.isidentifier() and key.isascii() else json.dumps(key, ensure_ascii=False)
            return f".{name}{path}"
    return None


def _require_unique_keys(path: Path, lines: Sequence[str]) -> None:
    """Raise a `SourceError` if an object repeats a key: the parser would keep only the last value."""
    number = 0

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(record := dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            repeated = next(name for name in record if names.count(name) > 1)
            message = f"Line {number} of {path} has the key {repeated!r} more than once."
            raise SourceError(message, hint="Rename one of the keys in the program that writes the file.")
        return record

    for number, line in enumerate(lines, start=1):  # noqa: B007  # read by `unique`
        with suppress(ValueError, RecursionError):  # reported with the rejected rows
            json.loads(line, object_pairs_hook=unique)


def _read_array(path: Path, encoding: str) -> list[Any] | None:
    """Return the entries of a file that is one JSON array; None for any other file.

    Raises:
        SourceError: The array is incomplete or too large.
    """
    first = next((line.lstrip("\ufeff \t") for line in sample_lines(path, encoding) if line.strip("\ufeff \t\r\n")), "")
    if not first.startswith("["):
        return None
    hint = f"Write one object per line: jq -c '.[]' {path.name} > {path.stem}.jsonl"
    if path.stat().st_size > MAX_ARRAY_BYTES:
        message = f"{path} is a JSON array of {path.stat().st_size:,} bytes (limit: {MAX_ARRAY_BYTES:,})."
        raise SourceError(message, hint=hint)
    with path.open("rb") as binary, open_text(binary, encoding) as stream:
        try:
            values = json.loads(stream.read().removeprefix("\ufeff"))
        except (ValueError, RecursionError) as error:
            if isinstance(_parse_object(first), dict) or _is_complete(first):
                return None  # JSON lines whose first line is an array
            raise SourceError(f"{path} is not a complete JSON array: {error}.", hint="Export it again.") from error
    texts = ({"text": value} if isinstance(value, str) else value for value in values)
    return [value if isinstance(value, dict) else "not a JSON object" for value in texts]


def _is_complete(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _no_objects_error(path: Path, encoding: str, entries: list[Any] | None) -> SourceError:
    """Return the error of a file without objects, with the command that converts it to JSON lines."""
    hint = 'Write one object per line: {"text": "..."}'
    if path.stat().st_size <= MAX_ARRAY_BYTES:
        with path.open("rb") as binary, open_text(binary, encoding) as stream:
            content = _parse_object(stream.read().removeprefix("\ufeff"))
        if isinstance(content, dict):
            one_line = f"Write the object on one line: jq -c . {path.name}"
            hint = _flatten_hint(path, content) if _path_of_texts(content) else one_line
    part = "line" if entries is None else "entry"
    return SourceError(f"No {part} of {path} is a JSON object.", hint=hint)


def _parts_of_array(entries: Sequence[Any], size: int, count: int) -> Iterator[_Part]:
    for start in range(0, len(entries), count):
        part = [(start + i + 1, value) for i, value in enumerate(entries[start : start + count])]
        yield _Part(part, [_as_json(value) for _, value in part], size * (start + len(part)) // len(entries))


def _parts_of_lines(path: Path, encoding: str, count: int) -> Iterator[_Part]:
    size = path.stat().st_size
    row = 1
    with path.open("rb") as binary, open_text(binary, encoding) as stream:
        while lines := next_lines(stream, count, first=row == 1):
            entries = [(row + i, _parse_object(line)) for i, line in enumerate(lines)]
            row += len(lines)
            yield _Part(entries, lines, min(binary.tell(), size))


def _with_all_rows(chunk: Chunk, part: _Part, names: Sequence[str], keys: _Keys) -> Chunk:
    """Add every row but blank lines to a chunk, with the values of all keys as strings."""
    rows = [
        row for row, shown in zip(part.entries, part.shown, strict=True) if isinstance(row[1], dict) or shown.strip()
    ]
    records = [value if isinstance(value, dict) else {} for _, value in rows]
    cells = [string_cells([_as_string(record.get(name)) for record in records]) for name in names]
    ids = None if keys.item_id is None else [id_text(record.get(keys.item_id)) for record in records]
    numbers = np.array([row for row, _ in rows], dtype=np.int64)
    return with_all_rows(chunk, numbers, pa.table(cells, names=unique_names(names)), ids)


def _as_string(value: object) -> str | None:
    """Return a value of any type as a string: strings unchanged, others as JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _chunk(path: Path, part: _Part, keys: _Keys) -> Chunk:
    """Check the entries one by one, so that a malformed one does not affect the others."""
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
    texts = [[_cell(record.get(key)) for record in records] for key in keys.texts]
    cells = Cells(
        texts[0],
        None if keys.item_id is None else [id_text(record.get(keys.item_id)) for record in records],
        None if keys.date is None else [_cell(record.get(keys.date)) for record in records],
        None if keys.label is None else [label_text(record.get(keys.label)) for record in records],
        texts[1:],
        () if keys.context == () else string_cells(list(map(keys.context_of, records))),
    )
    rows = np.array([entries[i][0] for i, _ in good], dtype=np.int64)
    table, rejected = checked(str(path), rows, cells, lambda k: shown[good[k][0]])
    return Chunk(table, sorted(rejects + rejected, key=lambda reject: reject.row), part.bytes_read)


def _parse_object(line: str) -> dict[str, Any] | str:
    """Return the object of a line, or the reason why it has none."""
    try:
        value = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else f"not JSON: {error}"
    except RecursionError:
        return "not readable JSON: nested too deeply"
    return value if isinstance(value, dict) else "not a JSON object"


def _fault(record: dict[str, Any], keys: _Keys) -> str | None:
    if not any(key in record for key in keys.texts):
        return f"the key {keys.texts[0]!r} is missing"
    for key in keys.texts:
        text = record.get(key)
        if text is not None and (not isinstance(text, str | int | float) or isinstance(text, bool)):
            return f"{key!r} is not a string"
    if keys.label is not None and label_text(record.get(keys.label)) is None:
        return f"{keys.label!r} is not a single label: {_as_json(record[keys.label])}"
    return None


def _as_json(value: object) -> str:
    return value if isinstance(value, str) else shortened(json.dumps(value, ensure_ascii=False))


def _cell(value: object) -> str:
    """Return a value as CSV would have it; of a list with one element, this element."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | list):
        return label_text(value) or ""
    return "" if value is None or isinstance(value, dict) else id_text(value) or ""
