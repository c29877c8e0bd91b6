import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sk

from storage.records import Metric
from tasks.learning import metrics as room
from tasks.learning.calibration import Calibration
from tasks.learning.metrics import (
    Evaluation,
    evaluate,
    label_figures,
    resamples,
)
from tasks.learning.stopping import wilson_interval

BINARY = Calibration(positive=1)
MULTI = Calibration()
Rows = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]

# score in twelfths (many ties), truth, weight 0-4 as a bootstrap draw has it
items = st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(0, 4)), min_size=2, max_size=40).filter(
    lambda rows: any(times for _, _, times in rows)
)


def two_columns(p: npt.ArrayLike) -> Rows:
    column = np.array(p, np.float32)
    return np.stack([1 - column, column], axis=1)


def found(evaluation: Evaluation, name: str) -> Metric:
    (metric,) = (metric for metric in evaluation.metrics if metric.name == name)
    return metric


def simulated(n: int, n_labels: int = 2, seed: int = 0, noise: float = 1.0) -> tuple[Rows, Numbers]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, n_labels, n)
    logits = np.eye(n_labels)[labels] + generator.normal(0, noise, (n, n_labels))
    return Calibration().probabilities(logits.astype(np.float32)), labels


@settings(max_examples=100)
@given(items)
def test_figures_equal_scikit_learns_with_ties_and_with_weights(rows: list[tuple[int, bool, int]]) -> None:
    scores = np.array([score for score, _, _ in rows]) / 12
    truth = np.array([hit for _, hit, _ in rows])
    weight = np.array([times for _, _, times in rows], np.float64)
    chosen = scores >= 0.5
    figures = label_figures(scores, truth, chosen)
    for weights in (np.ones(len(rows)), weight):
        with_label, without = weights[truth].sum(), weights[~truth].sum()
        expected = {
            "auc": sk.roc_auc_score(truth, scores, sample_weight=weights) if with_label and without else np.nan,
            "ap": sk.average_precision_score(truth, scores, sample_weight=weights) if with_label else np.nan,
            "recall": sk.recall_score(truth, chosen, sample_weight=weights, zero_division=np.nan),
            "precision": sk.precision_score(truth, chosen, sample_weight=weights, zero_division=np.nan),
            "f1": sk.f1_score(truth, chosen, sample_weight=weights, zero_division=np.nan),
        }
        for name, value in expected.items():
            assert figures[name](weights[None])[0] == pytest.approx(value, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("positive", [None, 2])
def test_three_labels_have_figures_each_and_their_mean(positive: int | None) -> None:
    names = ("sport", "politics", "weather")
    rows, labels = simulated(240, 3)
    calibration = Calibration(positive=positive)
    chosen = calibration.decisions(rows)
    evaluation = evaluate(rows, labels, names, calibration)
    each = {
        "f1": sk.f1_score(labels, chosen, average=None),
        "precision": sk.precision_score(labels, chosen, average=None),
        "recall": sk.recall_score(labels, chosen, average=None),
        "auc": [sk.roc_auc_score(labels == k, rows[:, k]) for k in range(3)],
        "ap": [sk.average_precision_score(labels == k, rows[:, k]) for k in range(3)],
    }
    for name, values in each.items():
        for k, label in enumerate(names):
            assert evaluation.value(f"{name}[{label}]") == pytest.approx(values[k])
        expected = np.mean(values) if positive is None else values[positive]
        assert evaluation.value(name) == pytest.approx(float(expected))
    assert evaluation.value("accuracy") == pytest.approx(np.mean(chosen == labels))
    listed = [metric.name for metric in evaluation.metrics]
    assert len(listed) == len(set(listed))
    assert ("macro_f1" in listed) is (positive is not None)
    if positive is not None:
        assert evaluation.value("macro_f1") == pytest.approx(float(np.mean(each["f1"])))


def test_two_labels_have_the_figures_of_the_positive_one_or_the_mean_of_both() -> None:
    rows, labels = simulated(200)
    of_one = evaluate(rows, labels, ("no", "yes"), Calibration(threshold=0.4, positive=1))
    assert " ".join(metric.name for metric in of_one.metrics) == "f1 precision recall auc ap accuracy ece"
    assert of_one.n == 200
    chosen = (rows[:, 1] >= 0.4).astype(int)
    for name in ("f1", "precision", "recall", "accuracy"):
        assert of_one.value(name) == pytest.approx(getattr(sk, f"{name}_score")(labels, chosen))
    of_both = evaluate(rows, labels, ("a", "b"), MULTI)
    assert of_both.value("f1") == pytest.approx(sk.f1_score(labels, rows.argmax(axis=1), average="macro"))
    assert not any("[" in metric.name for metric in of_both.metrics)


UNDEFINED = [
    # labels, p(yes), figure
    ([0, 0, 0], [0.1, 0.2, 0.3], "auc"),
    ([1, 1, 1], [0.1, 0.2, 0.3], "auc"),
    ([0, 0, 0], [0.1, 0.2, 0.3], "ap"),
    ([0, 0, 0], [0.1, 0.2, 0.3], "recall"),
    ([0, 0, 1], [0.1, 0.2, 0.3], "precision"),
    ([0, 0, 0], [0.1, 0.2, 0.3], "f1"),
]


@pytest.mark.parametrize(("labels", "p", "name"), UNDEFINED)
def test_an_undefined_figure_is_none_with_its_reason(labels: list[int], p: list[float], name: str) -> None:
    metric = found(evaluate(two_columns(p), np.array(labels), ("no", "yes"), BINARY), name)
    assert metric == Metric(name, None, None, None, metric.reason)
    assert str(metric.reason).split()[-1] == "yes" or " yes " in str(metric.reason)


def test_a_mean_over_labels_is_of_those_that_have_the_figure() -> None:
    names = ("sport", "politics", "weather")
    rows = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]], np.float32)
    evaluation = evaluate(rows, np.array([0, 1, 0]), names, MULTI)
    assert "weather" in str(found(evaluation, "f1[weather]").reason)
    for name in ("f1", "precision", "recall", "auc", "ap"):
        own = [evaluation.value(f"{name}[{label}]") for label in names[:2]]
        assert evaluation.value(name) == pytest.approx(np.mean([value for value in own if value is not None]))
    chosen_but_absent = evaluate(rows[:, [0, 2, 1]], np.array([0, 0, 0]), names, MULTI)
    assert evaluate(rows[:1], np.array([0]), names, MULTI).value("ap") == 1.0
    assert chosen_but_absent.value("f1") == chosen_but_absent.value("f1[sport]"), "no item is weather"
    assert found(chosen_but_absent, "auc").value is None


def test_figures_that_rest_on_few_items_are_never_surer_than_wilson() -> None:
    labels = np.array([1, 1, 1] + [0] * 30)
    evaluation = evaluate(two_columns(np.array([0.9, 0.9, 0.1] + [0.2] * 30)), labels, ("no", "yes"), BINARY)
    for name in ("recall", "auc", "ap"):
        metric = found(evaluation, name)
        assert metric.value is not None
        assert metric.low is not None
        assert metric.high is not None
        low, high = wilson_interval(metric.value * 3, 3)
        assert metric.low <= low < high <= metric.high


@pytest.mark.parametrize("n", [1, 6, 40])
def test_figures_without_a_wrong_decision_have_the_interval_that_so_few_items_allow(n: int) -> None:
    labels = np.array([1] * n + [0] * n)
    right = evaluate(two_columns(np.where(labels == 1, 0.9, 0.1)), labels, ("no", "yes"), BINARY)
    wrong = evaluate(two_columns(np.where(labels == 1, 0.1, 0.9)), labels, ("no", "yes"), BINARY)
    for name in ("precision", "recall", "auc", "ap"):
        assert (found(right, name).low, found(right, name).high) == pytest.approx(wilson_interval(n, n))
    for name in ("recall", "auc"):
        assert (found(wrong, name).low, found(wrong, name).high) == pytest.approx(wilson_interval(0, n))
    assert found(right, "accuracy").low == pytest.approx(wilson_interval(2 * n, 2 * n)[0])
    share = wilson_interval(n, n)[0]
    assert found(right, "f1").low == pytest.approx(2 * share / (1 + share))
    assert found(wrong, "f1").high == pytest.approx(2 * (high := wilson_interval(0, 2 * n)[1]) / (1 + high))
    ece = found(right, "ece")
    assert ece.low is not None
    assert ece.value is not None
    assert ece.high is not None
    assert ece.low < ece.value < ece.high


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize("positive", [None, 1])
@pytest.mark.parametrize("labels", [[], [0], [1], [0, 0, 0, 0]])
def test_no_set_of_items_crashes_it_and_every_figure_has_a_value_or_a_reason(
    n_labels: int, positive: int | None, labels: list[int]
) -> None:
    rows = np.full((len(labels), n_labels), 1 / n_labels, np.float32)
    names = ("a", "b", "c")[:n_labels]
    evaluation = evaluate(rows, np.array(labels, np.int64), names, Calibration(positive=positive))
    for metric in evaluation.metrics:
        assert (metric.value is None) == (metric.reason is not None) == (metric.low is None) == (metric.high is None)
        assert metric.reason != ""
        if not labels:
            assert metric.value is None


def test_every_defined_figure_has_an_interval_around_it() -> None:
    for seed in range(10):
        rows, labels = simulated(150, 3, seed)
        for metric in evaluate(rows, labels, ("a", "b", "c"), MULTI).metrics:
            assert None not in (metric.value, metric.low, metric.high)
            assert metric.low < metric.high  # type: ignore[operator]
            assert metric.low <= metric.value <= metric.high  # type: ignore[operator]


def test_the_interval_of_average_precision_is_corrected_for_bias() -> None:
    rows, labels = simulated(60, seed=3)
    metric = found(evaluate(rows, labels, ("no", "yes"), BINARY), "ap")
    weights = resamples(len(labels), 1000, np.random.default_rng(0))[1:].astype(int)
    drawn = [np.repeat(np.arange(60), each) for each in weights]
    values = np.array([sk.average_precision_score(labels[each], rows[each, 1]) for each in drawn])
    z = norm.ppf(np.mean(values < metric.value))
    ends = np.percentile(values, 100 * norm.cdf([2 * z - 1.96, 2 * z + 1.96]))
    assert [metric.low, metric.high] == pytest.approx(ends, abs=0.005)
    assert metric.low < np.percentile(values, 2.5) - 0.01


def test_one_rare_label_does_not_decide_the_interval_of_a_mean_over_labels() -> None:
    rows, labels = simulated(150, 3, seed=1)
    labels = np.where((labels == 2) & (np.cumsum(labels == 2) > 2), 0, labels)
    metrics = {each.name: each for each in evaluate(rows, labels, ("a", "b", "c"), MULTI).metrics}
    for name in ("ap", "recall"):
        singles = [metrics[f"{name}[{label}]"] for label in "abc"]
        lows = [(each.value - each.low) / 3 for each in singles]  # type: ignore[operator]
        assert metrics[name].low <= metrics[name].value - np.hypot(np.hypot(*lows[:2]), lows[2]) + 1e-9  # type: ignore[operator]
        assert metrics[name].high - metrics[name].low < singles[2].high - singles[2].low  # type: ignore[operator]


def test_the_interval_holds_the_true_value_mostly_and_shrinks_with_more_items() -> None:
    rows, labels = simulated(20_000, seed=99)
    true_auc, true_accuracy = sk.roc_auc_score(labels, rows[:, 1]), np.mean(rows.argmax(axis=1) == labels)
    held = {"auc": 0, "accuracy": 0}
    widths: dict[int, list[float]] = {100: [], 1600: []}
    for seed in range(40):
        evaluation = evaluate(*simulated(100, seed=seed), ("no", "yes"), BINARY)
        for name, truth in (("auc", true_auc), ("accuracy", true_accuracy)):
            metric = found(evaluation, name)
            assert metric.low is not None
            assert metric.high is not None
            held[name] += metric.low <= truth <= metric.high
    assert min(held.values()) >= 33  # 38 of 40 expected; 33 or fewer in 1 of 100 such tests
    for n, listed in widths.items():
        for seed in range(3):
            metric = found(evaluate(*simulated(n, seed=seed), ("no", "yes"), BINARY), "auc")
            assert metric.low is not None
            assert metric.high is not None
            listed.append(metric.high - metric.low)
    assert 3 < np.mean(widths[100]) / np.mean(widths[1600]) < 5.3  # sqrt(16) = 4


def test_calibration_error_worked_by_hand_for_the_positive_label() -> None:
    # Bin .2-.3: confidence .25 .25, outcome 1 0, gap |.5 - .25| = .25; bin .9-1: 1.0 and .9, both right, gap .05.
    evaluation = evaluate(two_columns([0.25, 0.25, 1.0, 0.9]), np.array([1, 0, 1, 1]), ("no", "yes"), BINARY)
    assert evaluation.value("ece") == pytest.approx((2 * 0.25 + 2 * 0.05) / 4, abs=1e-6)


def test_calibration_error_has_ten_bins_of_equal_width() -> None:
    pairs = ([0.35, 0.41], [0.89, 0.91], [0.31, 0.39])
    # .35 and .41 are neighbours in different bins: gaps .65 and .41, not one of |.5 - .38|. So are .89 and .91.
    found_ece = [evaluate(two_columns(p), np.array([1, 0]), ("n", "y"), BINARY).value("ece") for p in pairs]
    assert found_ece == pytest.approx([(0.65 + 0.41) / 2, (0.11 + 0.91) / 2, abs(0.5 - 0.35)], abs=1e-6)


def test_calibration_error_worked_by_hand_for_the_most_probable_label() -> None:
    # Confidence .6 right, .65 wrong: gap |.5 - .625|; .75 right: gap .25.
    rows = np.array([[0.6, 0.2, 0.2], [0.1, 0.65, 0.25], [0.05, 0.2, 0.75]], np.float32)
    evaluation = evaluate(rows, np.array([0, 2, 2]), ("a", "b", "c"), MULTI)
    assert evaluation.value("ece") == pytest.approx((2 * 0.125 + 0.25) / 3, abs=1e-6)


def test_the_same_seed_gives_the_same_figures_and_another_other_intervals_only() -> None:
    rows, labels = simulated(80)
    first, again = (evaluate(rows, labels, ("no", "yes"), BINARY, seed=4) for _ in range(2))
    other = evaluate(rows, labels, ("no", "yes"), BINARY, seed=5)
    assert first == again
    assert found(first, "auc").low != found(other, "auc").low
    assert [m.value for m in first.metrics] == [m.value for m in other.metrics]


def test_measuring_slice_by_slice_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = simulated(60)
    whole = evaluate(rows, labels, ("no", "yes"), BINARY)
    monkeypatch.setattr(room, "_CELLS", 500)
    for metric, expected in zip(evaluate(rows, labels, ("no", "yes"), BINARY).metrics, whole.metrics, strict=True):
        assert (metric.value, metric.low, metric.high) == pytest.approx((expected.value, expected.low, expected.high))
