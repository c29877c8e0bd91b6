"""Maps rows of a query to dataclass records, by column names."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

Record = TypeVar("Record")


def to_records(record: type[Record], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Record]:
    """Convert each row to a record.

    Strings are converted to the declared enumeration or time, and JSON texts to the declared dict or tuple. A field
    that is itself a dataclass takes its fields from the same row. If a field cannot be None, NULL or a missing column
    gives its default. Columns without a field are ignored.

    Args:
        record: A dataclass.
        columns: Names of the columns, in the order of each row.

    Raises:
        TypeError: A field without a default has no column.

    >>> from storage.records import Proposal
    >>> to_records(Proposal, ["rank", "item_id", "strategy", "score"], [(1, "i7", "entropy", 0.5)])
    [Proposal(item_id='i7', strategy='entropy', score=0.5, rank=1)]
    """
    make = _maker(record)
    return [make(dict(zip(columns, row, strict=True))) for row in rows]


def _maker(record: type[Any]) -> Callable[[Mapping[str, Any]], Any]:
    hints = typing.get_type_hints(record)
    nested = {name: _maker(hint) for name, hint in hints.items() if _is_record(hint)}
    plain = {field.name: _converter(hints[field.name]) for field in dataclasses.fields(record)}
    optional = {name for name, hint in hints.items() if type(None) in typing.get_args(hint)}

    def make(row: Mapping[str, Any]) -> Any:
        values = {
            name: None if row[name] is None else convert(row[name])
            for name, convert in plain.items()
            if name in row and name not in nested and (row[name] is not None or name in optional)
        }
        return record(**values, **{name: make_nested(row) for name, make_nested in nested.items()})

    return make


def _converter(hint: Any) -> Callable[[Any], Any]:
    """A function that converts a column's value to the declared type of a field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _converter(next(argument for argument in arguments if argument is not type(None)))
    if isinstance(hint, type) and (issubclass(hint, Enum) or hint is bool):
        return hint
    if hint is datetime:
        return lambda time: datetime.fromisoformat(time) if isinstance(time, str) else time
    if origin is dict:
        return json.loads
    if origin is tuple:
        element = arguments[0]
        make_element = (lambda values: element(**values)) if _is_record(element) else element
        return lambda text: tuple(map(make_element, json.loads(text)))
    return lambda value: value


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)
