from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from hypothesis import given
from hypothesis import strategies as st

from annotation.synthetic import synthetic_headlines
from storage.errors import ModelError
from tasks.learning.calibration import calibrate, stratified_folds
from tasks.learning.encoders import StaticVectors, fit_bag_of_words
from tasks.learning.label_errors import TOLERANCE, Floats, Ints, LabelErrors, label_errors
from tasks.learning.stored_model import read_texts
from tasks.learning.tokens import Examples
from tasks.learning.training import (
    N_FOLDS,
    Target,
    TrainingConfig,
    cross_validated_probabilities,
    predict_logits,
    train,
)

Case = tuple[Ints, Floats]


def drawn(seed: int, n: int, n_labels: int, noise: float, surety: float = 2.0) -> tuple[Ints, Floats, Ints]:
    """Given labels, a share `noise` of them wrong, probabilities that follow the true ones, and the true ones."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, n_labels, n)
    logits = generator.normal(size=(n, n_labels))
    logits[np.arange(n), truth] += surety
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = generator.random(n) < noise
    given = np.where(wrong, (truth + generator.integers(1, n_labels, n)) % n_labels, truth)
    return given, probabilities, truth


def of_cleanlab(labels: Ints, probabilities: Floats) -> list[int]:
    options = {"filter_by": "confident_learning", "return_indices_ranked_by": "self_confidence"}
    return [int(position) for position in find_label_issues(labels, probabilities, **options)]


cases = st.builds(
    lambda seed, n, k, noise: drawn(seed, n, k, noise)[:2],
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.1, 0.5]),
)


# --- by hand


def test_of_two_labels_that_reach_their_threshold_the_more_probable_counts() -> None:
    labels = np.array([0, 1, 2, 2])
    rows = np.array([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.2, 0.3, 0.5], [0.35, 0.45, 0.2]])
    # Thresholds .3, .4, .35: item 3, given 2, reaches 0 and 1. Item 0 reaches 0, its own, and 2 is more probable.
    found = label_errors(labels, rows)
    assert found.positions.tolist() == [3, 0]
    assert found.believed.tolist() == [1, 2]
    assert found.scores == pytest.approx([0.8, 0.7])


def test_the_suggestion_is_the_label_that_reaches_its_threshold_not_a_more_probable_one() -> None:
    labels = np.array([0, 1, 2, 0])
    rows = np.array([[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.05, 0.05, 0.9], [0.1, 0.4, 0.5]])
    found = label_errors(labels, rows)  # thresholds .45, .4, .9
    assert (found.positions.tolist(), found.believed.tolist()) == ([3], [1])
    assert found.scores == pytest.approx([0.9])


def test_equal_probabilities_reach_the_threshold_that_they_make() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    rows = np.array([[0.1, 0.9]] * 3 + [[0.9, 0.1]] * 3)
    assert np.mean([0.1] * 3) > 0.1  # that is a rounding, not a higher bar
    assert label_errors(labels, rows).joint.tolist() == [[0, 3], [3, 0]]
    assert label_errors(labels[:3], rows[:3] * [1, 0.0]).joint.tolist() == [[3, 0], [0, 0]]


# --- edges


def test_without_items_there_are_no_errors() -> None:
    found = label_errors(np.zeros(0, np.int64), np.zeros((0, 3)))
    assert found.positions.tolist() == found.scores.tolist() == found.believed.tolist() == []
    assert found.joint.tolist() == [[0] * 3] * 3


def test_of_one_label_only_no_item_is_wrong() -> None:
    assert not len(label_errors(np.zeros(4, np.int64), np.ones((4, 1))).positions)
    given, rows, _ = drawn(0, 50, 3, 0.0)
    assert not len(label_errors(np.zeros_like(given), rows).positions)


def test_a_label_that_no_item_has_is_never_believed() -> None:
    given, rows, _ = drawn(1, 300, 3, 0.2)
    found = label_errors(np.minimum(given, 1), rows)
    assert len(found.positions)
    assert 2 not in found.believed
    assert not found.joint[:, 2].any()


def test_probabilities_that_are_no_numbers_are_refused_by_name() -> None:
    given, rows, _ = drawn(2, 10, 2, 0.2)
    for value in (np.nan, np.inf, -np.inf):
        rows[7, 1] = value
        with pytest.raises(ModelError, match=r"\b1 of 10\b.* 7: \[(.|\n)*learning_rate"):
            label_errors(given, rows)


@pytest.mark.parametrize("number", [-1, 2])
def test_a_label_out_of_range_is_refused(number: int) -> None:
    given, rows, _ = drawn(2, 10, 2, 0.2)
    given[3] = number
    with pytest.raises(ModelError, match=rf"\b3\b.* {number}\b.*\b2\b"):
        label_errors(given, rows)


# --- against cleanlab


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("surety", [0.5, 2.0, 4.0])
def test_of_two_labels_suspects_and_their_order_are_those_of_cleanlab(seed: int, surety: float) -> None:
    given, rows, _ = drawn(seed, 300, 2, 0.15, surety)
    found = label_errors(given, rows)
    assert len(found.positions) > 5
    assert found.positions.tolist() == of_cleanlab(given, rows)
    quality = get_label_quality_scores(given, rows, method="self_confidence")
    np.testing.assert_allclose(1 - found.scores, quality[found.positions])
    np.testing.assert_array_equal(found.joint, compute_confident_joint(given, rows, calibrate=False))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_labels", [3, 6])
def test_of_more_labels_they_are_wherever_the_most_probable_label_reaches_its_threshold(
    seed: int, n_labels: int
) -> None:
    """Elsewhere cleanlab counts an item for its most probable label though that does not reach its threshold."""
    given, rows, _ = drawn(seed, 500, n_labels, 0.15)
    thresholds = np.array([rows[given == label, label].mean() for label in range(n_labels)])
    most_probable = rows.argmax(axis=1)
    clear = np.flatnonzero(rows.max(axis=1) >= thresholds[most_probable] - TOLERANCE)
    found = label_errors(given, rows)
    ours = [position for position in found.positions.tolist() if position in clear]
    assert len(ours) > 5
    assert ours == [position for position in of_cleanlab(given, rows) if position in clear]
    assert set(found.positions) <= set(of_cleanlab(given, rows))


# --- planted errors


def test_most_errors_planted_among_300_labels_of_77_are_among_the_first_40() -> None:
    path = Path(__file__).parents[4] / "shared" / "data" / "classification" / "banking77.train.csv"
    if not path.is_file():
        pytest.skip(f"the labelled texts are not at {path.parent}")
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    names = sorted({row["label"] for row in table})
    generator = np.random.default_rng(0)
    rows = [table[k] for k in generator.permutation(len(table))[:300]]
    labels, planted = np.array([names.index(row["label"]) for row in rows]), generator.choice(300, 18, replace=False)
    labels[planted] = (labels[planted] + generator.integers(1, 77, 18)) % 77
    encoder = StaticVectors()
    examples = Examples(read_texts(encoder, [row["text"] for row in rows], with_characters=True), labels)
    found = label_errors(labels, cross_validated_probabilities(encoder, examples, TrainingConfig(), n_labels=77))
    assert np.isin(found.positions[:40], planted).sum() >= 10


# --- out-of-sample probabilities of the training items


def test_cross_validated_probabilities_are_those_that_training_calibrates_with() -> None:
    table = synthetic_headlines(150)
    labels = np.array([label == "related" for label in table["label"].to_pylist()], np.int64)
    encoder = fit_bag_of_words([table["text"].combine_chunks()])
    examples = Examples(encoder.tokenize(table["text"].combine_chunks()), labels)
    config = TrainingConfig(hidden=4, epochs=5)
    folds = stratified_folds(labels, N_FOLDS, np.random.default_rng(config.seed))
    logits = np.zeros((150, 2), np.float32)
    for fold in range(N_FOLDS):
        held_out = examples.take(folds == fold)
        trained = train(encoder, examples.take(folds != fold), held_out, config, Target(2, 1))
        logits[folds == fold] = predict_logits(trained.classifier, held_out.tokens)
    found = cross_validated_probabilities(encoder, examples, config, n_labels=2)
    calibration = train(encoder, examples, None, config, Target(2, 1)).calibration
    np.testing.assert_array_equal(found, calibration.probabilities(logits))
    assert calibration == calibrate(logits, labels, 1, choose_threshold=False)


# --- whatever the data


def as_rows(found: LabelErrors) -> set[tuple[int, float, int]]:
    return set(zip(found.positions.tolist(), found.scores.tolist(), found.believed.tolist(), strict=True))


@given(cases, st.integers(0, 99))
def test_items_in_another_order_give_the_same_suspects(case: Case, seed: int) -> None:
    labels, rows = case
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    found, again = label_errors(labels, rows), label_errors(labels[shuffled], rows[shuffled])
    assert as_rows(found) == {(int(shuffled[at]), score, believed) for at, score, believed in as_rows(again)}
    np.testing.assert_array_equal(found.joint, again.joint)


@given(cases)
def test_the_worst_come_first_each_once_and_none_keeps_its_label(case: Case) -> None:
    labels, rows = case
    found = label_errors(labels, rows)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert len(set(found.positions.tolist())) == len(found.positions)
    assert (found.believed != labels[found.positions]).all()
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert found.joint.sum() <= len(labels)
