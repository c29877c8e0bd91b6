"""Adapting: the vectors of unseen texts come nearer to their targets; the taught head says what the teacher says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from annotation.headlines import synthetic_headlines
from tasks.learning.adaptation import adapt_vectors, taught_head
from tasks.learning.encoder import minilm_static
from tasks.learning.encoder_files import HeadWeights
from tasks.learning.teacher import Teacher
from tasks.learning.tokens import Examples, Tokens
from tasks.learning.training import fit_linear_head, train
from tasks.learning.training_config import TrainingConfig
from tasks.learning.vectors import TokenVectors

Matrix = npt.NDArray[np.float32]


def rows_of(tokens: Tokens, vectors: Matrix) -> Matrix:
    return TokenVectors(tokens, len(vectors), vectors).rows(np.arange(len(tokens)))


def likeness(tokens: Tokens, vectors: Matrix, targets: Matrix, n_seen: int) -> float:
    """Mean cosine of unseen texts with their targets, after the best linear map of the seen ones."""
    rows = rows_of(tokens, vectors)
    mapped = rows[n_seen:] @ np.linalg.lstsq(rows[:n_seen], targets[:n_seen], rcond=None)[0]
    return float(np.mean((mapped * targets[n_seen:]).sum(axis=1) / np.linalg.norm(mapped, axis=1)))


def test_vectors_of_unseen_texts_come_nearer_to_minilm_and_unseen_tokens_stay() -> None:
    texts = synthetic_headlines(1_500, seed=3)["text"].to_pylist()
    encoder, targets = minilm_static(), Teacher().sentence_vectors(texts)
    assert np.allclose(np.linalg.norm(targets, axis=1), 1, atol=1e-5)
    tokens = encoder.tokenize(pa.array(texts, pa.string()))
    seen, before = tokens.slice(0, 1_200), encoder.vectors()
    told: list[int] = []
    after = adapt_vectors(before, seen, targets[:1_200].astype(np.float16), epochs=25, seed=0, told=told.append)
    assert told[-1] == 25 * 1_200
    was, now = (likeness(tokens, vectors, targets, 1_200) for vectors in (before, after))
    assert 1 - now < 0.9 * (1 - was)
    absent = np.setdiff1d(np.arange(encoder.n_tokens), seen.ids)
    assert np.array_equal(after[absent], before[absent])
    again = adapt_vectors(before, seen, targets[:1_200].astype(np.float16), epochs=25, seed=0)
    assert np.array_equal(again, after)


def test_texts_without_tokens_teach_nothing_and_harm_nothing() -> None:
    tokens = Tokens(np.array([1, 2], np.uint16), np.array([0, 1, 1, 2]))
    vectors = np.eye(3, 4, dtype=np.float32)
    adapted = adapt_vectors(vectors, tokens, np.eye(3, 5, dtype=np.float16), epochs=2, seed=0)
    assert np.isfinite(adapted).all()
    assert np.array_equal(adapted[0], vectors[0])
    assert not np.array_equal(adapted[1:], vectors[1:])


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
    assert probabilities is not None
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    path = tmp_path / "teacher.safetensors"
    teacher.save(path)
    kept = Teacher()
    kept.take(path.read_bytes())
    assert np.array_equal(kept.sentence_vectors(texts), after)
    assert np.array_equal(kept.probabilities(after.astype(np.float16)), probabilities)


def some_texts(n: int, seed: int) -> tuple[Tokens, Matrix]:
    """n texts of five tokens each, and vectors for 50 tokens."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, 50, n * 5).astype(np.uint16)
    vectors = np.random.default_rng(9).normal(size=(50, 8)).astype(np.float32)
    return Tokens(ids, np.arange(0, n * 5 + 1, 5)), vectors


def test_the_taught_head_finds_the_head_that_made_the_probabilities() -> None:
    tokens, vectors = some_texts(20_000, 0)
    weight = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    logits = rows_of(tokens, vectors) @ weight.T + np.array([0.0, -1.0, 2.0], np.float32)
    probabilities = torch.softmax(torch.from_numpy(logits), 1).numpy()
    head = taught_head(vectors, tokens, probabilities)
    found = rows_of(tokens, vectors) @ head.weight.T + head.bias
    assert np.abs(torch.softmax(torch.from_numpy(found), 1).numpy() - probabilities).max() < 0.05


class FixedEncoder:
    """Vectors of `some_texts`."""

    encoder_id, n_tokens = "fixed", 50

    def tokenize(self, texts: pa.Array) -> Tokens:
        raise NotImplementedError

    def vectors(self) -> Matrix:
        return some_texts(1, 0)[1]


def test_a_head_stays_near_its_prior_while_that_knows_the_labels_and_leaves_it_for_many_new_ones() -> None:
    generator = np.random.default_rng(2)
    weight = np.stack([-generator.normal(size=8) * 3, np.zeros(8)]).astype(np.float32)
    cosine = []
    for n, n_labelled in ((40, 40), (40, 0), (40_000, 40)):
        prior = HeadWeights(weight, np.zeros(2, np.float32), n_labelled)
        tokens, vectors = some_texts(n, n)
        labels = (rows_of(tokens, vectors)[:, 0] > 0).astype(np.int64)  # another direction than the prior's
        labels[:2] = 0, 1
        examples = Examples(tokens, labels)
        trained = train(FixedEncoder(), examples, None, TrainingConfig(), n_labels=2, positive=1, prior=prior)
        head = trained.classifier.head.weight.detach().numpy()
        found, wanted = head[1] - head[0], weight[1] - weight[0]
        cosine.append(float(found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)))
    assert cosine[0] > 0.99
    assert cosine[0] > cosine[1] > cosine[2]
    assert cosine[2] < 0.7


def test_a_prior_changes_nothing_but_what_the_penalty_is_measured_from() -> None:
    """Against the optimum by another method: the gradient of the stated loss is 0 there."""
    tokens, vectors = some_texts(60, 3)
    rows = torch.from_numpy(rows_of(tokens, vectors)).double()
    labels = torch.from_numpy((rows_of(tokens, vectors)[:, 1] > 0.2).astype(np.int64))
    prior = HeadWeights(np.ones((2, 8), np.float32) * [[1], [-1]], np.array([0.5, -0.5], np.float32))
    head, weights = torch.nn.Linear(8, 2), torch.tensor([0.7, 1.6])
    fit_linear_head(head, rows, labels, weights=weights, regularisation=0.1, towards=prior)
    weight = head.weight.detach().double().requires_grad_()
    bias = head.bias.detach().double().requires_grad_()
    loss = torch.nn.functional.cross_entropy(rows @ weight.T + bias, labels, weights.double())
    loss = loss + (weight - torch.from_numpy(prior.weight)).square().sum() / (0.1 * 60)
    gradients = torch.autograd.grad(loss, (weight, bias))
    assert max(float(each.abs().max()) for each in gradients) < 1e-5
