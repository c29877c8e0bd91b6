import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from tasks.learning.calibration import (
    MIN_POSITIVES,
    Calibration,
    best_threshold,
    calibrate,
    calibrate_held_out,
    expected_f1_threshold,
)

Logits = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def log_softmax(logits: npt.ArrayLike, axis: int) -> npt.NDArray[np.float64]:
    wide = np.array(logits, np.float64)
    wide -= wide.max(axis=axis, keepdims=True)
    return np.asarray(wide - np.logaddexp.reduce(wide, axis=axis, keepdims=True))


def softmax(logits: npt.ArrayLike, axis: int) -> npt.NDArray[np.float64]:
    return np.exp(log_softmax(logits, axis))


def outcomes(seed: int, n: int, n_labels: int, sharpness: float) -> tuple[Logits, Numbers]:
    """Logits whose true temperature is `sharpness`: labels are drawn from softmax(logits / sharpness)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (n, n_labels)) * sharpness
    chances = softmax(logits / sharpness, axis=1)
    labels = np.array([generator.choice(n_labels, p=row) for row in chances])
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize("sharpness", [0.2, 1.0, 6.0])
def test_temperature_is_the_one_that_a_brute_force_search_finds(n_labels: int, sharpness: float) -> None:
    logits, labels = outcomes(1, 400, n_labels, sharpness)
    tried = np.exp(np.linspace(np.log(0.05), np.log(20), 1500))
    losses = [-log_softmax(logits / t, axis=1)[np.arange(400), labels].mean() for t in tried]
    found = calibrate(logits, labels, None, choose_threshold=False)
    assert found.temperature == pytest.approx(tried[int(np.argmin(losses))], rel=0.026)  # a step of its search
    assert found.temperature == pytest.approx(sharpness, rel=0.3)
    loss = -np.log(found.probabilities(logits)[np.arange(400), labels]).mean()
    assert loss == pytest.approx(min(losses), abs=2e-4)


def test_temperature_stays_within_its_bounds_where_every_or_no_prediction_is_right() -> None:
    logits = np.array([[0.0, 3.0], [3.0, 0.0]] * 10, np.float32)
    right, wrong = np.array([1, 0] * 10), np.array([0, 1] * 10)
    assert calibrate(logits, right, None, choose_threshold=False).temperature == pytest.approx(0.05)
    assert calibrate(logits, wrong, None, choose_threshold=False).temperature == pytest.approx(20)


def test_probabilities_are_the_softmax_of_the_divided_logits_also_of_huge_ones() -> None:
    logits = np.array([[1.0, 2.0, -1.0], [1000.0, 0.0, -1000.0], [-1e30, -1e30, -1e30]], np.float32)
    before = logits.copy()
    found = Calibration(temperature=0.5).probabilities(logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, softmax(before.astype(float) / 0.5, axis=1), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(logits, before)


def test_without_a_positive_label_the_most_probable_is_chosen() -> None:
    rows = np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]], np.float32)
    assert Calibration(threshold=0.9).decisions(rows).tolist() == [1, 0, 0]


@pytest.mark.parametrize("positive", [0, 1])
def test_for_two_labels_the_positive_one_is_chosen_from_its_threshold_on(positive: int) -> None:
    p = np.array([0.25, 0.2499, 0.9, 0.0], np.float32)
    rows = np.stack([p, 1 - p] if positive == 0 else [1 - p, p], axis=1)
    chosen = Calibration(threshold=0.25, positive=positive).decisions(rows)
    assert (chosen == positive).tolist() == [True, False, True, False]


def test_for_three_labels_below_the_threshold_the_most_probable_of_the_others_is_chosen() -> None:
    rows = np.array([[0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [0.45, 0.45, 0.1]], np.float32)
    rows.flags.writeable = False
    assert Calibration(threshold=0.5, positive=0).decisions(rows).tolist() == [0, 2, 1, 1]
    assert Calibration(threshold=0.2, positive=0).decisions(rows).tolist() == [0, 0, 1, 0]


scores_and_truth = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=25).filter(
    lambda rows: any(hit for _, hit in rows)
)


@given(scores_and_truth)
def test_best_threshold_has_the_highest_f1_of_all_cuts_and_is_the_lowest_of_those(rows: list[tuple[int, bool]]) -> None:
    scores = (np.array([score for score, _ in rows]) / 12).astype(np.float32)
    truth = np.array([hit for _, hit in rows])
    f1_of = {float(cut): f1_score(truth, scores >= cut) for cut in np.unique(scores)}  # every cut there can be
    best = max(f1_of.values())
    lowest = min(cut for cut, f1 in f1_of.items() if f1 > best - 1e-12)
    threshold = best_threshold(scores, truth)
    below = max([float(score) for score in np.unique(scores) if score < lowest], default=0.0)
    assert threshold == pytest.approx((lowest + below) / 2)
    assert f1_score(truth, scores >= threshold) == pytest.approx(best)


@pytest.mark.parametrize("n_positive", [1, 2])
def test_a_threshold_between_two_neighbouring_floats_still_parts_them(n_positive: int) -> None:
    first = np.float32(0.99999994)
    second = np.nextafter(first, np.float32(0))
    scores = np.array([first, second, np.nextafter(second, np.float32(0))], np.float32)
    truth = np.arange(3) < n_positive
    fitted = Calibration(threshold=best_threshold(scores, truth), positive=1)
    assert fitted.decisions(np.stack([1 - scores, scores], axis=1)).tolist() == truth.astype(int).tolist()


def test_a_threshold_is_fitted_only_from_20_positives_on() -> None:
    assert MIN_POSITIVES == 20
    generator = np.random.default_rng(0)
    for n_positive, fitted in ((19, False), (20, True)):
        labels = np.repeat([1, 0], [n_positive, 300])
        logits = np.stack([np.zeros(320 - 20 + n_positive), generator.normal(labels * 2.0 - 3)], axis=1)
        found = calibrate(logits.astype(np.float32), labels, 1, choose_threshold=True)
        assert (found.threshold != 0.5) is fitted
        assert found.positive == 1


def test_the_fitted_threshold_is_on_the_calibrated_probabilities() -> None:
    logits, labels = outcomes(3, 300, 2, 4.0)
    found = calibrate(logits, labels, 1, choose_threshold=True)
    scores = Calibration(temperature=found.temperature).probabilities(logits)[:, 1]
    assert found.threshold == best_threshold(scores, labels == 1)


@pytest.mark.parametrize(("positive", "choose"), [(None, True), (1, False)])
def test_no_threshold_is_fitted_without_a_positive_label_or_unless_asked_for(
    positive: int | None, choose: bool
) -> None:
    logits, labels = outcomes(3, 300, 2, 4.0)
    found = calibrate(logits, labels, positive, choose_threshold=choose)
    assert found == Calibration(found.temperature, 0.5, positive)
    assert found.temperature != 1.0


# --- on cross-validated items


def test_for_two_labels_held_out_logits_become_the_probabilities_of_platt_scaling() -> None:
    logits, labels = outcomes(5, 4000, 2, 3.0)
    logits[:, 1] += 2
    found, shift = calibrate_held_out(logits, labels, None)
    margins = (logits[:, 1] - logits[:, 0])[:, None].astype(np.float64)
    reference = LogisticRegression(C=np.inf, tol=1e-8).fit(margins, labels)
    np.testing.assert_allclose(found.probabilities(logits + shift), reference.predict_proba(margins), atol=2e-3)
    assert (found.temperature, float(shift[1])) == pytest.approx((3.0, -2.0), rel=0.15)


def test_a_labels_only_item_does_not_drive_the_temperature() -> None:
    logits, labels = outcomes(6, 300, 5, 1.0)
    alone = np.concatenate([logits, np.full((1, 5), -30, np.float32) + np.float32([60, 0, 0, 0, 0])])
    alone = np.concatenate([alone, np.full((301, 1), -30, np.float32)], axis=1)
    found, shift = calibrate_held_out(alone, np.append(labels, 5), None)
    assert found.temperature == calibrate(logits, labels, None, choose_threshold=False).temperature
    assert not shift.any()


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12))
def test_the_threshold_of_the_highest_expected_f1_is_the_best_of_all_cuts(values: list[float]) -> None:
    probabilities = np.array(values, np.float32)
    total = probabilities.sum(dtype=np.float64)

    def expected(threshold: float) -> float:
        chosen = probabilities.astype(np.float64) >= threshold
        rest = 1 - probabilities[~chosen].astype(np.float64)
        positive = 2 * probabilities[chosen].sum(dtype=np.float64) / (chosen.sum() + total)
        return float(positive + 2 * rest.sum() / max(len(rest) + len(probabilities) - total, 1e-9))

    best = max(expected(float(cut)) for cut in probabilities)
    assert expected(expected_f1_threshold(probabilities)) == pytest.approx(best, abs=1e-6)


def test_even_labels_that_the_items_say_little_of_are_not_all_called_positive() -> None:
    """F1 of the positive label alone would have it so: .67 by calling everything positive."""
    probabilities = np.random.default_rng(0).uniform(0.3, 0.7, 2_000).astype(np.float32)
    assert expected_f1_threshold(probabilities) == pytest.approx(0.5, abs=0.02)
    rare = np.random.default_rng(0).beta(0.05, 1, 5_000).astype(np.float32)
    assert expected_f1_threshold(rare) < 0.4
