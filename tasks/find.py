"""Search the items by words and by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from storage.errors import BatchError
from storage.lake.items import spelled_ids, texts_of
from storage.lake.search import Scope, matching_words
from tasks.project import Project

By = Literal["both", "words", "meaning"]

DEPTH = 1_000
"""Items of each ranking that are fused."""

WORDS, MEANING = 0.3, 0.7
"""Weights of the two rankings where they are fused; measured in docs/experiments.md."""


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Attributes:
        words: In the text, or near it in meaning.
        like: The id of an item; what is near it in meaning is found, and `words` do not count.
        by: What ranks the items: their words (BM25), their meaning (cosine of the encoder's vectors), or both.
    """

    words: str = ""
    like: str = ""
    by: By = "both"


@dataclass(frozen=True)
class Hit:
    """An item that was found; a higher score is a better match, and scores of different searches cannot be compared."""

    item_id: str
    text: str
    score: float


def find_items(project: Project, search: Search, scope: Scope, n: int) -> list[Hit]:
    """The n items that match best, the best first.

    Raises:
        BatchError: There is no item `search.like`.
    """
    store, query, depth = project.store, search.words, max(n + 1, DEPTH)
    near: list[tuple[str, float]] = []
    if search.by != "words" or search.like:
        from tasks.nearest import nearest_items  # words alone are found without numpy

        if search.like:
            search = replace(search, like=spelled_ids(store, [search.like])[0])
            known = texts_of(store, [search.like])
            if not known:
                raise BatchError(f"There is no item {search.like!r}.", hint="Search for its words: pal find WORDS")
            query = known[search.like]
        near = nearest_items(project, query, scope, depth)
    with store.reading():
        by_words = [] if search.by == "meaning" or search.like else matching_words(store, query, scope, depth)
        best = [pair for pair in fused(by_words, near) if pair[0] != search.like][:n]
        texts = texts_of(store, [item_id for item_id, _ in best])
    return [Hit(item_id, texts[item_id], score) for item_id, score in best]


def fused(words: Sequence[tuple[str, float]], meaning: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Two rankings (item_id, score > 0), the best first, as one: scores as parts of the best one, added by weight.

    If one of them is empty, the other stays as it is.

    >>> [item for item, _ in fused([("a", 9.0), ("b", 8.0)], [("b", 0.7), ("c", 0.6)])]
    ['b', 'c', 'a']

    Source: Bruch, Gai and Ingber (2023), An Analysis of Fusion Functions for Hybrid Retrieval.
    """
    if not words or not meaning:
        return [*words, *meaning]
    scores: dict[str, float] = {}
    for ranking, weight in ((words, WORDS), (meaning, MEANING)):
        for item_id, score in ranking:
            scores[item_id] = scores.get(item_id, 0.0) + weight * score / ranking[0][1]
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
