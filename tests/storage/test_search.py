"""Search by words: BM25 by a formula of its own, the words that match, and the items that are searched."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
from lake_rows import add_rows

from storage.lake.connection import bound
from storage.lake.search import FREQUENT, Scope, matching_words
from storage.lake.store import Store
from storage.records import Batch
from storage.workspace import Workspace

TEXTS = {
    "a": "Flood hits town, flood warning",
    "b": "Floods: roads cut off in the far north of the state after a week of rain",
    "c": "House prices rise",
    "d": "Bloodflood is no word",
    "e": "服务很好，味道不错",
    "f": "In town",
    **{f"x{k}": f"Nothing to see number {k}" for k in range(30)},
}


@pytest.fixture(scope="module")
def store(shared_workspace: Workspace) -> Store:
    add_rows(shared_workspace.store(), list(TEXTS.items()), "test")
    return shared_workspace.store()


def found(store: Store, query: str, scope: Scope | None = None) -> list[str]:
    return [item_id for item_id, _ in matching_words(store, query, scope or Scope(), 50)]


def test_scores_are_those_of_bm25(store: Store) -> None:
    counts = {
        word: {k: len(re.findall(rf"\b{word}", text.lower())) for k, text in TEXTS.items()}
        for word in ("flood", "town")
    }
    mean = sum(len(text.encode()) for text in TEXTS.values()) / len(TEXTS)
    expected: dict[str, float] = {}
    for by_item in counts.values():
        n = sum(count > 0 for count in by_item.values())
        for item_id, count in by_item.items():
            length = len(TEXTS[item_id].encode()) / mean
            score = (
                math.log(1 + (len(TEXTS) - n + 0.5) / (n + 0.5)) * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length))
            )
            expected[item_id] = expected.get(item_id, 0.0) + score
    scores = dict(matching_words(store, "FLOOD town flood", Scope(), 50))
    assert scores == pytest.approx({k: v for k, v in expected.items() if v})
    assert list(scores) == sorted(scores, key=lambda item_id: -scores[item_id])


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("in", {"b", "f"}),
        ("味道", {"e"}),
        ("% _ ' \\", set()),
        ("nothing rise", {"c"}),
        ("nothing", {f"x{k}" for k in range(30)}),
    ],
    ids=["a short word is whole", "no spaces", "no words", "frequent words are left out", "unless there are no others"],
)
def test_what_a_word_matches(store: Store, query: str, ids: set[str]) -> None:
    assert len(TEXTS) * FREQUENT < 30
    assert set(found(store, query)) == ids


def test_the_pool_a_label_or_everything_is_searched(
    workspace: Workspace, give_labels: Callable[..., None], reserve_batch: Callable[..., Batch]
) -> None:
    store = workspace.store()
    add_rows(store, list(TEXTS.items()), "test")
    give_labels(workspace, {"a": "related"})
    reserve_batch(workspace, {"g": "A flood is out"})
    assert found(store, "flood") == ["b"]
    assert found(store, "flood", Scope(without=["b"])) == []
    assert found(store, "flood", Scope("related")) == ["a"]
    change = bound("UPDATE lake.items SET context = ? WHERE item_id <> 'b'", ['{"lang": "en"}'])
    store.write(lambda connection: connection.execute(change), "context")
    assert found(store, "flood", Scope(where="lang = 'en'")) == []
    assert found(store, "flood", Scope("related", where="lang = 'en'")) == ["a"]
    assert set(found(store, "flood", Scope(everything=True))) == {"a", "b", "g"}
