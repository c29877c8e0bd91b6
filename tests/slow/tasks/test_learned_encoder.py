"""An encoder that learned from MiniLM: its vectors of unseen texts, and its head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from test_adaptation import Matrix, rows_of

from annotation.synthetic import synthetic_headlines
from tasks.learning.distillation import Teacher, adapt_vectors
from tasks.learning.encoders import StaticVectors
from tasks.learning.tokens import Tokens


def likeness(tokens: Tokens, vectors: Matrix, targets: Matrix, n_seen: int) -> float:
    """Mean cosine of unseen texts with their targets, after the best linear map of the seen ones."""
    rows = rows_of(tokens, vectors)
    mapped = rows[n_seen:] @ np.linalg.lstsq(rows[:n_seen], targets[:n_seen], rcond=None)[0]
    return float(np.mean((mapped * targets[n_seen:]).sum(axis=1) / np.linalg.norm(mapped, axis=1)))


def test_vectors_of_unseen_texts_come_nearer_to_minilm_and_unseen_tokens_stay() -> None:
    texts = synthetic_headlines(1_500, seed=3)["text"].to_pylist()
    encoder, targets = StaticVectors(), Teacher().sentence_vectors(texts)
    assert np.allclose(np.linalg.norm(targets, axis=1), 1, atol=1e-5)
    tokens = encoder.tokenize(pa.array(texts, pa.string()))
    seen, before = tokens.slice(0, 1_200), encoder.vectors()
    told: list[int] = []
    after = adapt_vectors(before, seen, targets[:1_200].astype(np.float16), epochs=25, seed=0, advance=told.append)
    assert told[-1] == 25 * 1_200
    was, now = (likeness(tokens, vectors, targets, 1_200) for vectors in (before, after))
    assert 1 - now < 0.9 * (1 - was)
    absent = np.setdiff1d(np.arange(encoder.n_tokens), seen.ids)
    assert np.array_equal(after[absent], before[absent])
    first, again = (adapt_vectors(before, seen, targets[:1_200].astype(np.float16), epochs=2, seed=0) for _ in "12")
    assert np.array_equal(first, again)


def test_fine_tuning_parts_the_labels_and_is_kept_with_its_head(tmp_path: Path) -> None:
    table = synthetic_headlines(3_000, seed=5)
    labels = np.array([int(label == "related") for label in table["label"].to_pylist()])
    chosen = np.concatenate([np.flatnonzero(labels == label)[:40] for label in (0, 1)])
    texts = [table["text"][int(at)].as_py() for at in chosen]
    teacher = Teacher()
    assert teacher.probabilities(np.zeros((1, 384), np.float16)) is None
    before = teacher.sentence_vectors(texts)
    teacher.fine_tune(texts, labels[chosen], 2, epochs=2, seed=0)
    after = teacher.sentence_vectors(texts)

    def parted(vectors: Matrix) -> float:
        one, other = vectors[:40].mean(axis=0), vectors[40:].mean(axis=0)
        return float(np.linalg.norm(one - other))

    assert parted(after) > parted(before)
    probabilities = teacher.probabilities(after.astype(np.float16))
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    path = tmp_path / "teacher.safetensors"
    teacher.save(path)
    kept = Teacher()
    kept.take(path.read_bytes())
    assert np.array_equal(kept.sentence_vectors(texts), after)
    assert np.array_equal(kept.probabilities(after.astype(np.float16)), probabilities)
