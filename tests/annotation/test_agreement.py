"""Agreement: equal to other implementations and to published examples, and undefined where it is undefined."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import krippendorff
import numpy as np
import numpy.typing as npt
import pytest
from figures import figures
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.cells import cell_len
from sklearn.metrics import cohen_kappa_score

from annotation import agreement as room
from annotation.agreement import MISSING, Agreement, AnnotatorAgreement, Known, agreement, answer_table
from flows.cli.annotating import WIDTH, agreement_text
from storage.errors import BatchError
from storage.records import Metric

Ints = npt.NDArray[np.int64]
Figure = Callable[[Ints, int], float]


def named(matrix: npt.ArrayLike) -> list[tuple[str, str, str]]:
    """Answers of a matrix (items, annotators) with MISSING; label k is `lk`."""
    return [
        (f"i{row}", f"a{column}", f"l{value}")
        for row, values in enumerate(np.asarray(matrix).tolist())
        for column, value in enumerate(values)
        if value != MISSING
    ]


def labels(n: int) -> list[str]:
    return [f"l{number}" for number in range(n)]


def agreed(matrix: npt.ArrayLike, n_labels: int, n_resamples: int = 0, seed: int = 0) -> Agreement:
    return agreement(named(matrix), labels(n_labels), np.random.default_rng(seed), n_resamples=n_resamples)


def agreed_on(answers: Sequence[tuple[str, str, str]], names: Sequence[str] = ("yes", "no"), **more: Any) -> Agreement:
    return agreement(answers, names, np.random.default_rng(0), **{"n_resamples": 20, **more})


def overall(found: Agreement) -> dict[str, Metric]:
    return {metric.name: metric for metric in found.overall}


def values(found: Agreement) -> dict[str, float | None]:
    return {metric.name: metric.value for metric in found.overall}


def of(found: Agreement, annotator: str) -> AnnotatorAgreement:
    return next(each for each in found.annotators if each.annotator == annotator)


def percent_in_a_loop(matrix: Ints, n_labels: int) -> float:
    shares = []
    for row in matrix:
        pairs = list(combinations(row[row != MISSING].tolist(), 2))
        if pairs:
            shares.append(sum(one == other for one, other in pairs) / len(pairs))
    return float(np.mean(shares)) if shares else np.nan


def label_shares_in_a_loop(matrix: Ints, n_labels: int) -> list[float]:
    rows = [row[row != MISSING].tolist() for row in matrix if (row != MISSING).any()]
    return [float(np.mean([row.count(label) / len(row) for row in rows])) for label in range(n_labels)]


def fleiss_in_a_loop(matrix: Ints, n_labels: int) -> float:
    chance = sum(share**2 for share in label_shares_in_a_loop(matrix, n_labels))
    return (percent_in_a_loop(matrix, n_labels) - chance) / (1 - chance) if chance < 1 else np.nan


def ac1_in_a_loop(matrix: Ints, n_labels: int) -> float:
    chance = sum(share * (1 - share) for share in label_shares_in_a_loop(matrix, n_labels)) / (n_labels - 1)
    return (percent_in_a_loop(matrix, n_labels) - chance) / (1 - chance)


def alpha_by_krippendorff(matrix: Ints, n_labels: int) -> float:
    rated = np.where(matrix == MISSING, np.nan, matrix)
    several = matrix[(matrix != MISSING).sum(axis=1) >= 2]
    if len(np.unique(several[several != MISSING])) < 2:
        return np.nan
    return float(krippendorff.alpha(rated.T, value_domain=list(range(n_labels)), level_of_measurement="nominal"))


def kappa_by_scikit_learn(matrix: Ints, n_labels: int) -> float:
    one, other = matrix[(matrix != MISSING).all(axis=1)].T
    if not len(one) or len(np.unique([one, other])) < 2:
        return np.nan
    return float(cohen_kappa_score(one, other, labels=list(range(n_labels))))


OTHERS: dict[str, Figure] = {
    "percent_agreement": percent_in_a_loop,
    "fleiss_kappa": fleiss_in_a_loop,
    "krippendorff_alpha": alpha_by_krippendorff,
    "gwet_ac1": ac1_in_a_loop,
}

matrices = (
    st.tuples(st.integers(2, 25), st.integers(2, 5), st.integers(2, 4))
    .flatmap(
        lambda shape: st.tuples(
            arrays(np.int64, shape[:2], elements=st.integers(MISSING, shape[2] - 1), fill=st.just(MISSING)),
            st.just(shape[2]),
        )
    )
    .filter(lambda drawn: bool((drawn[0] != MISSING).any()))
)


@settings(max_examples=150)
@given(matrices)
def test_figures_equal_other_implementations_with_any_answers_missing(drawn: tuple[Ints, int]) -> None:
    matrix, n_labels = drawn
    found = values(agreed(matrix, n_labels))
    for name, other in OTHERS.items():
        expected = other(matrix, n_labels)
        assert found[name] == (None if np.isnan(expected) else pytest.approx(expected, abs=1e-9)), name


@settings(max_examples=100)
@given(matrices)
def test_a_pairs_figures_are_of_its_common_items_and_mean_kappa_is_over_those_there_are(
    drawn: tuple[Ints, int],
) -> None:
    matrix, n_labels = drawn
    found = agreed(matrix, n_labels)
    kappas = []
    for pair in found.pairs:
        columns = matrix[:, [int(pair.first[1:]), int(pair.second[1:])]]
        expected = kappa_by_scikit_learn(columns, n_labels)
        common = columns[(columns != MISSING).all(axis=1)]
        assert pair.n == len(common)
        others = (percent_in_a_loop(common, n_labels), ac1_in_a_loop(common, n_labels)) if len(common) else (None, None)
        assert (pair.percent.value, pair.ac1.value) == (pytest.approx(others) if len(common) else others)
        assert pair.kappa.value == (None if np.isnan(expected) else pytest.approx(expected, abs=1e-9))
        kappas += [] if np.isnan(expected) else [expected]
    mean = values(found)["mean_cohen_kappa"]
    assert mean == (pytest.approx(np.mean(kappas), abs=1e-9) if kappas else None)


def test_where_a_label_is_rare_kappa_is_low_and_ac1_is_not() -> None:
    """The paradox of Gwet (2008): rare label, people agree, kappa below 0; figures of irrCAC 0.4.4."""
    found = agreed([[0, 0]] * 118 + [[0, 1]] * 5 + [[1, 0]] * 2, 2)
    (pair,) = found.pairs
    percent, kappa, fleiss, alpha, ac1 = 0.944, -0.02339181, -0.02880658, -0.02469136, 0.94077634
    assert (pair.percent.value, pair.kappa.value, pair.ac1.value) == pytest.approx((percent, kappa, ac1), abs=5e-9)
    assert list(values(found).values()) == pytest.approx([percent, fleiss, alpha, ac1, kappa], abs=5e-9)


def test_intervals_equal_a_slow_bootstrap_with_the_same_draws() -> None:
    generator = np.random.default_rng(5)
    matrix = generator.choice([MISSING, 0, 1, 2], (40, 4), p=[0.3, 0.4, 0.2, 0.1])
    matrix = matrix[(matrix != MISSING).any(axis=1)]
    found = agreed(matrix, 3, n_resamples=200, seed=7)
    draws = np.random.default_rng(7)
    resampled = [matrix[draws.integers(0, len(matrix), len(matrix))] for _ in range(200)]
    for name, figure in OTHERS.items():
        expected = np.nanpercentile([figure(each, 3) for each in resampled], (2.5, 97.5))
        assert (overall(found)[name].low, overall(found)[name].high) == pytest.approx(expected, abs=1e-9), name
    for pair in found.pairs:
        columns = [int(pair.first[1:]), int(pair.second[1:])]
        kappas = [kappa_by_scikit_learn(each[:, columns], 3) for each in resampled]
        assert (pair.kappa.low, pair.kappa.high) == pytest.approx(np.nanpercentile(kappas, (2.5, 97.5)), abs=1e-9)


def test_intervals_do_not_depend_on_how_many_resamples_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(1).integers(MISSING, 3, (60, 4))
    at_once = agreed(matrix, 3, n_resamples=50)
    monkeypatch.setattr(room, "_CELLS", 1)
    for metric, whole in zip(agreed(matrix, 3, n_resamples=50).overall, at_once.overall, strict=True):
        assert (metric.value, metric.low, metric.high) == pytest.approx((whole.value, whole.low, whole.high))


def test_without_an_item_that_two_answered_everything_is_undefined_with_its_reason() -> None:
    found = agreed([[0, MISSING], [MISSING, 1]], 2, n_resamples=20)
    assert {(metric.value, bool(metric.reason)) for metric in found.overall} == {(None, True)}
    (pair,) = found.pairs
    assert (pair.n, pair.kappa.value, bool(pair.percent.reason)) == (0, None, True)
    assert of(found, "a0").with_others.value is None
    assert found.notes == ()


@pytest.mark.parametrize("answers", [[], [("i1", "anna", "unsure")]])
def test_no_answers_and_none_that_count_are_no_fault(answers: list[tuple[str, str, str]]) -> None:
    found = agreed_on(answers, n_resamples=20)
    assert set(values(found).values()) == {None}
    assert found.shares == {"yes": 0.0, "no": 0.0}
    assert str(found.overall[0].reason) in agreement_text(found)


def test_where_all_answers_are_one_label_kappa_and_alpha_are_undefined_and_ac1_is_not() -> None:
    found = agreed([[1, 1], [1, 1], [MISSING, 1]], 2, n_resamples=50)
    assert values(found) == {
        "percent_agreement": 1.0,
        "fleiss_kappa": None,
        "krippendorff_alpha": None,
        "gwet_ac1": 1.0,
        "mean_cohen_kappa": None,
    }
    assert "'l1'" in str(overall(found)["fleiss_kappa"].reason)
    assert "'l1'" in str(found.pairs[0].kappa.reason)
    assert found.pairs[0].ac1.value == 1.0


def test_resamples_that_leave_a_figure_undefined_are_left_out_and_told() -> None:
    matrix = [[0, 0]] * 30 + [[1, 1]]
    found = agreed(matrix, 2, n_resamples=200)
    draws = np.random.default_rng(0)
    n_lacking = sum(30 not in draws.integers(0, 31, 31) for _ in range(200))
    assert 0 < n_lacking < 200
    assert overall(found)["fleiss_kappa"] == Metric("fleiss_kappa", 1.0, 1.0, 1.0)
    assert ["4", str(n_lacking), "200"] in [figures(note) for note in found.notes]
    assert len(found.notes) > 1, "an interval has no width"


def test_a_mean_kappa_over_some_of_the_pairs_says_so() -> None:
    found = agreed([[0, 0, MISSING], [1, 1, MISSING], [0, 1, MISSING], [MISSING, 0, 0]], 2, n_resamples=5)
    assert ["1", "3"] in [figures(note) for note in found.notes]


def test_a_mean_kappa_beside_its_interval_says_so() -> None:
    generator = np.random.default_rng(0)
    truth = generator.choice(3, 1000, p=[0.7, 0.2, 0.1])
    given = np.where(generator.random((1000, 40)) < 0.2, generator.integers(0, 3, (1000, 40)), truth[:, None])
    matrix = np.where(generator.random((1000, 40)).argsort(axis=1) < 3, given, MISSING)
    told = [note for note in agreed(matrix, 3, n_resamples=100).notes if "outside" in note]
    assert len(told) == 1
    assert not [note for note in agreed(given[:, :3], 3, n_resamples=100).notes if "outside" in note]


def test_unsure_is_left_out_or_counted_as_a_category() -> None:
    answers = [("i1", "anna", "yes"), ("i1", "ben", "unsure"), ("i2", "anna", "no"), ("i2", "ben", "no")]
    left_out = agreed_on(answers, n_resamples=0)
    counted = agreed_on(answers, unsure="category", n_resamples=0)
    assert (left_out.n_several, counted.n_several) == (1, 2)
    assert (left_out.unsure_share, counted.unsure_share) == (0.25, 0.25)
    assert (values(left_out)["percent_agreement"], values(counted)["percent_agreement"]) == (1.0, 0.5)
    assert counted.shares == {"yes": 0.25, "no": 0.5, "unsure": 0.25}
    ben = of(left_out, "ben")
    assert (ben.n_answers, ben.unsure_share) == (2, 0.5)


def test_an_annotator_is_held_against_the_most_frequent_answer_of_the_others_alone() -> None:
    matrix = [
        [0, 1, 1],  # a0 differs; the others of a1 are tied, and so are those of a2
        [1, 1, 1],
        [0, 0, MISSING],
        [2, MISSING, MISSING],  # nobody else
    ]
    found = agreed(matrix, 3, n_resamples=20)
    assert of(found, "a0").n_compared == 3
    assert of(found, "a0").with_others.value == pytest.approx(2 / 3)
    assert (of(found, "a1").n_compared, of(found, "a1").with_others.value) == (2, 1.0)
    assert (of(found, "a2").n_compared, of(found, "a2").with_others.value) == (1, 1.0)
    assert of(found, "a2").n_answers == 2


def test_gold_labels_give_accuracy_with_wilsons_interval() -> None:
    answers = [(f"i{n}", "anna", "yes" if n < 8 else "no") for n in range(100)] + [("x", "anna", "yes")]
    answers += [("i0", "ben", "unsure"), ("x", "carl", "no")]
    gold = dict.fromkeys(("anna", "ben"), {f"i{n}": "yes" for n in range(100)} | {"never sent": "no"})
    found = agreed_on(answers, known=Known(gold=gold), n_resamples=0)
    anna = of(found, "anna")
    assert (anna.n_gold, anna.gold.value) == (100, 0.08)
    assert (anna.gold.low, anna.gold.high) == pytest.approx((0.041, 0.150), abs=5e-4)  # Wilson (1927)
    assert of(found, "ben").gold.reason
    counted = agreed_on(answers, known=Known(gold=gold), unsure="category", n_resamples=0)
    assert (of(counted, "ben").n_gold, of(counted, "ben").gold.value) == (1, 0.0)
    without = agreed_on(answers, n_resamples=0)
    assert of(without, "anna").gold.reason not in (None, of(found, "ben").gold.reason)


def test_confusions_count_answers_by_resolved_label_and_seconds_have_their_median() -> None:
    answers = [("i1", "anna", "yes"), ("i2", "anna", "no"), ("i3", "anna", "unsure"), ("i4", "anna", "no")]
    answers += [("i1", "ben", "yes")]
    resolved = {"i1": "yes", "i2": "yes", "i3": "yes", "elsewhere": "no"}
    found = agreed_on(answers, known=Known(resolved, seconds={"anna": [9.0, 1.0, 2.5]}))
    anna = of(found, "anna")
    assert anna.confusion == {"yes": {"yes": 1, "no": 1, "unsure": 1}, "no": {"yes": 0, "no": 0, "unsure": 0}}
    assert (anna.median_s, of(found, "ben").median_s) == (2.5, None)
    assert re.search(r"\banna\b.*\bno\b.*\b1 of 3\b.*\byes\b", agreement_text(found))


@pytest.mark.parametrize(
    ("answers", "names", "values"),
    [
        ([("i1", "anna", "yes")], ["yes"], ["1"]),
        ([("i1", "anna", "skip"), ("i2", "anna", "yes")], ["yes", "no"], ["'skip'", "yes", "no", "unsure"]),
        ([("i1", "anna", "yes"), ("i1", "anna", "no")], ["yes", "no"], ["'anna'", "'i1'"]),
    ],
)
def test_answers_that_cannot_be_are_refused(
    answers: Sequence[tuple[str, str, str]], names: Sequence[str], values: Sequence[str]
) -> None:
    with pytest.raises(BatchError) as error:
        agreed_on(answers, names)
    assert all(value in error.value.what for value in values)
    assert error.value.hint


def test_a_gold_label_that_is_none_of_the_labels_is_refused() -> None:
    with pytest.raises(BatchError, match="'maybe'"):
        agreed_on([("i1", "anna", "yes")], known=Known(gold={"anna": {"i1": "maybe"}}))


def test_a_table_of_answers_keeps_the_order_of_items_and_sorts_annotators() -> None:
    table = answer_table([("b", "zoe", "no"), ("a", "anna", "unsure"), ("b", "anna", "yes")], ["yes", "no"])
    assert (table.item_ids, table.annotators) == (("b", "a"), ("anna", "zoe"))
    assert table.matrix().tolist() == [[0, 1], [MISSING, MISSING]]
    assert table.matrix("category").tolist() == [[0, 1], [2, MISSING]]


def test_the_text_is_aligned_and_fits_a_terminal_whatever_the_names() -> None:
    generator = np.random.default_rng(0)
    people = ["anna", "[bold]ben", "火事" * 30, "zoe\x1b[31m", "someone.with.a.long.name@department.example.org"]
    answers = [(f"i{n}", person, generator.choice(["yes", "no"], p=[0.1, 0.9])) for n in range(60) for person in people]
    resolved = {f"i{n}": "no" for n in range(60)}
    found = agreement(
        answers, ["yes", "no"], generator, known=Known(resolved, {answers[0][1]: resolved}), n_resamples=50
    )
    text = agreement_text(found)
    assert "\x1b" not in text
    assert "[bold]ben" in text
    for first_word, n_rows in (("pair", 10), ("annotator", 5)):
        block = next(block for block in text.split("\n\n") if block.startswith(f"{first_word} "))
        assert len(block.splitlines()) == 1 + n_rows
        assert {cell_len(line) for line in block.splitlines()} == {cell_len(block.splitlines()[0])}
        assert cell_len(block.splitlines()[0]) <= WIDTH
    assert re.search(r"\byes, 11 %.*\bAC1\b", text)


def test_the_text_shows_the_pairs_that_agree_least_and_says_how_many_there_are() -> None:
    matrix = np.random.default_rng(0).integers(0, 2, (30, 8))
    found = agreed(matrix, 2, n_resamples=10)
    text = agreement_text(found)
    block = next(block for block in text.split("\n\n") if block.startswith("pair"))
    least = min(found.pairs, key=lambda pair: pair.percent.value or 0.0)
    assert block.splitlines()[1].split()[:2] == [least.first, least.second]
    assert len(block.splitlines()) == 1 + 20
    assert "20 of 28 " in text
