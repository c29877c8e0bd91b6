"""Context: the columns that came with a text, one JSON text an item: shown and filtered by, never learned from.

`[sampling] where` becomes a query for item ids here: DuckDB's own parser takes it apart, and what it may consist of is
listed, so that it can neither read a file nor change anything.
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
"""What an expression may consist of: no subquery, no window, no lambda."""

_FUNCTIONS = {
    "~~", "!~~", "~~*", "!~~*", "~~~", "||", "+", "-", "*", "/", "//", "%", "^@", "lower", "upper", "trim",
    "ltrim", "rtrim", "length", "contains", "starts_with", "prefix", "suffix", "ends_with", "regexp_matches",
    "regexp_full_match", "regexp_extract", "replace", "substring", "substr", "left", "right", "strpos",
    "split_part", "concat", "abs", "round", "floor", "ceil", "greatest", "least", "coalesce", "ifnull", "nullif",
    "year", "month", "day", "date_part", "date_trunc", "strptime", "try_strptime", "make_date",
}  # fmt: skip
"""What it may call: functions of texts, numbers and dates."""


def column_sql(name: str) -> str:
    """SQL for a column of the context of a row of `lake.items`; a JSON pointer finds any name.

    >>> print(column_sql("a/b's"))
    json_extract_string(context, '/a~1b''s')
    """
    return f"json_extract_string(context, {quoted('/' + name.replace('~', '~0').replace('/', '~1'))})"


def selected_columns(columns: Sequence[str], beside: Sequence[str]) -> str:
    """SQL for columns of the context in a list of columns, after others: each with a name that is free."""
    names = unique_names([*beside, *columns])[len(beside) :]
    return "".join(f", {column_sql(column)} AS {_named(name)}" for column, name in zip(columns, names, strict=True))


def known_columns(store: Store, version: int | None = None) -> list[str]:
    """The columns that any item has, in alphabetical order."""
    at = f"AT (VERSION => {int(version)})" if version is not None else ""
    sql = f"SELECT DISTINCT unnest(json_keys(context)) AS name FROM ({items_at(at)}) WHERE context IS NOT NULL"
    return sorted(name for (name,) in store.rows(sql))


def items_at(at: str) -> str:
    """Query for the items of a version; of one before schema 6 with an empty `context`."""
    return f"FROM lake.items {at} UNION ALL BY NAME SELECT NULL::VARCHAR AS context WHERE false"


def with_columns(store: Store, items: Sequence[BatchItem], names: Sequence[str]) -> list[BatchItem]:
    """The items with what they have of these columns."""
    if not names:
        return list(items)
    sql = "SELECT item_id, context FROM lake.items WHERE item_id IN (SELECT unnest($ids)) AND context IS NOT NULL"
    rows = store.rows(sql, {"ids": [item.item_id for item in items]})
    columns = {item_id: json.loads(context) for item_id, context in rows}
    return [
        replace(item, columns=tuple((name, _shown(found[name])) for name in names if name in found))
        for item in items
        for found in [columns.get(item.item_id, {})]
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_columns(store: Store, names: Sequence[str], setting: str) -> None:
    """Make sure that items have these columns, which a setting or an option names.

    Raises:
        ConfigError: None has one of them; lists those that there are.
    """
    if not names or {*names} <= {*_some_columns(store)}:
        return
    known = known_columns(store)
    unknown = [name for name in names if name not in known]
    if unknown:
        folded = {name.casefold(): name for name in known}
        near = difflib.get_close_matches(unknown[0].casefold(), folded, n=1, cutoff=0.5)
        first = f"Did you mean {folded[near[0]]!r}? " if near else ""
        listed = (
            f"Columns: {', '.join(map(repr, known[:20]))}." if known else "Import the file again: it fills them in."
        )
        listed += f" And {len(known) - 20:,} more." if len(known) > 20 else ""
        raise ConfigError(f"{setting}: no item has a column {unknown[0]!r}.", hint=first + listed)


def _some_columns(store: Store) -> Iterator[str]:
    """The columns of one item of each source: a glance that is enough for most files."""
    for (context,) in store.rows("SELECT any_value(context) FROM lake.items GROUP BY source"):
        yield from json.loads(context or "{}")


SETTING = "[sampling] where in pal.toml"


def check_where(store: Store, where: str, setting: str = SETTING) -> None:
    """Make sure that a condition of a setting or an option can be evaluated.

    Raises:
        ConfigError: It is no condition on columns that items have, or no item fulfills it.
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
    """Query for the ids of the items that an expression over their columns lets through, all without one.

    Raises:
        ConfigError: It is no such expression.
    """
    at = f"AT (VERSION => {int(version)})" if version is not None else ""
    if not where:
        return f"SELECT item_id FROM lake.items {at}"
    node = _parsed(where)
    columns = {name.casefold(): name for name in _columns_in(node)}
    fields = [f"{column_sql(name)} AS {_named(name)}" for name in columns.values()]
    listed = ", ".join([f"item_id AS {_ID}", *fields])
    with duckdb.connect() as connection:
        tree = json.dumps({"error": False, "statements": [{"node": node, "named_param_map": []}]})
        row = connection.execute(bound("SELECT json_deserialize_sql(?::JSON)", [tree])).fetchone()
    return f"WITH {_TABLE} AS (SELECT {listed} FROM lake.items {at}) {row[0] if row else ''}"


def among(where: str, version: int | None = None) -> str:
    """SQL for whether an expression lets the item of `item_id` through."""
    return f"item_id IN ({matching_items(where, version)})" if where else "true"


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_ID, _TABLE = "pal_item_id", "pal_columns"


def _parsed(where: str, setting: str = SETTING) -> dict[str, Any]:
    """The syntax tree of a query for the ids of the rows that an expression lets through.

    Raises:
        ConfigError: It is no expression, more than one, or of parts that are not allowed.
    """
    tree, plain = (_tree(f"SELECT {_ID} FROM {_TABLE} WHERE (\n{each}\n)") for each in (where, "true"))
    if tree.get("error"):
        raise _refused(setting, str(tree.get("error_message", "")).splitlines()[0] or "it is no SQL")
    nodes = [statement["node"] for statement in tree["statements"]]
    frames = [_without_places({**each, "where_clause": None}) for each in (*nodes, plain["statements"][0]["node"])]
    if len(frames) != 2 or frames[0] != frames[1]:
        raise _refused(setting, "it is more than one expression")
    for part in _parts(nodes[0]["where_clause"]):
        if part["class"] not in _CLASSES:
            raise _refused(setting, f"it has a {part['class'].lower()}")
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
    for each in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _parts(each)


def _columns_in(node: dict[str, Any]) -> list[str]:
    return [part["column_names"][0] for part in _parts(node["where_clause"]) if part["class"] == "COLUMN_REF"]


def _without_places(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _without_places(value) for name, value in tree.items() if name != "query_location"}
    return [_without_places(each) for each in tree] if isinstance(tree, list) else tree


def _refused(setting: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{setting} is no condition on columns: {reason.rstrip('.')}.",
        hint="Write one such as lang = 'en' AND date >= '2026-01-01'.",
    )
