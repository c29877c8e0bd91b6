"""Values written into SQL as literals, quoted so that each comes out as it went in.

DuckDB's Python client looks at every parameter that it binds for pandas' missing values, and so imports pandas, with
numpy and pyarrow, where they are installed: a quarter of a second that a command like `pal status` need not pay for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Parameters = Sequence[Any] | Mapping[str, Any] | None
"""What stands for the `?` of a query in order, or for each `$name` by its name."""

_PLACEHOLDER = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | \$(?P<name>[A-Za-z_]\w*) | (?P<next>\?)""", re.VERBOSE
)
"""A placeholder; or a string, a quoted name or a comment, in which none is looked for."""


def bound(sql: str, parameters: Parameters = None) -> str:
    """`sql` with each placeholder replaced by its parameter as a literal.

    Raises:
        TypeError: A parameter is of a type that has no literal here.
        ValueError: There are more or fewer parameters than placeholders.

    >>> bound("SELECT ?, '?' WHERE name = ?", [1, "it's"])
    "SELECT 1, '?' WHERE name = 'it''s'"
    >>> bound("SELECT $n + $n", {"n": 2})
    'SELECT 2 + 2'
    """
    if not parameters:
        return sql
    by_name = parameters if isinstance(parameters, Mapping) else {}
    in_order = iter(() if isinstance(parameters, Mapping) else parameters)
    used: set[str] = set()

    def replaced(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None and match["next"] is None:
            return match[0]
        try:
            value = next(in_order) if name is None else by_name[name]
        except (StopIteration, KeyError):
            raise ValueError(f"no parameter for {match[0]} of: {sql}") from None
        used.add(name or "")
        return literal(value)

    text = _PLACEHOLDER.sub(replaced, sql)
    unused = [*in_order, *(by_name.keys() - used)]
    if unused:
        raise ValueError(f"{len(unused)} more parameters than placeholders in: {sql}")
    return text


def listed(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """A query for few rows, as one constant: Arrow would take longer to import than the rest of a small command.

    Args:
        rows: Column -> value: texts, numbers, times or None.
        columns: Column -> its type in SQL, in the order of the result.

    >>> print(listed([{"n": 1}], {"n": "BIGINT"}))
    SELECT unnest(from_json('[{"n": 1}]', '[{"n": "BIGINT"}]'), recursive := true)
    """
    texts = [json.dumps(rows, default=str), json.dumps([dict(columns)])]
    return bound("SELECT unnest(from_json(?, ?), recursive := true)", texts)


def literal(value: Any) -> str:
    """A value as SQL: NULL, a Boolean, a number, a time, a text, or a list of texts.

    Raises:
        TypeError: It is of another type.

    >>> literal(None), literal(True), literal(0.5), literal(["a", "b"])
    ('NULL', 'true', "'0.5'::DOUBLE", 'from_json(\\'["a", "b"]\\', \\'["VARCHAR"]\\')')
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return f"'{float(value)!r}'::DOUBLE" if math.isfinite(value) else f"'{value}'::DOUBLE"
    if isinstance(value, str):
        parts = [quoted(part) for part in str(value).split("\0")]
        return f"({' || chr(0) || '.join(parts)})" if len(parts) > 1 else parts[0]
    if isinstance(value, datetime):
        return f"{'TIMESTAMPTZ' if value.tzinfo else 'TIMESTAMP'} '{value.isoformat(' ')}'"
    if isinstance(value, (list, tuple)) and all(isinstance(text, str) for text in value):
        # One constant, however many texts: a list of as many literals takes the parser a hundred times as long.
        return f"""from_json({quoted(json.dumps(value))}, '["VARCHAR"]')"""
    raise TypeError(f"a {type(value).__name__} cannot be written into SQL")


def quoted(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
