"""MiniLM as it is: the vectors of sentence-transformers, whatever other texts are read at the same time."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.learning.distillation import Teacher
from tasks.learning.sentences import WINDOW, SentenceEncoder, directions_of, from_arrow, rounded, to_arrow

TEXTS = [
    "Flood warning for the river",
    "Wer zahlt die Miete?",
    "味道不错，送餐很快",
    "ok",
    "a longer text about the refund of a card payment that never arrived " * 4,
    "x",
    "Flood warning for the harbor",
]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


def test_vectors_are_those_of_sentence_transformers(encoder: SentenceEncoder) -> None:
    cosines = (directions_of(encoder.encode(TEXTS)) * Teacher().sentence_vectors(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.9998


def test_a_vector_does_not_depend_on_the_texts_beside_it(encoder: SentenceEncoder) -> None:
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS]).astype(int)
    assert np.abs(encoder.encode(TEXTS) - alone).max() <= 1
    assert np.abs(encoder.encode([*TEXTS[::-1], *TEXTS * 30])[: len(TEXTS)] - alone[::-1]).max() <= 1


def test_a_long_text_is_the_mean_of_its_windows_and_one_without_tokens_is_0(encoder: SentenceEncoder) -> None:
    halves = ["flood " * WINDOW, "music " * WINDOW]
    both = directions_of(encoder.encode(halves)).sum(axis=0, keepdims=True)
    found = encoder.encode(["".join(halves), "", " \u200b"])
    assert np.abs(found[:1] - rounded(both).astype(int)).max() <= 1
    assert not found[1:].any()
    assert not directions_of(found[1:]).any()


def test_vectors_go_through_arrow_unchanged(encoder: SentenceEncoder) -> None:
    rows = encoder.encode(TEXTS[:4])
    assert np.array_equal(from_arrow(to_arrow(rows)), rows)
    assert np.array_equal(from_arrow(to_arrow(rows).slice(1, 2)), rows[1:3])
    assert from_arrow(to_arrow(rows).slice(4)).shape == (0, rows.shape[1])
