"""The stop signs as they follow from a lake: from which models, batches and items they are read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from figures import figures

from annotation.label_set import LabelSet
from storage.lake.annotations import ingest
from storage.lake.batches import Draft, close_batch, reserve
from storage.lake.models import add_metrics, add_model
from storage.records import SUCCESSIVE, Answer, Metric, Model, ModelStatus, Proposal, Split, StopSign
from storage.workspace import Workspace
from tasks.plan import signs_of

LABELS = {"+": "related", "-": "not_related", "?": "unsure"}
MODEL_SIGNS = ("kappa of successive models", "predicted change of F")
Answered = Callable[..., str]


@pytest.fixture
def answered(workspace: Workspace, take_headlines: Callable[..., dict[str, str]]) -> Answered:
    """Publishes the next of 200 headlines as a batch and answers them as in "+-?", a blank for not yet."""
    left = list(take_headlines(workspace, 200))

    def answer(
        marks: str,
        *,
        strategy: str = "least_confidence",
        model_id: str | None = "m1",
        purpose: Split = Split.TRAINING,
    ) -> str:
        ids = [left.pop(0) for _ in marks]
        proposals = [Proposal(item_id, strategy, None, rank) for rank, item_id in enumerate(ids, start=1)]
        draft = Draft(purpose, ids, proposals, 0, 0, "d", model_id)
        batch_id = reserve(workspace.store(), draft, beside_open=True)[0].batch_id
        answers = [Answer(i, LABELS[mark], "anna") for i, mark in zip(ids, marks, strict=True) if mark != " "]
        ingest(workspace.store(), batch_id, answers, batch_id)
        return batch_id

    return answer


def compared(workspace: Workspace, *figures: tuple[float | None, float | None]) -> None:
    """Models with these figures (kappa, change of F) against the one before each, the oldest first."""
    for k, (kappa, change) in enumerate(figures):
        made_at = datetime(2026, 1, 1) + timedelta(hours=k)
        add_model(workspace.store(), Model(f"m{k}", made_at, 0, 10, "e", "{}", "h", ModelStatus.CANDIDATE))
        metrics = [Metric("kappa", kappa), Metric("change_of_f", change)]
        add_metrics(workspace.store(), f"m{k}", SUCCESSIVE, metrics, n=200, lake_version=0)


def signs(workspace: Workspace, label_set: LabelSet) -> dict[str, StopSign]:
    return {found.name: found for found in signs_of(workspace.store(), label_set)}


def test_batches_in_a_row_without_a_positive_are_counted_back_from_the_newest(
    workspace: Workspace, label_set: LabelSet, answered: Answered
) -> None:
    def barren() -> tuple[float | None, bool | None]:
        found = signs(workspace, label_set)["batches without a positive"]
        return found.value, found.holds

    assert barren() == (0, False)
    for marks in ("--", "-+", "--", "-?"):
        answered(marks)
    assert barren() == (2, False)
    answered("++", model_id=None)  # drawn without a model
    answered("++", purpose=Split.EVALUATION)
    answered("??")  # no labels
    close_batch(workspace.store(), answered("-  "))  # mostly unanswered
    still_out = answered("- ")
    assert barren() == (2, False)
    close_batch(workspace.store(), still_out)
    assert barren() == (3, True)
    answered("-+")
    assert barren() == (0, False)


def test_the_positives_left_are_estimated_from_all_items_drawn_at_random(
    workspace: Workspace, label_set: LabelSet, answered: Answered
) -> None:
    answered("+---------", strategy="random")
    answered("----------", strategy="random", model_id=None)
    answered("+++++", purpose=Split.EVALUATION)
    answered("+++", purpose=Split.VALIDATION)
    answered("++++", strategy="least_confidence")
    answered("??", strategy="random")
    answered("     ", strategy="random")  # out with annotators, not answered
    found = signs(workspace, label_set)
    share, left = found["positives among random items"], found["positives left in the pool"]
    assert (share.value, share.holds) == (9 / 28, None)
    assert share.text.startswith("9 of 28: 32.1%")
    # Each draw: positives * items left then + items drawn * positives found before.
    total = (1 * 200 + (0 * 190 + 10 * 1) + (5 * 180 + 5 * 1) + (3 * 175 + 3 * 6)) / 28
    assert left.value == round(total - 13)
    assert left.text.endswith(", 13 found")  # 1 + 5 + 3 + 4: labels of all splits


def test_the_three_newest_models_count(workspace: Workspace, label_set: LabelSet) -> None:
    none = signs(workspace, label_set)
    assert [(none[name].value, figures(none[name].text)) for name in MODEL_SIGNS] == [(None, [])] * 2
    compared(workspace, (0.5, 0.5), (0.99, 0.05), (None, 0.0), (1.0, 0.01))
    kappa, change = map(signs(workspace, label_set).__getitem__, MODEL_SIGNS)
    assert (kappa.value, kappa.holds, kappa.text) == (1.0, False, "0.990, undefined, 1.000")
    assert (change.value, change.holds, change.text) == (0.01, True, "0.050, 0.000, 0.010")
