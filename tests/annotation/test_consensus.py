"""CROWDLAB and ActiveLab are the library's, with ids in place, in silence, and whatever the answers look like."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cleanlab import multiannotator

from annotation.agreement import MISSING
from annotation.consensus import ask_scores, crowd_consensus
from storage.errors import BatchError, PalError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def crowd(n: int = 300, seed: int = 0) -> tuple[Ints, Floats, Ints]:
    """Answers of two good annotators and two careless ones, a fair model's probabilities, the truth; 3 labels."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, n)
    wrong = generator.random((n, 4)) < [0.05, 0.1, 0.6, 0.6]
    given = np.where(wrong, generator.integers(0, 3, (n, 4)), truth[:, None])
    matrix = np.where(generator.random((n, 4)) < 0.25, MISSING, given)
    logits = 2 * np.eye(3)[truth] + generator.normal(0, 1, (n, 3))
    odds = np.exp(logits)
    return matrix, odds / odds.sum(axis=1, keepdims=True), truth


def with_nan(matrix: Ints) -> Floats:
    return np.where(matrix == MISSING, np.nan, matrix)


def test_consensus_equals_the_librarys_and_keeps_unanswered_items_and_idle_annotators_in_place() -> None:
    matrix, probabilities, _ = crowd()
    matrix[[3, 50]] = MISSING
    wide = np.insert(matrix, 1, MISSING, axis=1)
    found = crowd_consensus(wide, probabilities)
    answered = (matrix != MISSING).any(axis=1)
    expected: dict[str, Any] = multiannotator.get_label_quality_multiannotator(
        with_nan(matrix[answered]), probabilities[answered], return_weights=True, verbose=False
    )
    items, annotators = expected["label_quality"], expected["annotator_stats"].sort_index()
    assert found.labels[answered].tolist() == items["consensus_label"].tolist()
    assert found.quality[answered] == pytest.approx(items["consensus_quality_score"].to_numpy(), abs=1e-7)
    assert found.labels[~answered].tolist() == [MISSING] * (~answered).sum()
    assert np.isnan(found.quality[~answered]).all()
    assert found.annotator_quality == pytest.approx(
        np.insert(annotators["annotator_quality"].to_numpy(), 1, np.nan), abs=1e-7, nan_ok=True
    )
    assert found.annotator_weights == pytest.approx(
        np.insert(expected["annotator_weight"], 1, np.nan), abs=1e-7, nan_ok=True
    )
    assert found.model_weight == pytest.approx(float(expected["model_weight"]))


def test_scores_are_one_less_the_librarys_so_that_higher_is_asked_first() -> None:
    matrix, probabilities, _ = crowd()
    matrix[::3] = MISSING
    answered = (matrix != MISSING).any(axis=1)
    scores = ask_scores(matrix, probabilities)
    expected = multiannotator.get_active_learning_scores(
        with_nan(matrix[answered]), probabilities[answered].copy(), probabilities[~answered].copy()
    )
    assert scores[answered] == pytest.approx(1 - expected[0], abs=1e-6)
    assert scores[~answered] == pytest.approx(1 - expected[1], abs=1e-6)
    assert scores.min() >= 0
    assert scores.max() <= 1


@pytest.mark.parametrize("n_items", [0, 3])
def test_scores_of_new_items_alone_are_the_models_doubt(n_items: int) -> None:
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]])[:n_items]
    scores = ask_scores(np.full((n_items, 2), MISSING), probabilities)
    assert scores == pytest.approx(1 - (probabilities.max(axis=1) + 0.5) / 2)


def test_one_annotator_can_be_scored_but_has_no_consensus() -> None:
    matrix, probabilities = np.array([[0], [1], [MISSING]]), np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
    scores = ask_scores(matrix, probabilities)
    assert scores == pytest.approx([1 - (2 * 0.9 + 0.5) / 3, 1 - (2 * 0.4 + 0.5) / 3, 0.5])
    with pytest.raises(BatchError) as error:
        crowd_consensus(matrix, probabilities)
    assert " 2 " in error.value.what, "the answered items"
    assert "pal annotate" in error.value.hint


def test_an_annotator_with_one_answer_and_one_beside_nobody_are_no_fault() -> None:
    matrix = np.array([[0, 0, MISSING, MISSING], [1, 1, 1, MISSING], [0, 1, MISSING, MISSING], [MISSING] * 3 + [1]])
    probabilities = np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]])
    found = crowd_consensus(matrix, probabilities)
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert np.isnan(found.annotator_quality).tolist() == [False, False, False, True]
    assert np.isfinite(found.annotator_weights).all()


def test_labels_that_nobody_gave_and_certain_models_are_no_fault() -> None:
    matrix = np.array([[0, 0], [0, 1], [1, 1], [MISSING, 0]])
    probabilities = np.eye(4)[[0, 1, 1, 3]]
    found = crowd_consensus(matrix, probabilities)
    assert set(found.labels.tolist()) <= {0, 1, 3}
    assert np.isfinite(found.quality).all()
    assert np.isfinite(ask_scores(matrix, probabilities)).all()


def test_one_label_throughout_is_no_fault() -> None:
    found = crowd_consensus(np.zeros((4, 3), np.int64), np.full((4, 2), [0.9, 0.1]))
    assert found.labels.tolist() == [0] * 4
    assert found.quality.min() > 0.9


def test_ties_on_all_sides_are_settled_without_chance() -> None:
    matrix, probabilities = np.array([[0, 1], [1, 0]]), np.full((2, 2), 0.5, np.float32)
    before: Any = np.random.get_state()
    assert crowd_consensus(matrix, probabilities).labels.tolist() == [0, 0]
    assert ask_scores(matrix, probabilities) == pytest.approx([0.5, 0.5], abs=1e-6)
    after: Any = np.random.get_state()
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]


def test_nothing_is_printed_warned_or_changed(capsys: pytest.CaptureFixture[str]) -> None:
    matrix = np.array([[0, 1, MISSING], [1, 0, MISSING], [MISSING, MISSING, 2], [0, 2, MISSING]])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 4).astype(np.float32)
    kept = matrix.copy(), probabilities.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        crowd_consensus(matrix, probabilities)
        ask_scores(matrix, probabilities)
    assert caught == []
    assert capsys.readouterr() == ("", "")
    assert np.array_equal(matrix, kept[0])
    assert np.array_equal(probabilities, kept[1])


def test_without_cleanlab_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    matrix, probabilities, _ = crowd(10)
    for function in (crowd_consensus, ask_scores):
        with pytest.raises(PalError) as error:
            function(matrix, probabilities)
        assert "cleanlab" in error.value.what
        assert "pip install 'pytorch-active-learning[crowd]'" in error.value.hint
