"""Adapting: the vectors of unseen texts come nearer to their targets; the taught head says what the teacher says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch

from storage.errors import ModelError
from tasks.learning.distillation import (
    TEACHER_FILES,
    Teacher,
    adapt_vectors,
    first_vectors,
    pool_tokenizer,
    taught_head,
)
from tasks.learning.encoders import HeadWeights, Pieces, WordPieces, fragments_per_letter
from tasks.learning.tokens import Examples, Tokens
from tasks.learning.training import Target, TrainingConfig, fit_linear_head, train
from tasks.learning.vectors import TokenVectors

Matrix = npt.NDArray[np.float32]


def rows_of(tokens: Tokens, vectors: Matrix) -> Matrix:
    return TokenVectors(tokens, len(vectors), vectors).rows(np.arange(len(tokens)))


def test_texts_without_tokens_teach_nothing_and_harm_nothing() -> None:
    tokens = Tokens(np.array([1, 2], np.uint16), np.array([0, 1, 1, 2]))
    vectors = np.eye(3, 4, dtype=np.float32)
    adapted = adapt_vectors(vectors, tokens, np.eye(3, 5, dtype=np.float16), epochs=2, seed=0)
    assert np.isfinite(adapted).all()
    assert np.array_equal(adapted[0], vectors[0])
    assert not np.array_equal(adapted[1:], vectors[1:])


def test_a_tokenizer_from_the_pool_has_the_words_of_its_language_and_vectors_that_tell_its_texts_apart() -> None:
    generator = np.random.default_rng(4)
    subjects = [["".join(map(chr, generator.integers(0x4E00, 0x9000, 2))) for _ in range(20)] for _ in range(2)]
    about = generator.integers(0, 2, 600)
    texts = ["".join(generator.choice(subjects[k], 4)) for k in about]
    targets = (np.eye(2)[about] + generator.normal(scale=0.5, size=(600, 2))).astype(np.float16)
    tokenizers = [pool_tokenizer(texts) for _ in range(2)]
    assert tokenizers[0].to_str() == tokenizers[1].to_str()
    pieces = WordPieces(tokenizers[0])
    tokens = pieces.tokenize(pa.array(texts, pa.string()))
    assert len(tokens.ids) <= 0.7 * sum(map(len, texts)), "pairs of characters are tokens"
    assert fragments_per_letter(pieces, 1, tokens) == 0
    vectors = first_vectors(tokens, pieces.n_tokens, targets)
    found = rows_of(tokens, vectors)
    nearer = found @ found[about == 1].mean(axis=0) > found @ found[about == 0].mean(axis=0)
    assert np.mean(nearer == (about == 1)) > 0.95
    unknown = pieces.tokenize(pa.array(["\u1270\u1283"], pa.string()))
    assert unknown.ids.tolist() == [pieces.unknown]


@pytest.mark.parametrize("config", ['{"model_type": "gpt2"}', "{}", "[]", "not JSON"])
def test_what_is_no_encoder_is_refused_before_it_is_loaded(tmp_path: Path, config: str) -> None:
    for name in TEACHER_FILES:
        with pytest.raises(ModelError):
            Teacher(tmp_path)
        (tmp_path / name).write_text(config, encoding="utf-8")
    with pytest.raises(ModelError):
        Teacher(tmp_path)


def test_an_encoder_with_damaged_weights_is_refused(tmp_path: Path) -> None:
    for name in TEACHER_FILES:
        (tmp_path / name).write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(ModelError):
        Teacher(tmp_path)


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

    def pieces(self) -> Pieces:
        raise NotImplementedError


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
        trained = train(FixedEncoder(), examples, None, TrainingConfig(), Target(2, 1), prior=prior)
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
