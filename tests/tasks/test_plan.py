import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import project_of

from annotation.label_set import Label, LabelSet
from storage.records import Metric, Split
from storage.workspace import Workspace
from tasks.config.template import PRESETS
from tasks.plan import TOLERATED_SHORTFALL, Minimums, Plan, fitting_minimums, next_batch_plan, outlook_of

EVALUATION, VALIDATION, TRAINING = Split.EVALUATION, Split.VALIDATION, Split.TRAINING
CHAPTER_2 = Minimums(**PRESETS["chapter-2"].minimums.model_dump())
EVALUATION_FIRST = Minimums(1200, 200, 100, evaluation_share=0)


def counts(evaluation: int = 0, validation: int = 0, training: int = 0) -> dict[Split, dict[str, int]]:
    """So many labelled items of each split; one in ten, and at least one where there are two, is related."""
    numbers = {EVALUATION: evaluation, VALIDATION: validation, TRAINING: training}
    return {
        split: {"related": max(1, n // 10), "not_related": n - max(1, n // 10)} if n > 1 else {}
        for split, n in numbers.items()
    }


@pytest.mark.parametrize(
    ("labelled", "plan"),
    [
        (counts(), Plan(EVALUATION, 1200, active=False)),
        (counts(evaluation=500), Plan(EVALUATION, 700, active=False)),
        (counts(evaluation=1200), Plan(VALIDATION, 200, active=False)),
        (counts(evaluation=1200, validation=150), Plan(VALIDATION, 50, active=False)),
        (counts(evaluation=1200, validation=200), Plan(TRAINING, 100, active=False)),
        (counts(evaluation=1200, validation=200, training=40), Plan(TRAINING, 60, active=False)),
        (counts(evaluation=1200, validation=200, training=100), Plan(TRAINING, 90, active=True)),
        (counts(evaluation=5000, validation=5000, training=5000), Plan(TRAINING, 90, active=True)),
    ],
)
def test_evaluation_comes_first_then_validation_then_random_training_then_active_learning(
    labelled: dict[Split, dict[str, int]], plan: Plan
) -> None:
    assert next_batch_plan(labelled, EVALUATION_FIRST, 90) == plan


@pytest.mark.parametrize(
    ("labelled", "plan"),
    [
        (counts(), Plan(EVALUATION, 1200, active=False)),
        (counts(evaluation=1200), Plan(TRAINING, 400, active=False)),
        (counts(evaluation=1200, training=399 - 10), Plan(TRAINING, 11, active=False)),
        (counts(evaluation=1200, training=400), Plan(TRAINING, 100, active=True)),
    ],
)
def test_the_numbers_of_chapter_2_ask_for_no_validation_items(
    labelled: dict[Split, dict[str, int]], plan: Plan
) -> None:
    assert next_batch_plan(labelled, CHAPTER_2, 100) == plan


def test_a_split_that_lost_items_is_filled_again_before_anything_else() -> None:
    plan = next_batch_plan(counts(evaluation=1000, validation=200, training=900), EVALUATION_FIRST, 100)
    assert plan == Plan(EVALUATION, 200, active=False)


def test_a_hundredth_of_a_minimum_may_be_missing_and_one_more_may_not() -> None:
    enough = counts(evaluation=1188, validation=198, training=99)
    assert next_batch_plan(enough, EVALUATION_FIRST, 100) == Plan(TRAINING, 100, active=True)
    short = counts(evaluation=1187, validation=198, training=99)
    assert next_batch_plan(short, EVALUATION_FIRST, 100) == Plan(EVALUATION, 13, active=False)
    short = counts(evaluation=1188, validation=198, training=98)
    assert next_batch_plan(short, EVALUATION_FIRST, 100) == Plan(TRAINING, 2, active=False)


@given(st.integers(1, 10_000), st.integers(0, 200))
def test_just_the_tolerated_share_is_tolerated_whatever_the_minimum(minimum: int, missing: int) -> None:
    missing = min(missing, minimum)
    labelled = {EVALUATION: {"a": minimum - missing}}
    asked = next_batch_plan(labelled, Minimums(minimum, 0, 0, 0), 10).purpose is EVALUATION
    assert asked == (missing * round(1 / TOLERATED_SHORTFALL) > minimum)


def test_of_a_small_minimum_nothing_may_be_missing() -> None:
    assert next_batch_plan({EVALUATION: {"a": 19}}, Minimums(20, 0, 0, 0), 10) == Plan(EVALUATION, 1, active=False)


@pytest.mark.parametrize("training", [{}, {"not_related": 150}, {"not_related": 150, "related": 0}])
def test_training_items_of_one_label_ask_for_a_random_batch_since_no_model_can_learn_from_them(
    training: dict[str, int],
) -> None:
    labelled = {EVALUATION: {"a": 10}, TRAINING: training}
    assert next_batch_plan(labelled, Minimums(10, 0, 0, 0), 25) == Plan(TRAINING, 25, active=False)


def test_labels_of_every_kind_count_towards_a_minimum() -> None:
    labelled = {TRAINING: {"sport": 3, "politics": 4, "weather": 3}}
    assert next_batch_plan(labelled, Minimums(0, 0, 10, 0), 5) == Plan(TRAINING, 5, active=True)


def test_minimums_of_zero_go_straight_to_random_training_items() -> None:
    assert next_batch_plan({}, Minimums(0, 0, 0, 0), 30) == Plan(TRAINING, 30, active=False)


def test_minimums_that_would_use_up_every_item_take_half_of_them_in_proportion() -> None:
    asked = Minimums(1200, 200, 100, 0)
    assert fitting_minimums(asked, 1501) == asked
    fitted = fitting_minimums(asked, 1500)
    assert fitted == Minimums(600, 100, 50, 0)
    assert fitting_minimums(Minimums(0, 0, 100, 0), 60) == Minimums(0, 0, 30, 0)
    assert next_batch_plan({}, fitted, 100).n == 600


def test_batches_of_single_items_hold_their_share_of_evaluation_items_over_time() -> None:
    n_before, asked = 100, []
    for _ in range(12):
        plan = next_batch_plan(counts(evaluation=50, training=n_before - 50), Minimums(), 100, n_due=900)
        asked.append(plan.resized(1, n_before).n_evaluation)
        n_before += 1
    assert sum(asked) == 3


def test_beside_evaluation_items_a_small_pool_still_gets_its_training_items() -> None:
    assert fitting_minimums(Minimums(), 600) == Minimums(evaluation=300)
    assert fitting_minimums(Minimums(), 120) == Minimums(evaluation=60, training=60)
    assert next_batch_plan({}, fitting_minimums(Minimums(), 600), 100, n_due=300).n == 50


def test_items_that_are_out_count_as_if_they_were_labelled() -> None:
    minimums = Minimums(100, 0, 50, 0)
    assert next_batch_plan({}, minimums, 10, {Split.EVALUATION: 60}).n == 40
    plan = next_batch_plan({}, minimums, 10, {Split.EVALUATION: 100})
    assert (plan.purpose, plan.n) == (Split.TRAINING, 50)


# Evaluation beside training


@pytest.mark.parametrize(
    ("labelled", "n_due", "plan"),
    [
        (counts(), 1200, Plan(TRAINING, 50, active=False, n_evaluation=25)),
        (counts(evaluation=25, training=25), 1175, Plan(TRAINING, 50, active=False, n_evaluation=25)),
        (counts(evaluation=50, training=50), 1150, Plan(TRAINING, 100, active=True, n_evaluation=25)),
        (counts(evaluation=1190, training=900), 10, Plan(TRAINING, 100, active=True, n_evaluation=10)),
        (counts(evaluation=1200, training=900), 0, Plan(TRAINING, 100, active=True)),
        (counts(evaluation=1200), 0, Plan(TRAINING, 50, active=False)),
    ],
)
def test_a_first_model_after_100_answers_then_a_share_of_each_batch_evaluates_until_there_are_enough(
    labelled: dict[Split, dict[str, int]], n_due: int, plan: Plan
) -> None:
    assert next_batch_plan(labelled, Minimums(), 100, n_due=n_due) == plan


def test_training_items_of_one_label_only_ask_for_a_random_batch_with_the_share_of_evaluation() -> None:
    labelled = {TRAINING: {"not_related": 50}}
    plan = next_batch_plan(labelled, Minimums(), 40, n_due=900)
    assert plan == Plan(TRAINING, 40, active=False, n_evaluation=10)


def test_validation_items_that_are_asked_for_come_first() -> None:
    assert next_batch_plan({}, Minimums(validation=30), 100, n_due=900) == Plan(VALIDATION, 30, active=False)


def test_the_outlook_of_many_labels_needs_evaluation_items_for_each(workspace: Workspace) -> None:
    project = project_of(workspace, LabelSet("t", "Which?", "", tuple(Label(f"l{k}") for k in range(30))))
    few, enough = ({EVALUATION: {"l0": n}} for n in (89, 90))
    figures = {"ap": Metric("ap", 0.6, 0.5, 0.7)}
    assert outlook_of(project, 100, figures, few) is None
    assert outlook_of(project, 100, figures, enough) is not None
