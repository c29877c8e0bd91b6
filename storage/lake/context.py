"""Context: the extra columns of a text, one JSON text per item, shown and filtered by but never learned from.

`[sampling] where` is turned into a query for item ids here: DuckDB's own parser parses it, and only an allowlist of
expressions is accepted, so that it can neither read a file nor change anything.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import duckdb

from storage.errors import ConfigError, StoreError
from storage.lake.connection import bound, quoted
from storage.lake.store import Store
from storage.readers.columns import unique_names
from storage.records import BatchItem

_CLASSES = {"COLUMN_REF", "CONSTANT", "COMPARISON", "CONJUNCTION", "OPERATOR", "BETWEEN", "CASE", "CAST", "FUNCTION"}
"""Allowed classes of expressions: no subquery, window function or lambda."""

_FUNCTIONS = {
    "~~", "!~~", "~~*", "!~~*", "~~~", "||", "+", "-", "*", "/", "//", "%", "^@", "lower", "upper", "trim",
    "ltrim", "rtrim", "length", "contains", "starts_with", "prefix", "suffix", "ends_with", "regexp_matches",
    "regexp_full_match", "regexp_extract", "replace", "substring", "substr", "left", "right", "strpos",
    "split_part", "concat", "abs", "round", "floor", "ceil", "greatest", "least", "coalesce", "ifnull", "nullif",
    "year", "month", "day", "date_part", "date_trunc", "strptime", "try_strptime", "make_date",
}  # fmt: skip
"""Allowed functions of texts, numbers and dates."""


def column_sql(name: str) -> str:
    """SQL for a context column of a row of `lake.items`; a JSON pointer works for any name.

    >>> print(column_sql("a/b's"))
    json_extract_string(context, '/a~1b''s')
    """
    return f"json_extract_string(context, {quoted('/' + name.replace('~', '~0').replace('/', '~1'))})"


def selected_columns(columns: Sequence[str], beside: Sequence[str]) -> str:
    """SQL for context columns to append to the columns `beside`, with unique names."""
    names = unique_names([*beside, *columns])[len(beside) :]
    return "".join(
        f", {column_sql(column)} AS {_identifier(name)}" for column, name in zip(columns, names, strict=True)
    )


def known_columns(store: Store, version: int | None = None) -> list[str]:
    """All context columns of any item, in alphabetical order."""
    at_version = f"AT (VERSION => {int(version)})" if version is not None else ""
    sql = f"SELECT DISTINCT unnest(json_keys(context)) AS name FROM ({items_at(at_version)}) WHERE context IS NOT NULL"
    return sorted(name for (name,) in store.rows(sql))


def items_at(at: str) -> str:
    """Query for the items of a version; of one before schema 6 with an empty `context`."""
    return f"FROM lake.items {at} UNION ALL BY NAME SELECT NULL::VARCHAR AS context WHERE false"


def with_columns(store: Store, items: Sequence[BatchItem], names: Sequence[str]) -> list[BatchItem]:
    """The items with their values of these columns."""
    if not names:
        return list(items)
    sql = "SELECT item_id, context FROM lake.items WHERE item_id IN (SELECT unnest($ids)) AND context IS NOT NULL"
    rows = store.rows(sql, {"ids": [item.item_id for item in items]})
    columns = {item_id: json.loads(context) for item_id, context in rows}
    return [
        replace(item, columns=tuple((name, _shown(context[name])) for name in names if name in context))
        for item in items
        for context in [columns.get(item.item_id, {})]
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_columns(store: Store, names: Sequence[str], setting: str) -> None:
    """Check that items have the columns named in a setting or an option.

    Raises:
        ConfigError: No item has one of them; the hint lists the existing columns.
    """
    if not names or {*names} <= {*_some_columns(store)}:
        return
    existing = known_columns(store)
    unknown = [name for name in names if name not in existing]
    if unknown:
        folded = {name.casefold(): name for name in existing}
        similar = difflib.get_close_matches(unknown[0].casefold(), folded, n=1, cutoff=0.5)
        suggestion = f"Did you mean {folded[similar[0]]!r}? " if similar else ""
        listed = (
            f"Columns: {', '.join(map(repr, existing[:20]))}."
            if existing
            else "Import the file again: it fills them in."
        )
        listed += f" And {len(existing) - 20:,} more." if len(existing) > 20 else ""
        raise ConfigError(f"{setting}: no item has a column {unknown[0]!r}.", hint=suggestion + listed)


def _some_columns(store: Store) -> Iterator[str]:
    """The columns of one item of each source, which suffices for most checks."""
    for (context,) in store.rows("SELECT any_value(context) FROM lake.items GROUP BY source"):
        yield from json.loads(context or "{}")


SETTING = "[sampling] where in pal.toml"


def check_where(store: Store, where: str, setting: str = SETTING) -> None:
    """Check that the condition of a setting or an option can be evaluated.

    Raises:
        ConfigError: It is not a condition on existing columns, or no item fulfills it.
    """
    if not where:
        return
    check_columns(store, _columns_in(_parsed(where, setting)), setting)
    try:
        n = store.rows(f"SELECT count(*) FROM ({matching_items(where)})")[0][0]
    except (duckdb.Error, StoreError) as raised:
        error = raised if isinstance(raised, duckdb.Error) else raised.__cause__
        if not isinstance(error, (duckdb.ProgrammingError, duckdb.DataError, duckdb.NotSupportedError)):
            raise
        reason = str(error).splitlines()[0].partition(": ")[2] or str(error)
        hint = "Every column is text. For numbers write TRY_CAST(score AS DOUBLE) > 0.5."
        raise ConfigError(f"{setting} cannot be evaluated: {reason.rstrip('.')}.", hint=hint) from error
    if not n:
        raise ConfigError(f"No item fulfills {setting}: {where!r}.", hint="Change it, or remove it.")


def matching_items(where: str, version: int | None = None) -> str:
    """Query for the ids of the items that fulfill a condition; all items without one.

    Raises:
        ConfigError: The condition is invalid.
    """
    at_version = f"AT (VERSION => {int(version)})" if version is not None else ""
    if not where:
        return f"SELECT item_id FROM lake.items {at_version}"
    node = _parsed(where)
    columns = {name.casefold(): name for name in _columns_in(node)}
    fields = [f"{column_sql(name)} AS {_identifier(name)}" for name in columns.values()]
    listed = ", ".join([f"item_id AS {_ID}", *fields])
    with duckdb.connect() as connection:
        tree = json.dumps({"error": False, "statements": [{"node": node, "named_param_map": []}]})
        row = connection.execute(bound("SELECT json_deserialize_sql(?::JSON)", [tree])).fetchone()
    return f"WITH {_TABLE} AS (SELECT {listed} FROM lake.items {at_version}) {row[0] if row else ''}"


def among(where: str, version: int | None = None) -> str:
    """SQL for whether the item of `item_id` fulfills a condition."""
    return f"item_id IN ({matching_items(where, version)})" if where else "true"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_ID, _TABLE = "pal_item_id", "pal_columns"


def _parsed(where: str, setting: str = SETTING) -> dict[str, Any]:
    """The syntax tree of a query for the ids of the rows that fulfill a condition.

    Raises:
        ConfigError: It is not a single expression, or has disallowed parts.
    """
    tree, plain = (_tree(f"SELECT {_ID} FROM {_TABLE} WHERE (\n{condition}\n)") for condition in (where, "true"))
    if tree.get("error"):
        raise _refused(setting, str(tree.get("error_message", "")).splitlines()[0] or "it is not SQL")
    nodes = [statement["node"] for statement in tree["statements"]]
    frames = [_without_places({**node, "where_clause": None}) for node in (*nodes, plain["statements"][0]["node"])]
    if len(frames) != 2 or frames[0] != frames[1]:
        raise _refused(setting, "it is more than one expression")
    for part in _parts(nodes[0]["where_clause"]):
        if part["class"] not in _CLASSES:
            raise _refused(setting, f"it contains a {part['class'].lower()}")
        if part["class"] == "FUNCTION" and (part["function_name"] not in _FUNCTIONS or part["schema"]):
            raise _refused(setting, f"the function {part['function_name']!r} is not allowed")
        if part["class"] == "COLUMN_REF" and len(part["column_names"]) > 1:
            raise _refused(setting, f"write {part['column_names'][-1]!r} without a table")
    return dict(nodes[0])


def _tree(sql: str) -> dict[str, Any]:
    with duckdb.connect() as connection:
        row = connection.execute(bound("SELECT json_serialize_sql(?)", [sql])).fetchone()
    return dict(json.loads(row[0])) if row else {}


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    """Every expression in a syntax tree."""
    if isinstance(tree, dict) and "class" in tree:
        yield tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _parts(child)


def _columns_in(node: dict[str, Any]) -> list[str]:
    return [part["column_names"][0] for part in _parts(node["where_clause"]) if part["class"] == "COLUMN_REF"]


def _without_places(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _without_places(value) for name, value in tree.items() if name != "query_location"}
    return [_without_places(child) for child in tree] if isinstance(tree, list) else tree


def _refused(setting: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{setting} is not a condition on columns: {reason.rstrip('.')}.",
        hint="Write a condition such as lang = 'en' AND date >= '2026-01-01'.",
    )
