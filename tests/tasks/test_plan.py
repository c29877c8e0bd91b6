import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records import Split
from tasks.plan import TOLERATED_SHORTFALL, Minimums, Plan, fitting_minimums, next_batch_plan

EVALUATION, VALIDATION, TRAINING = Split.EVALUATION, Split.VALIDATION, Split.TRAINING
CHAPTER_2 = Minimums(evaluation=1200, validation=0, training=400)


def counts(evaluation: int = 0, validation: int = 0, training: int = 0) -> dict[Split, dict[str, int]]:
    """So many labelled items of each split; one in ten, and at least one where there are two, is related."""
    numbers = {EVALUATION: evaluation, VALIDATION: validation, TRAINING: training}
    return {
        split: {"related": max(1, n // 10), "not_related": n - max(1, n // 10)} if n > 1 else {}
        for split, n in numbers.items()
    }


USUAL, SMALL = Minimums(), Minimums(20, 0, 0)


@pytest.mark.parametrize(
    ("labelled", "minimums", "plan"),
    [
        (counts(), USUAL, Plan(EVALUATION, 1200, active=False)),
        (counts(evaluation=500), USUAL, Plan(EVALUATION, 700, active=False)),
        (counts(evaluation=1200), USUAL, Plan(VALIDATION, 200, active=False)),
        (counts(evaluation=1200, validation=150), USUAL, Plan(VALIDATION, 50, active=False)),
        (counts(evaluation=1200, validation=200), USUAL, Plan(TRAINING, 100, active=False)),
        (counts(evaluation=1200, validation=200, training=40), USUAL, Plan(TRAINING, 60, active=False)),
        (counts(evaluation=1200, validation=200, training=100), USUAL, Plan(TRAINING, 90, active=True)),
        (counts(evaluation=5000, validation=5000, training=5000), USUAL, Plan(TRAINING, 90, active=True)),
        # A split that lost items is filled again before anything else.
        (counts(evaluation=1000, validation=200, training=900), USUAL, Plan(EVALUATION, 200, active=False)),
        # A hundredth of a minimum may be missing and one more may not; of a small one nothing.
        (counts(evaluation=1188, validation=198, training=99), USUAL, Plan(TRAINING, 90, active=True)),
        (counts(evaluation=1187, validation=198, training=99), USUAL, Plan(EVALUATION, 13, active=False)),
        (counts(evaluation=1188, validation=198, training=98), USUAL, Plan(TRAINING, 2, active=False)),
        ({EVALUATION: {"a": 19}}, SMALL, Plan(EVALUATION, 1, active=False)),
        # The numbers of chapter 2 ask for no validation items.
        (counts(), CHAPTER_2, Plan(EVALUATION, 1200, active=False)),
        (counts(evaluation=1200), CHAPTER_2, Plan(TRAINING, 400, active=False)),
        (counts(evaluation=1200, training=399 - 10), CHAPTER_2, Plan(TRAINING, 11, active=False)),
        (counts(evaluation=1200, training=400), CHAPTER_2, Plan(TRAINING, 90, active=True)),
    ],
)
def test_evaluation_comes_first_then_validation_then_random_training_then_active_learning(
    labelled: dict[Split, dict[str, int]], minimums: Minimums, plan: Plan
) -> None:
    assert next_batch_plan(labelled, minimums, 90) == plan


@given(st.integers(1, 10_000), st.integers(0, 200))
def test_just_the_tolerated_share_is_tolerated_whatever_the_minimum(minimum: int, missing: int) -> None:
    missing = min(missing, minimum)
    labelled = {EVALUATION: {"a": minimum - missing}}
    asked = next_batch_plan(labelled, Minimums(minimum, 0, 0), 10).purpose is EVALUATION
    assert asked == (missing * round(1 / TOLERATED_SHORTFALL) > minimum)


@pytest.mark.parametrize("training", [{}, {"not_related": 150}, {"not_related": 150, "related": 0}])
def test_training_items_of_one_label_ask_for_a_random_batch_since_no_model_can_learn_from_them(
    training: dict[str, int],
) -> None:
    labelled = {EVALUATION: {"a": 10}, TRAINING: training}
    assert next_batch_plan(labelled, Minimums(10, 0, 0), 25) == Plan(TRAINING, 25, active=False)


def test_labels_of_every_kind_count_towards_a_minimum() -> None:
    labelled = {TRAINING: {"sport": 3, "politics": 4, "weather": 3}}
    assert next_batch_plan(labelled, Minimums(0, 0, 10), 5) == Plan(TRAINING, 5, active=True)


def test_minimums_of_zero_go_straight_to_random_training_items() -> None:
    assert next_batch_plan({}, Minimums(0, 0, 0), 30) == Plan(TRAINING, 30, active=False)


def test_minimums_that_would_use_up_every_item_take_half_of_them_in_proportion() -> None:
    asked = Minimums(1200, 200, 100)
    assert fitting_minimums(asked, 1501) == asked
    fitted = fitting_minimums(asked, 1500)
    assert fitted == Minimums(600, 100, 50)
    assert fitting_minimums(Minimums(0, 0, 100), 60) == Minimums(0, 0, 30)
    assert next_batch_plan({}, fitted, 100).n == 600


def test_items_that_are_out_count_as_if_they_were_labelled() -> None:
    minimums = Minimums(100, 0, 50)
    assert next_batch_plan({}, minimums, 10, {Split.EVALUATION: 60}).n == 40
    plan = next_batch_plan({}, minimums, 10, {Split.EVALUATION: 100})
    assert (plan.purpose, plan.n) == (Split.TRAINING, 50)
