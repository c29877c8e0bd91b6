from dataclasses import replace

import numpy as np
import pytest
from figures import figures
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score

from storage.records import BatchResult, BatchStatus, Split
from tasks.learning.stopping import (
    Findings,
    advice,
    change_of_f,
    cohen_kappa,
    positives_left,
    stop_signs,
    wilson_interval,
)

decisions = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60)


@given(decisions)
def test_kappa_and_change_of_f_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    found = cohen_kappa(first, second)
    if len({*first, *second}) > 1 and found is not None:
        assert found == pytest.approx(cohen_kappa_score(first, second))
    change = change_of_f(first, second, 1)
    if 1 in {*first, *second}:
        assert change == pytest.approx(1 - f1_score(second == 1, first == 1, zero_division=0.0))
    else:
        assert change is None


def test_kappa_of_two_constant_models_is_undefined_and_of_equal_ones_1() -> None:
    assert cohen_kappa(np.zeros(5, np.int64), np.zeros(5, np.int64)) is None
    assert cohen_kappa(np.array([0, 1, 1]), np.array([0, 1, 1])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("positives", "n", "low", "high"),
    [(8, 100, 0.0411, 0.1500), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_interval_of_a_share_is_wilsons(positives: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(positives, n) == pytest.approx((low, high), abs=1e-4)


def result(n: int, positives: int, *, random: bool = False, active: bool = True, n_published: int | None = None):  # type: ignore[no-untyped-def]
    """A batch of n labelled items, so many of them positive, all or none drawn at random."""
    drawn = (n, positives) if random else (0, 0)
    status = BatchStatus.INGESTED
    return BatchResult("b", Split.TRAINING, status, active, n_published or n, n, n, positives, *drawn)


def findings(**other: object) -> Findings:
    values = {
        "kappas": [0.97, 0.96, 0.95],
        "changes": [0.2, 0.3, 0.4],
        "results": [result(100, 8, random=True, active=False), result(100, 42)],
        "n_items": 10_200,
        "n_pool": 10_000,
    }
    return Findings(**{**values, **other})  # type: ignore[arg-type]


def holding(found: Findings) -> set[str]:
    return {sign.name for sign in stop_signs(found, has_positive=True) if sign.holds}


def test_each_sign_holds_just_past_its_threshold_and_not_before() -> None:
    assert holding(findings()) == set()
    assert holding(findings(kappas=[0.99, 0.995, 1.0])) == {"kappa of successive models"}
    assert holding(findings(kappas=[0.99, 0.995, 0.989])) == set()
    assert holding(findings(changes=[0.05, 0.0, 0.01])) == {"predicted change of F"}
    assert holding(findings(changes=[0.051, 0.0, 0.01])) == set()
    some, none = result(90, 2), result(90, 0)
    assert holding(findings(results=[some, none, none, none])) == {"batches without a positive"}
    assert holding(findings(results=[none, some, none, none])) == set()


def test_agreement_must_hold_for_three_pairs_that_are_defined() -> None:
    assert holding(findings(kappas=[1.0, 1.0])) == set()
    assert holding(findings(kappas=[1.0, 1.0, None])) == set()
    assert holding(findings(kappas=[])) == set()


def test_batches_without_a_model_mostly_unanswered_or_out_are_no_batches_without_a_positive() -> None:
    none = result(10, 0)
    others = [
        result(10, 0, active=False),
        result(10, 0, n_published=21),
        replace(none, status=BatchStatus.PUBLISHED),
        replace(none, purpose=Split.EVALUATION),
    ]
    assert findings(results=[none, *others, none]).barren == 2


def test_positives_left_are_worked_out_by_hand_from_one_early_draw() -> None:
    # 8 of 100 random ones of 10,200 items: 816 in all, 50 of them found; the interval is 4.11 % to 15.00 %.
    left = stop_signs(findings(), has_positive=True)[-1]
    assert (left.value, left.low, left.high) == (766, 369, 1480)
    assert left.text == "about 766 [369, 1,480], 50 found"


def test_the_sign_holds_where_the_upper_end_is_5_percent_of_all_positives() -> None:
    # None of 100 random ones: at most 3.7 % of 1,000 are positive, 37; 5 % of all need 703 found.
    def left(found: int) -> bool | None:
        draws = [result(0, found), result(100, 0, random=True)]
        return stop_signs(findings(results=draws, n_items=1_000, n_pool=900), has_positive=True)[-1].holds

    assert (left(702), left(703)) == (False, True)


def test_with_a_reserve_the_positives_are_worked_out_from_it_alone_whatever_the_pool_has_become() -> None:
    # 40 of 500 of the reserve of 10,000 texts: 800 in all, 740 of them found.
    reserved = [replace(result(100, 70), n_reserve=50, n_reserve_positive=4, n_random=10) for _ in range(10)]
    made = findings(results=[*reserved, result(200, 40, random=True)], n_items=10_000, n_pool=8_800)
    assert made.sampled == (500, 40)
    left, least, most = positives_left(made) or (0, 0, 0)
    assert (round(left), round(least), round(most)) == (60, 0, 331)
    drawn = replace(result(300, 12, random=True), purpose=Split.EVALUATION)
    assert findings(results=[drawn, *reserved]).sampled == (800, 52), "a batch for evaluation alone is a fair draw, too"


def test_positives_of_the_reserve_are_none_that_a_strategy_brought() -> None:
    results = [result(90, 5), replace(result(90, 2), n_reserve=20, n_reserve_positive=2)]
    assert findings(results=results).barren == 1


def test_the_share_of_positives_is_told_and_is_no_sign() -> None:
    sign = stop_signs(findings(), has_positive=True)[3]
    assert (sign.name, sign.value, sign.holds) == ("positives among random items", 0.08, None)
    assert sign.text == "8 of 100: 8.0% [4.1%, 15.0%]"


def test_without_random_items_nothing_is_estimated() -> None:
    left = stop_signs(findings(results=[result(90, 5)]), has_positive=True)[-1]
    assert (left.value, left.holds, figures(left.text)) == (None, False, [])


def test_without_a_positive_label_only_the_agreement_of_models_counts() -> None:
    assert [sign.name for sign in stop_signs(findings(), has_positive=False)] == ["kappa of successive models"]


def test_the_advice_is_to_stop_where_two_signs_hold_and_names_them() -> None:
    stable = {"kappas": [1.0, 1.0, 1.0]}
    names = ["kappa of successive models", "predicted change of F"]
    told = [
        advice(stop_signs(findings(), has_positive=True)),
        advice(stop_signs(findings(**stable), has_positive=True)),
        advice(stop_signs(findings(**stable, changes=[0.0] * 3), has_positive=True)),
        advice(stop_signs(findings(**stable), has_positive=False)),
    ]
    assert [figures(each) for each in told] == [["0", "4"], ["1", "4"], ["2", "4"], ["1", "1"]]
    assert [[name for name in names if name in each] for each in told] == [[], [], names, names[:1]]
    assert ["stopping" in each for each in told] == [False, False, True, True]
