"""Items: each text once, whoever brings it; features once each; the pool in one order."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drafts import publish
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lake_rows import add_rows
from together import together

from storage.lake import items
from storage.lake.annotations import LabelledItem, import_labelled, ingest
from storage.lake.batches import close_batch
from storage.lake.store import Store
from storage.readers.spellings import text_hash
from storage.records import Answer, Split
from storage.workspace import Workspace


def ids(store: Store) -> list[str]:
    return [item_id for (item_id,) in store.rows("SELECT item_id FROM lake.items ORDER BY item_id")]


def features(path: Path, *item_ids: str, tokens: bytes = b"\x00'\xff") -> Path:
    columns = {"item_id": pa.array(item_ids, pa.string()), "tokens": pa.array([tokens] * len(item_ids), pa.binary())}
    pq.write_table(pa.table(columns), path)
    return path


# Texts


def test_texts_that_differ_in_form_case_or_space_are_one_item_the_first(store: Store) -> None:
    done = add_rows(
        store, [("1", "Caf\u00e9 burns"), ("2", "cafe\u0301  BURNS "), ("3", "caf\u00e9 burns"), ("4", "x")]
    )
    assert (done.n_new, done.n_duplicates, done.conflicts.num_rows) == (2, 2, 0)
    rows = store.rows("SELECT item_id, text, text_hash, source FROM lake.items ORDER BY item_id")
    assert rows == [
        ("1", "Caf\u00e9 burns", text_hash("caf\u00e9 burns"), "test.csv"),
        ("4", "x", text_hash("x"), "test.csv"),
    ]


def test_taking_the_same_rows_again_takes_none(store: Store) -> None:
    rows: list[tuple[str | None, str]] = [("1", "one"), (None, "two"), ("1", "other")]
    first = add_rows(store, rows)
    before = store.rows("FROM lake.items ORDER BY ALL")
    again = add_rows(store, rows, "copy.csv")
    assert (first.n_new, again.n_new, again.n_duplicates) == (2, 0, 2)
    assert again.conflicts.equals(first.conflicts)
    assert store.rows("FROM lake.items ORDER BY ALL") == before


def test_an_id_that_stands_for_another_text_comes_back_with_both(store: Store) -> None:
    add_rows(store, [("1", "in the lake")])
    done = add_rows(store, [("1", "later"), ("2", "first of file"), ("2", "second of file"), ("1", "In the LAKE")])
    assert done.conflicts.to_pylist() == [
        {"row": 1, "item_id": "1", "text": "later", "owner": "in the lake"},
        {"row": 3, "item_id": "2", "text": "second of file", "owner": "first of file"},
    ]
    assert (done.n_new, done.n_duplicates) == (1, 1)
    assert store.rows("SELECT item_id, text FROM lake.items ORDER BY 1") == [
        ("1", "in the lake"),
        ("2", "first of file"),
    ]


def test_a_staging_file_may_have_any_name(store: Store, tmp_path: Path) -> None:
    table = pa.table(
        {"row": [1], "item_id": ["1"], "text": ["one"], "published_at": [datetime(2003, 2, 19, 1, 2, 3, 4)]}
    )
    for name in ("head*[1]'s?.parquet", "head1s.parquet"):
        items.stage([table], tmp_path / name)
    assert items.add_items(store, tmp_path / "head*[1]'s?.parquet", "it's").n_new == 1
    assert store.rows("SELECT published_at, source FROM lake.items") == [(datetime(2003, 2, 19, 1, 2, 3, 4), "it's")]


# The first \0 would end a text in an Arrow of C strings; importing rejects such rows.
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(words | st.text("aAéÉ ß\u0301\x1c\x85"), max_size=30))
def test_the_hash_in_the_lake_is_the_hash_of_the_text(store: Store, texts: list[str]) -> None:
    before = items.count_items(store)
    known = {hashed for (hashed,) in store.rows("SELECT text_hash FROM lake.items")}
    done = add_rows(store, [(None, text) for text in texts])
    fresh = {text_hash(text) for text in texts} - known
    assert done.n_new == len(fresh) == items.count_items(store) - before
    rows = store.rows("SELECT item_id, text, text_hash FROM lake.items")
    assert all(text_hash(text) == hashed and item_id == hashed[:16] for item_id, text, hashed in rows)
    wanted = pa.chunked_array([pa.array(texts, pa.string())])
    assert items.item_ids_of(store, wanted) == [text_hash(text)[:16] for text in texts]


def take_there(root: Path) -> None:
    add_rows(Workspace(root).store(), [(f"i{k}", f"text {k}") for k in range(12_000)])


def test_two_processes_that_import_the_same_file_take_each_text_once(workspace: Workspace) -> None:
    together(take_there, *[(workspace.root,)] * 2)
    found = workspace.store().rows(
        "SELECT count(*), count(DISTINCT item_id), count(DISTINCT text_hash) FROM lake.items"
    )
    assert found == [(12_000, 12_000, 12_000)]


# Finding them


def test_all_texts_come_by_item_id(store: Store) -> None:
    add_rows(store, [("b", "two"), ("10", "x"), ("a", "one"), ("9", "y")])
    assert pa.Table.from_batches(items.all_texts(store)).to_pydict() == {
        "item_id": ["10", "9", "a", "b"],
        "text": ["x", "y", "one", "two"],
    }


def test_the_fixed_sample_is_the_items_whose_ids_have_the_lowest_hash_annotated_or_not(store: Store) -> None:
    names = [f"i{k}" for k in range(40)]
    add_rows(store, [(name, f"text {name}") for name in names])
    wanted = [f"text {name}" for name in sorted(names, key=lambda name: hashlib.md5(name.encode()).hexdigest())]
    assert items.fixed_sample(store, 7) == wanted[:7]
    first = wanted[0].removeprefix("text ")
    ingest(store, publish(store, first, "i1", "i2"), [Answer(first, "yes", "anna")], "f")
    assert items.fixed_sample(store, 7) == wanted[:7]
    assert items.fixed_sample(store, 99) == wanted
    assert items.fixed_sample(store, 0) == []


def test_texts_are_given_by_id_and_unknown_ids_are_left_out(store: Store) -> None:
    add_rows(store, [("a", "it's one"), ("b", 'two "2"'), ("c", "three")])
    assert items.texts_of(store, ["c", "a", "a", "z"]) == {"a": "it's one", "c": "three"}
    assert items.texts_of(store, []) == {}


# Features


def without(store: Store, encoder_id: str) -> list[str]:
    return [
        item_id for each in items.texts_without_features(store, encoder_id) for item_id in each["item_id"].to_pylist()
    ]


def test_features_are_added_once_per_item_and_encoder(store: Store, tmp_path: Path) -> None:
    add_rows(store, [("c", "three"), ("a", "one"), ("b", "two")])
    assert (without(store, "e1"), items.count_without_features(store, "e1")) == (["a", "b", "c"], 3)
    assert items.add_features(store, "e1", features(tmp_path / "f.parquet", "b")) == 1
    assert (without(store, "e1"), items.count_without_features(store, "e1")) == (["a", "c"], 2)
    both = features(tmp_path / "it's [2].parquet", "a", "b", "c", tokens=b"other")
    assert [items.add_features(store, "e1", both) for _ in range(2)] == [2, 0]
    assert (without(store, "e1"), items.count_without_features(store, "e1")) == ([], 0)
    assert (without(store, "e2"), items.count_without_features(store, "e2")) == (["a", "b", "c"], 3)
    assert store.rows("FROM lake.features ORDER BY ALL") == [
        ("e1", "a", b"other"),
        ("e1", "b", b"\x00'\xff"),
        ("e1", "c", b"other"),
    ]


# The pool


def pool(store: Store, encoder_id: str = "e1") -> list[str]:
    return [item_id for each in items.pool_features(store, encoder_id) for item_id in each["item_id"].to_pylist()]


@pytest.fixture
def full(store: Store, tmp_path: Path) -> Store:
    """Six items, p1 to p6, with features."""
    names = [f"p{k}" for k in (4, 2, 6, 1, 3, 5)]
    add_rows(store, [(name, f"text {name}") for name in names])
    items.add_features(store, "e1", features(tmp_path / "f.parquet", *names))
    items.add_features(store, "e2", features(tmp_path / "f.parquet", "p1"))
    return store


def counted(store: Store) -> tuple[list[str], int, dict[Split, int]]:
    return pool(store), items.count_pool(store), items.count_pending(store)


def test_the_pool_is_what_nobody_has_by_item_id(full: Store) -> None:
    assert pool(full) == ["p1", "p2", "p3", "p4", "p5", "p6"]
    assert pool(full, "e2") == ["p1"]
    held_out = [LabelledItem("p5", "yes", "original", None)]
    import_labelled(full, "original-evaluation", Split.EVALUATION, held_out, "d", "dir")
    batch_id = publish(full, "p3", "p1")
    assert counted(full) == (["p2", "p4", "p6"], 3, {Split.TRAINING: 2})
    ingest(full, batch_id, [Answer("p1", "skip", "anna")], "f.csv")
    assert counted(full) == (["p2", "p4", "p6"], 3, {Split.TRAINING: 1})
    close_batch(full, batch_id)
    assert counted(full) == (["p2", "p3", "p4", "p6"], 4, {})


def test_the_counts_of_an_empty_lake_are_0(store: Store) -> None:
    assert (items.count_items(store), items.count_pool(store), items.count_pending(store)) == (0, 0, {})
    assert pool(store) == []


# Vocabularies


def test_the_newest_vocabulary_is_found_and_the_same_one_is_kept_once(store: Store) -> None:
    assert items.newest_vocabulary(store) is None
    for _ in range(2):
        items.add_vocabulary(store, "v1", 10, ["a'b", 'c"d', "\\ü\n", ""])
    assert items.newest_vocabulary(store) == (10, ["a'b", 'c"d', "\\ü\n", ""])
    items.add_vocabulary(store, "v2", 20, ["z"])
    assert items.newest_vocabulary(store) == (20, ["z"])
    assert store.rows("SELECT encoder_id, count(*) FROM lake.vocabularies GROUP BY 1 ORDER BY 1") == [
        ("v1", 1),
        ("v2", 1),
    ]


# Where texts came from


def sources(store: Store) -> list[tuple[Any, ...]]:
    return store.rows("SELECT item_id, source_id, source, source_row FROM lake.item_ids ORDER BY source, source_row")


def test_every_row_under_which_a_text_came_is_known_with_its_id_once(store: Store) -> None:
    for _ in range(2):
        add_rows(
            store, [("a", "Floods"), ("b", "fire"), ("c", "FLOODS"), (None, "fire"), ("a", "another text")], "x.csv"
        )
        add_rows(store, [(None, "floods"), ("d", "fire"), (None, "new")], "y.csv")
    assert sources(store)[:-1] == [
        ("a", None, "x.csv", 1),
        ("b", None, "x.csv", 2),
        ("a", "c", "x.csv", 3),
        ("b", None, "x.csv", 4),
        ("a", None, "y.csv", 1),
        ("b", "d", "y.csv", 2),
    ]
    assert sources(store)[-1][1:] == (None, "y.csv", 3)
