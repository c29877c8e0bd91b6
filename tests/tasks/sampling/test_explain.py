"""The reasons of a ranking: by item, in its order, with the numbers that are there."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from pools import pool_of_texts, pool_of_vectors, tokens_of

from tasks.sampling.mixer import reasons
from tasks.sampling.strategy import Labelled, Pool, Ranking

LABELS = ("related", "not_related")
TEXTS = ("flood hits town", 'he said "fire"')


@pytest.fixture
def pool() -> Pool:
    """Items at 0, 90 and 45 degrees, training items at 0 (not_related) and 90 (related); logits are the coordinates."""
    return pool_of_vectors(
        [[1, 0], [0, 1], [1, 1]],
        weight=[[1, 0], [0, 1]],
        training=[[1, 0], [0, 1]],
        training_labels=[1, 0],
        positive=0,
    )


def assert_parts(line: str, first: str, *others: str) -> None:
    """Hold a line to its parts, in their order: it begins with the first and ends with the last."""
    assert re.fullmatch(".*".join(map(re.escape, (first, *others))), line), line


def test_each_line_is_of_its_item_the_strategys_reason_the_nearest_label_and_the_model(pool: Pool) -> None:
    ranking = Ranking(("item-0001", "item-0000"), np.array([0.5, 0.25]), ("centre of cluster 1", "far from all"))
    # Item 1 lies on the second training item; its logits are 0 and 1: 1 / (1 + e) = 0.27 for the positive label 0.
    first, second = reasons(pool, ranking, LABELS, TEXTS)
    assert_parts(first, "centre of cluster 1", '"he said "fire"" (related', "1.00", "related 0.27")
    assert_parts(second, "far from all", '"flood hits town" (not_related', "1.00", "related 0.73")


def test_the_cosine_is_the_one_with_the_nearest(pool: Pool) -> None:
    pool = replace(pool, training=Labelled(pool.training.tokens.slice(1, 2), np.array([1]), pool.training.logits[1:]))
    (line,) = reasons(pool, Ranking(("item-0002",), np.zeros(1), ("why",)), LABELS, TEXTS[1:])
    assert_parts(line, "why", '"he said "fire"" (not_related', "0.71", "related 0.50")


def test_where_the_strategy_gives_no_reason_its_score_stands_there(pool: Pool) -> None:
    ranking = Ranking(("item-0002", "item-0000"), np.array([0.12345, -np.inf]))
    found = reasons(pool, ranking, LABELS, TEXTS)
    assert [line.split("; ")[0] for line in found] == ["score 0.123", "score -inf"]


def test_without_a_positive_label_the_most_probable_one_is_told(pool: Pool) -> None:
    ranking = Ranking(("item-0000", "item-0001"), np.zeros(2))
    found = reasons(replace(pool, positive=None), ranking, LABELS, TEXTS)
    assert [line.split()[-2:] for line in found] == [["related", "0.73"], ["not_related", "0.73"]]


def test_without_labels_or_a_model_the_reason_stands_alone() -> None:
    pool = pool_of_vectors([[1, 0], [0, 1]], positive=0)
    ranking = Ranking(("item-0001", "item-0000"), np.array([2.0, 1.0]), ("a", "b"))
    assert reasons(pool, ranking, LABELS, ()) == ["a", "b"]
    labelled = pool_of_vectors([[1, 0], [0, 1]], training=[[0, 1]], training_labels=[0])
    line = reasons(labelled, ranking, LABELS, TEXTS[:1])[0]
    assert_parts(line, "a; ", '"flood hits town" (related', "1.00)")


def test_word_counts_are_compared_by_the_words_that_two_texts_share() -> None:
    training = Labelled(tokens_of([[1, 2], [5, 6, 7, 8]]), np.array([0, 1]))
    pool = pool_of_texts([[9], [5, 6, 3, 4]], training=training)
    (line,) = reasons(pool, Ranking(("item-0001",), np.zeros(1), ("why",)), LABELS, TEXTS)
    assert_parts(line, "why", '"he said "fire"" (not_related', "0.50)")  # two of four words


def test_no_items_have_no_reasons(pool: Pool) -> None:
    assert reasons(pool, Ranking((), np.zeros(0)), LABELS, TEXTS) == []
