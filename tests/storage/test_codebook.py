"""Labels that change: any chain of changes gives what the final names would have given from the start."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import duckdb
import pytest
from drafts import draft, labels, publish
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_rows import add_rows

from storage.errors import StoreError
from storage.lake.annotations import ingest
from storage.lake.batches import insert_batch
from storage.lake.codebook import (
    NewChange,
    _make,
    change_labels,
    codebook_of,
    forecast,
    items_without_label,
)
from storage.lake.history import history_of, independent_answers, settled_labels
from storage.lake.schema import MIGRATIONS, current_labels, standing_answers
from storage.lake.store import Store
from storage.records import Answer, BatchStatus, Purpose, Split
from storage.workspace import Workspace

ITEMS = [f"i{k}" for k in range(12)]
NAMES = "abcdef"


def change(store: Store, kind: str, becomes: dict[str, str | None], *added: str) -> int:
    """Make a change of labels; the number of the codebook that it made."""
    new = NewChange(kind, becomes, added, dict.fromkeys((*becomes, "kept"), ""), "anna")
    expected = forecast(store, new)
    assert change_labels(store, new, expected) is None
    return expected.codebook


@pytest.fixture
def store(workspace: Workspace) -> Store:
    add_rows(workspace.store(), [(item_id, f"text {item_id}") for item_id in ITEMS], "test")
    return workspace.store()


@dataclass
class Meaning:
    """What a label stands for, whatever it is called: labels that were merged stand for the same."""

    name: str
    is_gone: bool = False
    same_as: Meaning | None = None

    def now(self) -> str:
        if self.same_as is not None:
            return self.same_as.now()
        return "skip" if self.is_gone else self.name


class Tables:
    """The lake's tables in memory, where a chain of changes takes milliseconds."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("ATTACH ':memory:' AS lake")
        self.connection.execute("CREATE MACRO lake.current_snapshot() AS TABLE SELECT 1")
        for migration in MIGRATIONS:
            for statement in migration.statements:
                self.connection.execute(statement)
        self.n_batches = 0

    def ask(self, split: Split, answers: list[tuple[str, str, str]]) -> None:
        """A batch, and who answered which item how: (item_id, annotator, answer)."""
        self.n_batches += 1
        batch_id = f"b{self.n_batches:04d}"
        insert_batch(self.connection, batch_id, draft("i0", purpose=split), BatchStatus.PUBLISHED)
        self.connection.execute(
            f"""INSERT INTO lake.annotations SELECT *, '', '{batch_id}', NULL, now(), now(), '', {self.n_batches}
            FROM (VALUES {", ".join(map(str, answers))})"""
        )

    def change(self, kind: str, label: str, becomes: str | None) -> None:
        _make(self.connection, NewChange(kind, {label: becomes}, (), {}, "anna"))

    def labels(self) -> list[tuple[object, ...]]:
        counted = (
            f"SELECT answer, count(*) FROM ({standing_answers()}) WHERE answer <> 'skip' GROUP BY ALL ORDER BY ALL"
        )
        query = f"SELECT item_id, split, label FROM ({current_labels()}) ORDER BY item_id"
        return [*self.connection.execute(query).fetchall(), *self.connection.execute(counted).fetchall()]


@given(seeds=st.lists(st.integers(0, 10**6), min_size=4, max_size=12))
@settings(max_examples=10)
def test_any_chain_of_changes_equals_a_lake_in_which_the_final_names_were_used_from_the_start(
    seeds: list[int],
) -> None:
    changed, plain = Tables(), Tables()
    meanings = [Meaning(name) for name in "abcd"]
    asked: list[tuple[Split, list[tuple[str, str, Meaning]]]] = []
    for seed in seeds:
        draw = random.Random(seed)
        kind = draw.choice(["answers", "answers", "rename", "merge", "retire"])
        one, other = draw.sample(meanings, 2)
        if kind == "answers":
            split = draw.choice([Split.TRAINING, Split.EVALUATION])
            people = [(item, who) for item in draw.sample(ITEMS, 6) for who in ("anna", "ben", "cy")]
            asked.append((split, [(item, who, draw.choice(meanings)) for item, who in people]))
            changed.ask(split, [(item, who, each.name) for item, who, each in asked[-1][1]])
        elif kind == "rename":
            new = draw.choice([name for name in NAMES if name not in {each.name for each in meanings}])
            changed.change(kind, one.name, new)
            one.name = new
        elif len(meanings) > 2:
            meanings.remove(one)
            changed.change(kind, one.name, other.name if kind == "merge" else None)
            one.same_as, one.is_gone = (other, False) if kind == "merge" else (None, True)
    for split, answers in asked:
        plain.ask(split, [(item, who, each.now()) for item, who, each in answers])
    assert changed.labels() == plain.labels()


def test_an_answer_counts_by_the_codebook_of_its_batch_and_stays_as_it_was_given(store: Store) -> None:
    old = publish(store, "i0", "i1")
    ingest(store, old, [Answer("i0", "a", "anna")], "old.csv")
    before = store.version()
    change(store, "rename", {"a": "b"})
    change(store, "rename", {"b": "c"})
    change(store, "add", {}, "a")
    new = publish(store, "i2")
    ingest(store, new, [Answer("i2", "a", "anna")], "new.csv")
    ingest(store, old, [Answer("i1", "a", "ben")], "late.csv")
    assert labels(store) == {"i0": "c", "i1": "c", "i2": "a"}
    assert labels(store, before) == {"i0": "a"}
    assert [each.answer for each in history_of(store, "i0").answers] == ["a"]
    assert history_of(store, "i0").answers[0].counts
    book = codebook_of(store)
    assert (book.number, book.at(before), book.became("a", 1), book.became("a", 4)) == (4, 1, "c", "a")
    assert (book.labels_of(1), book.labels_of(4)) == ({"a": "", "kept": ""}, None)
    assert store.rows("SELECT codebook FROM lake.batches ORDER BY batch_id") == [(1,), (4,)]


def test_items_of_a_label_that_is_gone_have_none_until_they_are_asked_again(store: Store) -> None:
    first = publish(store, "i0", "i1", purpose=Split.EVALUATION)
    ingest(store, first, [Answer("i0", "a", "anna"), Answer("i1", "b", "anna"), Answer("i1", "b", "ben")], "f.csv")
    settle = publish(store, "i1", purpose=Purpose.ADJUDICATION)
    ingest(store, settle, [Answer("i1", "a", "zoe")], "s.csv")
    split = NewChange("split", {"a": None}, ("a", "c"), {"a": "1", "b": "2"}, "anna", "too wide")
    expected = forecast(store, split)
    assert (expected.to_ask, expected.n_evaluation, labels(store)) == (("i0",), 1, {"i0": "a", "i1": "a"})
    review = replace(draft("i0", purpose=Purpose.REVIEW), lake_version=store.version())
    batch = change_labels(store, split, expected, review)
    assert batch == "b0003-review"
    assert labels(store) == {"i0": None, "i1": "b"}, "the others' answers decide where an adjudication is gone"
    assert settled_labels(store) == {}
    assert items_without_label(store) == [], "it is asked about"
    assert independent_answers(store)["answer"].to_pylist() == [None, "b", "b"]
    ingest(store, batch, [Answer("i0", "a", "ben")], "r.csv")
    ingest(store, first, [Answer("i0", "a", "cy")], "late.csv")
    assert labels(store) == {"i0": "a", "i1": "b"}, "the answer to the old batch means the old label"
    assert store.rows(f"SELECT split FROM ({current_labels()}) WHERE item_id = 'i0'") == [("evaluation",)]


def test_a_change_that_would_do_something_else_than_was_forecast_is_not_made(store: Store) -> None:
    batch = publish(store, "i0", "i1")
    ingest(store, batch, [Answer("i0", "a", "anna")], "f.csv")
    retire = NewChange("retire", {"a": None}, (), {"a": "", "b": ""}, "anna")
    expected = forecast(store, retire)
    assert codebook_of(store).number == 1, "a forecast changes nothing"
    ingest(store, batch, [Answer("i1", "a", "anna")], "g.csv")
    with pytest.raises(StoreError):
        change_labels(store, retire, expected)
    assert labels(store) == {"i0": "a", "i1": "a"}
