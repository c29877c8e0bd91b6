import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight

from storage.errors import ModelError
from tasks.learning.calibration import Calibration, calibrate, stratified_folds
from tasks.learning.encoders import Encoder, Pieces, fit_bag_of_words
from tasks.learning.family_training import fit_softmax
from tasks.learning.tokens import Examples, Tokens
from tasks.learning.training import (
    N_FOLDS,
    Target,
    Trained,
    TrainingConfig,
    drawn,
    label_weights,
    predict_logits,
    train,
)

V, D = 60, 12
Rows = npt.NDArray[np.float32]
Balance = Literal["weights", "equal_draws", "none"]


@dataclass(frozen=True)
class Numbered:
    """An encoder whose words are numbers already: V tokens, with vectors or without."""

    n_tokens: int = V
    with_vectors: bool = True

    @property
    def encoder_id(self) -> str:
        return f"numbered:{self.n_tokens}"

    def tokenize(self, texts: pa.Array) -> Tokens:
        raise NotImplementedError("these tests begin with tokens")

    def vectors(self) -> Rows | None:
        generator = np.random.default_rng(5)
        return generator.normal(size=(self.n_tokens, D)).astype(np.float32) if self.with_vectors else None

    def pieces(self) -> Pieces:
        return Pieces(np.zeros(self.n_tokens, np.bool_), np.zeros(self.n_tokens, np.bool_))


PRETRAINED, BAG = Numbered(), Numbered(with_vectors=False)
LINEAR = TrainingConfig()
HIDDEN = TrainingConfig(hidden=16, epochs=8)


def examples(n: int, n_labels: int = 2, seed: int = 0, rare: float = 0.3, own_words: int = 2) -> Examples:
    """Texts of up to 6 tokens and up to `own_words` that only their label has; label 1 has about the share `rare`."""
    generator = np.random.default_rng(seed)
    shares = np.full(n_labels, (1 - rare) / (n_labels - 1))
    shares[1] = rare
    labels = generator.choice(n_labels, n, p=shares)
    labels[:n_labels] = np.arange(n_labels)
    texts = []
    for label in labels:
        common = generator.integers(0, V, generator.integers(0, 7))
        own = generator.integers(0, V // n_labels, generator.integers(0, own_words + 1)) * n_labels + label
        texts.append(np.concatenate([common, own]))
    ids = np.concatenate(texts).astype(np.uint16)
    return Examples(Tokens(ids, np.cumsum([0, *map(len, texts)]).astype(np.int64)), labels)


def fitted(
    encoder: Encoder,
    training: Examples,
    validation: Examples | None,
    config: TrainingConfig,
    n_labels: int = 2,
    positive: int | None = 1,
) -> Trained:
    return train(encoder, training, validation, config, Target(n_labels, positive))


def weights_of(trained: Trained) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in trained.classifier.learned_state().items()}


def raw_probabilities(trained: Trained, of: Examples) -> Rows:
    return Calibration().probabilities(predict_logits(trained.classifier, of.tokens))


# --- the linear head


@pytest.mark.parametrize("n_labels", [2, 5])
@pytest.mark.parametrize("as_rows", [np.asarray, sparse.csr_matrix])
def test_the_softmax_fit_is_the_logistic_regression_of_scikit_learn(
    n_labels: int, as_rows: Callable[[Rows], Any]
) -> None:
    generator = np.random.default_rng(0)
    rows, weights = generator.normal(size=(200, D)), generator.uniform(0.1, 4, 200)
    labels = (rows[:, :n_labels] + generator.normal(size=(200, n_labels))).argmax(axis=1)
    for c in (0.05, 1.0, 50.0):
        found, bias = fit_softmax(as_rows(rows), labels, n_labels, weights, c)
        of_one_column = 2 if n_labels == 2 else 1  # scikit-learn has one column of weights for two labels
        reference = LogisticRegression(C=of_one_column * c, tol=1e-10, max_iter=5000).fit(rows, labels, weights)
        np.testing.assert_allclose(softmax(rows @ found + bias, axis=1), reference.predict_proba(rows), atol=2e-3)


def test_equal_draws_of_a_linear_head_come_near_what_weights_give() -> None:
    training, others = examples(400), examples(100, seed=1)
    weighted, drawn_equally = (
        raw_probabilities(fitted(PRETRAINED, training, others, replace(LINEAR, balance=balance)), others)
        for balance in ("weights", "equal_draws")
    )
    unbalanced = raw_probabilities(fitted(PRETRAINED, training, others, replace(LINEAR, balance="none")), others)
    assert np.abs(weighted - drawn_equally).mean() < 0.05 < np.abs(weighted - unbalanced).mean()


def test_a_linear_head_needs_no_epochs_and_its_one_optimum_no_seed() -> None:
    training, validation, config = examples(200), examples(80, seed=1), replace(LINEAR, regularisation=5.0)
    one, other = (fitted(PRETRAINED, training, validation, replace(config, seed=seed)) for seed in (0, 1))
    assert one.epochs == other.epochs == 0
    assert weights_of(one) == weights_of(other)


# --- seeds


CASES = [
    (PRETRAINED, LINEAR),
    (PRETRAINED, HIDDEN),
    (BAG, HIDDEN),
    (PRETRAINED, replace(HIDDEN, balance="equal_draws")),
]
CASE_IDS = ["linear", "hidden", "bag of words", "equal draws"]


@pytest.mark.parametrize(("encoder", "config"), CASES, ids=CASE_IDS)
@pytest.mark.parametrize("with_validation", [True, False])
def test_the_same_seed_gives_the_same_model_bit_for_bit_whatever_the_global_seeds_and_threads(
    encoder: Encoder, config: TrainingConfig, with_validation: bool
) -> None:
    training = examples(150)
    validation = examples(60, seed=1) if with_validation else None
    threads = torch.get_num_threads()
    models = []
    try:
        for global_seed, n_threads in ((1, 1), (2, 2), (3, 4)):
            torch.manual_seed(global_seed)
            np.random.seed(global_seed)
            torch.set_num_threads(n_threads)
            models.append(fitted(encoder, training, validation, config))
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(threads)
    first, *others = models
    for other in others:
        assert weights_of(other) == weights_of(first)
        assert (other.calibration, other.epochs) == (first.calibration, first.epochs)


@pytest.mark.parametrize(("encoder", "config"), CASES[1:], ids=CASE_IDS[1:])
def test_another_seed_gives_another_model(encoder: Encoder, config: TrainingConfig) -> None:
    training, validation = examples(150), examples(60, seed=1)
    one, other = (fitted(encoder, training, validation, replace(config, seed=seed)) for seed in (0, 1))
    assert weights_of(one) != weights_of(other)


@pytest.mark.parametrize(("encoder", "config"), CASES, ids=CASE_IDS)
def test_global_generators_and_threads_are_left_as_they_were(encoder: Encoder, config: TrainingConfig) -> None:
    def state() -> tuple[object, ...]:
        return (
            torch.get_rng_state().numpy().tobytes(),
            repr(np.random.get_state()),
            random.getstate(),
            torch.get_num_threads(),
        )

    before = state()
    fitted(encoder, examples(80), None, config)
    assert state() == before


def test_items_are_left_as_they_were() -> None:
    training, same = examples(80), examples(80)
    for encoder, config in CASES:
        fitted(encoder, training, None, config)
    np.testing.assert_array_equal(training.tokens.ids, same.tokens.ids)
    np.testing.assert_array_equal(training.tokens.offsets, same.tokens.offsets)
    np.testing.assert_array_equal(training.labels, same.labels)


# --- early stopping


def loss(trained: Trained, held_out: Examples, training: Examples, config: TrainingConfig) -> float:
    weights = label_weights(training.labels, 2, config)
    logits = torch.from_numpy(predict_logits(trained.classifier, held_out.tokens))
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(held_out.labels), weights))


@pytest.mark.parametrize("encoder", [PRETRAINED, BAG], ids=["pretrained", "bag of words"])
def test_early_stopping_keeps_the_epoch_with_the_lowest_loss_on_held_out_items(encoder: Encoder) -> None:
    training, validation = examples(120), examples(80, seed=1)
    config = TrainingConfig(hidden=16, epochs=60, learning_rate=0.5)
    kept = fitted(encoder, training, validation, config)
    assert 1 < kept.epochs < 60
    # Cut at the kept epoch it is the same model; cut before that, a worse one; with all the patience, the same.
    assert weights_of(fitted(encoder, training, validation, replace(config, epochs=kept.epochs))) == weights_of(kept)
    earlier = fitted(encoder, training, validation, replace(config, epochs=kept.epochs - 1))
    assert loss(earlier, validation, training, config) > loss(kept, validation, training, config)
    later = replace(config, epochs=kept.epochs + config.patience)
    assert weights_of(fitted(encoder, training, validation, later)) == weights_of(kept)


def test_it_stops_only_after_as_many_epochs_without_a_better_loss_as_it_has_patience() -> None:
    training, validation = examples(120), examples(80, seed=1)
    config = TrainingConfig(hidden=16, epochs=25, learning_rate=2.0)
    losses = [
        loss(
            fitted(PRETRAINED, training, validation, replace(config, epochs=k, patience=99)),
            validation,
            training,
            config,
        )
        for k in range(1, 26)
    ]  # of the best epoch among the first k
    assert losses == sorted(losses, reverse=True)
    better = [1] + [k + 1 for k in range(1, 25) if losses[k] < losses[k - 1]]
    gaps = np.diff(better)
    assert (gaps > 1).any()  # else there is nothing to see
    for patience in (1, 2, 3):
        stops = next((better[k] for k, gap in enumerate(gaps) if gap > patience), better[-1])
        assert fitted(PRETRAINED, training, validation, replace(config, patience=patience)).epochs == stops


# --- against rare labels


def test_equal_draws_show_each_label_equally_often_and_every_item() -> None:
    labels = np.array([0] * 20 + [1] * 3 + [3] * 7)
    order = drawn(labels, TrainingConfig(balance="equal_draws"), np.random.default_rng(0))
    assert np.bincount(labels[order]).tolist() == [20, 20, 0, 20]
    times = np.bincount(order, minlength=30)
    assert set(times[:20]) == {1}
    assert set(times[20:23]) == {6, 7}
    assert set(times[23:]) == {2, 3}
    assert np.abs(np.diff(labels[order])).sum() > 40  # mixed, not label after label


def test_equal_draws_are_drawn_anew_each_epoch() -> None:
    labels, generator = np.array([0] * 20 + [1] * 3), np.random.default_rng(0)
    first, second = (drawn(labels, TrainingConfig(balance="equal_draws"), generator) for _ in range(2))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("balance", ["weights", "none"])
def test_without_equal_draws_every_item_is_seen_once_in_an_order_of_the_generator(balance: Balance) -> None:
    labels = np.array([0] * 20 + [1] * 3)
    order = drawn(labels, replace(LINEAR, balance=balance), np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(23))
    assert order.tolist() != list(range(23))


def test_label_weights_are_those_of_scikit_learn_and_0_for_an_absent_label() -> None:
    labels = np.array([0] * 20 + [1] * 3 + [3] * 7)
    found = label_weights(labels, 5, LINEAR).numpy()
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(found[[0, 1, 3]], expected, rtol=1e-6)
    assert found[[2, 4]].tolist() == [0, 0]
    assert found[labels].mean() == pytest.approx(1)


@pytest.mark.parametrize("balance", ["equal_draws", "none"])
def test_labels_weigh_alike_unless_weights_are_asked_for(balance: Balance) -> None:
    assert label_weights(np.array([0, 0, 1]), 2, replace(LINEAR, balance=balance)).tolist() == [1, 1]


# --- what there is to train on


@pytest.mark.parametrize(("labels", "n_different"), [([1, 1, 1], 1), ([], 0)])
def test_fewer_than_two_labels_say_so_with_both_numbers_and_what_to_type(labels: list[int], n_different: int) -> None:
    n = len(labels)
    tokens = Tokens(np.zeros(n, np.uint16), np.arange(n + 1))
    with pytest.raises(ModelError) as caught:
        fitted(PRETRAINED, Examples(tokens, np.array(labels, np.int64)), None, LINEAR)
    assert re.search(rf"\b{n}\b.*\b{n_different}\b.*\b2\b", caught.value.what)
    assert all(command in caught.value.hint for command in ("pal next", "pal annotate", "pal ingest"))


def test_an_encoder_without_words_says_so_and_what_to_do() -> None:
    empty = fit_bag_of_words([pa.array(["each word once"])])
    examples_of = Examples(empty.tokenize(pa.array(["each", "word"])), np.array([0, 1]))
    with pytest.raises(ModelError) as caught:
        fitted(empty, examples_of, None, LINEAR)
    assert repr(empty.encoder_id) in caught.value.what
    assert "pal import FILE" in caught.value.hint
    assert 'encoder = "minilm-static"' in caught.value.hint


@pytest.mark.parametrize(("encoder", "config"), CASES, ids=CASE_IDS)
@pytest.mark.parametrize("n_rare", [1, 2, 6])
def test_a_label_with_fewer_items_than_folds_trains_all_the_same(
    encoder: Encoder, config: TrainingConfig, n_rare: int
) -> None:
    training = examples(40)
    labels = np.where(np.arange(40) < n_rare, 1, 0)
    trained = fitted(encoder, Examples(training.tokens, labels), None, config)
    assert np.isfinite(raw_probabilities(trained, training)).all()


@pytest.mark.parametrize(("encoder", "config"), CASES, ids=CASE_IDS)
def test_a_label_that_no_training_item_has_keeps_its_place_and_is_improbable(
    encoder: Encoder, config: TrainingConfig
) -> None:
    training = examples(200)
    trained = fitted(encoder, training, None, replace(config, balance="none", epochs=25), n_labels=3, positive=None)
    rows = raw_probabilities(trained, training)
    assert rows.shape == (200, 3)
    assert rows[:, 2].mean() < 0.1


# --- calibration


def test_temperature_and_threshold_come_from_the_validation_items() -> None:
    training, validation = examples(200), examples(200, seed=1)
    assert np.count_nonzero(validation.labels == 1) >= 20
    trained = fitted(PRETRAINED, training, validation, LINEAR)
    logits = predict_logits(trained.classifier, validation.tokens)
    assert trained.calibration == calibrate(logits, validation.labels, 1, choose_threshold=True)
    assert trained.calibration.threshold != 0.5


@pytest.mark.parametrize("none_at_all", [True, False])
def test_without_validation_items_no_threshold_is_fitted_to_a_hidden_layer(none_at_all: bool) -> None:
    validation = None if none_at_all else examples(10).take(np.zeros(10, np.bool_))
    trained = fitted(PRETRAINED, examples(400), validation, HIDDEN)
    assert (trained.calibration.threshold, trained.calibration.positive) == (0.5, 1)
    assert trained.calibration.temperature != 1.0


@pytest.mark.parametrize(("encoder", "config"), CASES[1:], ids=CASE_IDS[1:])
def test_without_validation_items_temperature_and_epochs_come_from_5_folds(
    encoder: Encoder, config: TrainingConfig
) -> None:
    training = examples(120)
    folds = stratified_folds(training.labels, 5, np.random.default_rng(config.seed))
    logits, tried = np.zeros((120, 2), np.float32), []
    for fold in range(N_FOLDS):
        held_out = training.take(folds == fold)
        trained = fitted(encoder, training.take(folds != fold), held_out, config)
        logits[folds == fold] = predict_logits(trained.classifier, held_out.tokens)
        tried.append(trained.epochs)
    found = fitted(encoder, training, None, config)
    assert found.calibration == calibrate(logits, training.labels, 1, choose_threshold=False)
    assert found.epochs == round(np.mean(tried))
