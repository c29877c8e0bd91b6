"""Rows become records: the one place where columns of a query turn into the fields of a dataclass, by their names."""

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
    """Each row as a record.

    Strings become the enumeration or time, and JSON texts the dict or tuple, that a field is declared as. A field that
    is a dataclass itself takes its fields from the same row. NULL, or no column, in place of a field that cannot be
    None is its default; columns that no field has are left out.

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
        return record(**values, **{name: each(row) for name, each in nested.items()})

    return make


def _converter(hint: Any) -> Callable[[Any], Any]:
    """From what a column holds to what a field is declared as."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _converter(next(each for each in arguments if each is not type(None)))
    if isinstance(hint, type) and (issubclass(hint, Enum) or hint is bool):
        return hint
    if hint is datetime:
        return lambda at: datetime.fromisoformat(at) if isinstance(at, str) else at
    if origin is dict:
        return json.loads
    if origin is tuple:
        of = arguments[0]
        each = (lambda values: of(**values)) if _is_record(of) else of
        return lambda text: tuple(map(each, json.loads(text)))
    return lambda value: value


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)
