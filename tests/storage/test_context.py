"""Columns of items: which there are, and `[sampling] where` as a query that can do nothing else."""

from __future__ import annotations

import json

import pytest
from lake_rows import add_rows

from storage.errors import ConfigError
from storage.lake.connection import bound
from storage.lake.context import check_columns, check_where, known_columns, matching_items
from storage.lake.store import Store
from storage.workspace import Workspace

COLUMNS = {
    "a": {"lang": "en", "date": "2026-01-02", "year": "2026", 'odd "/~ name': "it's"},
    "b": {"lang": "de", "date": "2025-12-31", "year": "n/a", "n": 7},
    "c": {"LANG": "fr"},
    "d": None,
}


@pytest.fixture(scope="module")
def full(shared_workspace: Workspace) -> Store:
    store = shared_workspace.store()
    add_rows(store, [(key, f"text {key}") for key in COLUMNS])
    for key, columns in COLUMNS.items():
        text = None if columns is None else json.dumps(columns)
        change = bound("UPDATE lake.items SET context = ? WHERE item_id = ?", [text, key])
        store.write(lambda connection, change=change: connection.execute(change), "context")
    return store


@pytest.mark.parametrize(
    ("where", "through"),
    [
        ("", "abcd"),
        ("lang = 'en' AND date >= '2026-01-01'", "a"),
        ("lang IS NULL -- a note", "cd"),
        ("\"odd \"\"/~ name\" = 'it''s' OR n = '7'", "ab"),
        ("TRY_CAST(year AS INTEGER) > 2000 OR lower(lang) LIKE 'D%' OR lang IN ('d', 'de')", "ab"),
        ("CASE WHEN starts_with(date, '2025') THEN NOT false ELSE NULL END", "b"),
    ],
)
def test_a_condition_lets_its_items_through(full: Store, where: str, through: str) -> None:
    check_where(full, where)
    assert "".join(sorted(key for (key,) in full.rows(matching_items(where)))) == through


@pytest.mark.parametrize(
    "where",
    [
        "lang = (SELECT 'en')",
        "EXISTS (FROM lake.items)",
        "lang IN (SELECT text FROM read_text('/etc/passwd'))",
        "getenv('HOME') = lang",
        "read_text('/etc/passwd') = lang",
        "lang = 'en'; DELETE FROM lake.items",
        "lang = 'en') UNION SELECT item_id FROM lake.items WHERE (true",
        "lang = 'en') ORDER BY (1",
        "count(*) > 1",
        "row_number() OVER () = 1",
        "len(list_filter([lang], x -> x = 'en')) = 1",
        "main.lower(lang) = 'en'",
        "items.lang = 'en'",
        "* = 'en'",
        "lang = ?",
        "lang =",
        "",
        "year > 2000",
        "year::INTEGER > 2000",
        "regexp_matches(lang, '(')",
        "lang = 'es'",
    ],
)
def test_whatever_else_is_refused(full: Store, where: str) -> None:
    version = full.version()
    with pytest.raises(ConfigError, match="where"):
        check_where(full, where or " ")
    assert full.version() == version


def test_an_unknown_column_is_named_with_those_that_there_are(full: Store) -> None:
    assert known_columns(full) == sorted(["LANG", "date", "lang", "n", 'odd "/~ name', "year"])
    check_columns(full, ["LANG", "n"], "x")
    for check in (lambda: check_where(full, "langu = 'en'"), lambda: check_columns(full, ["langu"], "[batch] context")):
        with pytest.raises(ConfigError, match="'langu'") as caught:
            check()
        assert all(value in caught.value.hint for value in ("'lang'?", "'date'", "'year'"))


def test_no_item_has_a_column_before_any_is_imported_with_one(store: Store) -> None:
    assert known_columns(store) == []
    with pytest.raises(ConfigError, match="'url'"):
        check_columns(store, ["url"], "[batch] context")
