"""The tables, the migrations that make them, and what the current label of an item is."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb
import pytest
from drafts import draft, labels
from together import together

from storage.lake import schema
from storage.lake.annotations import ingest
from storage.lake.batches import assignments_of, find_batch, reserve
from storage.lake.history import disputed_items
from storage.lake.schema import (
    MIGRATIONS,
    Migration,
    current_labels,
    current_version,
    standing_answers,
)
from storage.lake.store import Connection, Store
from storage.readers.spellings import old_text_hash, text_hash
from storage.records import ORIGINAL, UNNAMED, Answer, Batch, BatchStatus, Share, Split, StopSign
from storage.run_records import runs_of

ROOM = Path(schema.__file__).parent
TIME = datetime(2026, 1, 1)
VERSIONS = "SELECT version FROM lake.schema_versions ORDER BY version"


def opened(root: Path) -> Store:
    return Store(f"sqlite:{root}/catalog.sqlite", f"{root}/data/")


def migrate(store: Store) -> int:
    """Migrate a lake; its runs go beside its catalog."""
    return schema.migrate(store, runs_of(store, Path(store.data).parent))


# Migrations


def test_an_empty_lake_has_version_0_and_migrating_it_twice_is_migrating_it_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        assert current_version(store) == 0
        assert migrate(store) == len(MIGRATIONS) == current_version(store)
        before = store.version()
        assert before == 1, "one commit"
        assert list(tmp_path.glob("*.before-schema-*")) == [], "a new lake needs no backup"
        assert migrate(store) == len(MIGRATIONS)
        assert store.version() == before
        assert store.rows(VERSIONS) == [(version + 1,) for version in range(len(MIGRATIONS))]


def migrate_there(root: Path) -> None:
    with opened(root) as store:
        assert migrate(store) == len(MIGRATIONS)


def test_two_processes_may_migrate_at_the_same_time(tmp_path: Path) -> None:
    together(migrate_there, *[(tmp_path,)] * 2)
    with opened(tmp_path) as store:
        assert store.rows(VERSIONS) == [(version + 1,) for version in range(len(MIGRATIONS))]
        assert store.rows("SELECT count(*) FROM lake.items") == [(0,)]


def test_a_lake_of_an_older_program_gets_the_steps_it_lacks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        schema,
        "MIGRATIONS",
        (*MIGRATIONS, Migration("language", ("ALTER TABLE lake.items ADD COLUMN language VARCHAR",))),
    )
    assert migrate(store) == len(MIGRATIONS) + 1
    assert store.rows("SELECT language FROM lake.items") == []


def test_a_batch_of_schema_version_1_reads_and_works_with_no_strategies_known_and_asks_one_of_each_item_as_it_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id, ids = "b0001-training", ("i1", "i2", "i3")
    with opened(tmp_path) as store:
        monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS[:1])
        assert migrate(store) == 1
        old = "INSERT INTO lake.batches VALUES (?, 'training', 'published', 3, ?, 'm1', 7, 3, 'd', '{\"random\": 3}')"
        store.write(lambda c: c.execute(old, [batch_id, TIME]), "batch")
        for item_id in ids:
            store.write(partial(put, batch_id, item_id), "item")
        annotate(store, "i1", "anna", "yes", batch_id=batch_id)
        annotate(store, "i2", "anna", "unsure", batch_id=batch_id)
        version = store.version()
        monkeypatch.undo()
        assert migrate(store) == len(MIGRATIONS) > 1
        kept = Batch(batch_id, Split.TRAINING, BatchStatus.PUBLISHED, 3, TIME, "m1", 7, 3, "d", {"random": 3}, (), ())
        found = find_batch(store, batch_id)
        assert (found.batch, found.n_answered, found.n_answers) == (kept, 2, 2)
        assert (kept.overlap, kept.formats, assignments_of(store, batch_id)) == (1, (), [])
        assert labels(store, version) == labels(store) == {"i1": "yes", "i2": None}
        assert disputed_items(store) == ["i2"], "one answer is all that it waited for"
        assert ingest(store, batch_id, [Answer("i3", "yes", "anna")], "f").complete
        signs = (StopSign("kappa", None, None, None, "at least 0.99", False, "no two models yet"),)
        made = draft("i4", shares=(Share("random", 1, "random"),), stop_signs=signs)
        new, _ = reserve(store, made, beside_open=False)
        assert (new.batch_id, new.shares, new.stop_signs) == ("b0002-training", made.shares, signs)


def test_schema_7_folds_the_hashes_of_texts_and_the_spellings_of_annotators_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        monkeypatch.setattr(schema, "MIGRATIONS", MIGRATIONS[:6])
        migrate(store)
        text = "\uff26loods\u200b"
        item = "INSERT INTO lake.items (item_id, text, text_hash, source, imported_at) VALUES (?, ?, ?, 'f', ?)"
        store.write(lambda c: c.execute(item, ["i1", text, old_text_hash(text), TIME]), "item")
        for k, name in enumerate(("Anna", "anna ", "ben")):
            annotate(store, "i1", name, "yes", at=k)
        monkeypatch.undo()
        migrate(store)
        assert store.rows("SELECT text_hash FROM lake.items") == [(text_hash("floods"),)]
        assert store.rows("SELECT annotator, count(*) FROM lake.annotations GROUP BY 1 ORDER BY 1") == [
            ("Anna", 2),
            ("ben", 1),
        ]


def test_a_step_that_fails_leaves_nothing_of_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    step = ("CREATE TABLE lake.half (k BIGINT)", "INSERT INTO lake.nowhere VALUES (1)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, Migration("half", step)))
    with pytest.raises(duckdb.CatalogException, match="nowhere"):
        migrate(store)
    assert current_version(store) == len(MIGRATIONS)
    with pytest.raises(duckdb.CatalogException, match="half"):
        store.rows("FROM lake.half")


def test_every_column_is_a_scalar(store: Store) -> None:
    kinds = store.rows("SELECT DISTINCT data_type FROM duckdb_columns() WHERE database_name = 'lake'")
    assert {kind for (kind,) in kinds} <= {"VARCHAR", "BIGINT", "DOUBLE", "BLOB", "TIMESTAMP"}
    assert len(kinds) == 5


def test_only_batches_and_models_are_ever_changed() -> None:
    corrections = ("history.py", "annotators.py")
    paths = [path for path in ROOM.glob("*.py") if path.name not in corrections]
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    source = source.replace("UPDATE lake.annotations a SET ingestion = k FROM", "")  # a column of schema 6
    source = source.replace("UPDATE lake.items SET context = n.context", "")  # columns that an item did not have
    assert set(re.findall(r"UPDATE (lake\.\w+)", source)) == {"lake.batches", "lake.models"}
    assert re.findall(r"DELETE FROM lake|TRUNCATE (?:TABLE|lake)|DROP TABLE lake\.\w+|MERGE INTO", source) == [
        "DROP TABLE lake.runs"
    ]


# Current labels


def batch(store: Store, batch_id: str, purpose: str, status: str = "published", items: str = "") -> None:
    store.write(
        lambda c: c.execute(
            "INSERT INTO lake.batches VALUES (?, ?, ?, 1, ?, NULL, 0, 0, 'd', '{}', '[]', '[]', 1, '[]', 1, NULL)",
            [batch_id, purpose, status, TIME],
        ),
        "batch",
    )
    for item_id in items.split():
        store.write(partial(put, batch_id, item_id), "item")


def put(batch_id: str, item_id: str, connection: Connection) -> None:
    columns = "batch_id, item_id, strategy, score, rank, position"
    connection.execute(f"INSERT INTO lake.batch_items ({columns}) VALUES (?, ?, 's', 0, 1, 0)", [batch_id, item_id])


INSERT = """INSERT INTO lake.annotations (item_id, annotator, answer, note, batch_id, annotated_at, ingested_at,
    source_file) VALUES (?, ?, ?, '', ?, ?, ?, 'f')"""


def row_of(item_id: str, annotator: str, answer: str, at: int, ingested: int = 0, batch_id: str = "b1") -> list[object]:
    times = [TIME + timedelta(minutes=at), TIME + timedelta(days=1, minutes=ingested)]
    return [item_id, annotator, answer, batch_id, *times]


def annotate(
    store: Store, item_id: str, annotator: str, answer: str, *, at: int = 0, ingested: int = 0, batch_id: str = "b1"
) -> None:
    row = row_of(item_id, annotator, answer, at, ingested, batch_id)
    store.write(lambda c: c.execute(INSERT, row), "annotate")


NAMED = [
    ("anna:yes anna:no", "no"),
    ("anna:yes bert:no", None),
    ("anna:yes bert:no cleo:no", "no"),
    ("anna:yes bert:yes cleo:no dora:no erik:maybe", None),
    ("anna:yes bert:no bert:yes", "yes"),
    ("anna:no anna:no anna:no bert:yes cleo:yes", "yes"),
    ("anna:skip bert:unsure", None),
    ("anna:unsure bert:skip cleo:yes", None),
    ("anna:unsure bert:unsure cleo:unsure dora:no", None),
    ("anna:yes bert:unsure cleo:no dora:yes", "yes"),
    ("anna:yes anna:unsure", None),
    ("anna:skip anna:no", "no"),
]
NAMELESS = [  # it replaces those before it, and is replaced by the next
    ("?:yes ?:no", "no"),
    ("anna:yes bert:yes ?:no", "no"),
    ("?:yes anna:no bert:yes", None),
    ("?:yes anna:no bert:no", "no"),
    ("anna:yes ?:no bert:maybe", "maybe"),
    ("anna:yes ?:no anna:yes", "yes"),
    ("anna:yes ?:unsure", None),
    ("?:yes anna:skip", None),
]


def test_the_newest_answer_of_each_counts_and_most_win(store: Store) -> None:
    cases = dict(NAMED) | {
        answers.replace("?", who): label for answers, label in NAMELESS for who in (UNNAMED, ORIGINAL)
    }
    batch(store, "b1", "training")
    rows = [
        row_of(answers, *answer.split(":"), minute)
        for answers in cases
        for minute, answer in enumerate(answers.split())
    ]
    store.write(lambda c: c.executemany(INSERT, rows), "annotate")
    found = {
        item_id: label for item_id, _, label in store.rows(f"SELECT item_id, split, label FROM ({current_labels()})")
    }
    assert found == cases


def test_the_two_kinds_of_nameless_answers_replace_each_other_item_by_item(store: Store) -> None:
    batch(store, "b1", "training")
    annotate(store, "i1", ORIGINAL, "yes", at=1)
    annotate(store, "i1", UNNAMED, "no", at=2)
    annotate(store, "i2", UNNAMED, "no", at=1)
    annotate(store, "i2", ORIGINAL, "yes", at=2)
    annotate(store, "i3", "anna", "yes", at=0)
    assert labels(store) == {"i1": "no", "i2": "yes", "i3": "yes"}


def test_newest_is_when_it_was_given_and_then_when_it_came_in(store: Store) -> None:
    batch(store, "b1", "training")
    annotate(store, "late file", "anna", "new", at=5, ingested=1)
    annotate(store, "late file", "anna", "old", at=3, ingested=2)
    annotate(store, "same time", "anna", "second", at=5, ingested=2)
    annotate(store, "same time", "anna", "first", at=5, ingested=1)
    assert labels(store) == {"late file": "new", "same time": "second"}


def test_the_split_is_of_the_batch_first_answered_and_never_changes(store: Store) -> None:
    for batch_id, purpose in (("b1", "training"), ("b2", "evaluation"), ("b3", "validation")):
        batch(store, batch_id, purpose)
    annotate(store, "i1", "anna", "yes", at=9, ingested=1, batch_id="b2")
    splits = []
    for k, batch_id in enumerate(("b1", "b3", "b2"), start=2):
        annotate(store, "i1", "bert", "no", at=-k, ingested=k, batch_id=batch_id)
        splits += store.rows(f"SELECT split FROM ({current_labels()})")
    assert splits == [("evaluation",)] * 3


# Several annotators


def test_standing_answers_are_whole_rows_the_newest_of_each_annotator(store: Store) -> None:
    batch(store, "b1", "training")
    annotate(store, "i1", "anna", "yes", at=1)
    annotate(store, "i1", "anna", "no", at=2)
    annotate(store, "i1", "bert", "skip", at=1)
    annotate(store, "i2", "anna", "yes", at=1)
    old = store.version()
    annotate(store, "i2", UNNAMED, "unsure", at=3)
    columns = {name for (name, *_) in store.rows("DESCRIBE lake.annotations")}
    assert set(store.read(standing_answers()).column_names) == columns

    def standing(version: int | None = None) -> set[tuple[str, ...]]:
        return set(store.rows(f"SELECT item_id, annotator, answer FROM ({standing_answers(version)})"))

    assert standing() == {("i1", "anna", "no"), ("i1", "bert", "skip"), ("i2", UNNAMED, "unsure")}
    assert standing(old) == {("i1", "anna", "no"), ("i1", "bert", "skip"), ("i2", "anna", "yes")}


def test_answers_given_at_the_same_moment_still_have_one_that_stands(store: Store) -> None:
    batch(store, "b1", "training")
    for annotator in ("anna", UNNAMED, ORIGINAL):
        annotate(store, "i1", annotator, "yes")
        annotate(store, "i1", annotator, "no")
    found = [store.rows(f"SELECT annotator, answer FROM ({standing_answers()})") for _ in range(5)]
    assert found == [found[0]] * 5
    assert len({annotator for annotator, _ in found[0]}) == len(found[0]) > 0
