"""Stage `evaluate_model`: one set of metrics, of the evaluation items alone, in two places."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
from projects import project_of

from storage.lake.annotations import labelled_texts
from storage.lake.models import metrics_of
from storage.records import Split
from storage.workspace import Workspace
from tasks.evaluate import evaluate_model
from tasks.learning.model_files import LoadedModel, load_model
from tasks.learning.training_config import TrainingConfig
from tasks.project import Project
from tasks.promote import promote_or_keep
from tasks.train import train_model


@pytest.fixture
def items(workspace: Workspace, take_headlines: Callable[..., dict[str, str]]) -> list[tuple[str, str]]:
    """300 headlines in the lake: item_id and true label."""
    return list(take_headlines(workspace, 300).items())


@pytest.fixture
def project(workspace: Workspace) -> Project:
    """Models of few epochs, on bag-of-words."""
    return project_of(workspace, encoder="bag-of-words", training=TrainingConfig(epochs=3))


@pytest.fixture
def model(project: Project, items: list[tuple[str, str]], give_labels: Callable[..., None]) -> LoadedModel:
    """A model of the first 100, with validation labels on the next 50."""
    give_labels(project.workspace, dict(items[:100]))
    give_labels(project.workspace, dict(items[100:150]), Split.VALIDATION)
    return train_model(project)


def test_the_figures_in_the_lake_are_those_in_evaluation_json_and_of_evaluation_items_only(
    project: Project, items: list[tuple[str, str]], model: LoadedModel, give_labels: Callable[..., None]
) -> None:
    # One in five is labelled wrongly: a figure of any other items would be another one.
    wrong = {"related": "not_related", "not_related": "related"}
    held_out = {item_id: wrong[label] if k % 5 == 0 else label for k, (item_id, label) in enumerate(items[150:250])}
    workspace, store, model_id = project.workspace, project.workspace.store(), model.model_id
    give_labels(workspace, held_out | {items[250][0]: "gone"}, Split.EVALUATION)
    promote_or_keep(project, model, evaluate_model(project, model))
    written = json.loads((workspace.models / model_id / "evaluation.json").read_text(encoding="utf-8"))
    in_lake = metrics_of(store, model_id, Split.EVALUATION)
    assert {metric["name"]: metric for metric in written["metrics"]} == {k: asdict(v) for k, v in in_lake.items()}
    assert written["n"] == 100
    assert store.rows("SELECT DISTINCT model_id, split, n FROM lake.metrics") == [(model_id, "evaluation", 100)]
    model = load_model(workspace.models / model_id)
    texts = {
        row["item_id"]: row["text"] for row in labelled_texts(store, Split.EVALUATION, store.version()).to_pylist()
    }
    decided = model.calibration.decisions(model.predict([texts[item_id] for item_id in held_out]))
    right = [model.labels[k] == label for k, label in zip(decided, held_out.values(), strict=True)]
    assert in_lake["accuracy"].value == pytest.approx(sum(right) / 100)


def test_with_more_evaluation_items_the_newest_figures_count(
    project: Project, items: list[tuple[str, str]], model: LoadedModel, give_labels: Callable[..., None]
) -> None:
    store, model_id = project.workspace.store(), model.model_id
    promote_or_keep(project, model, evaluate_model(project, model))
    nothing = metrics_of(store, model_id, Split.EVALUATION)["ap"]
    assert (nothing.value, bool(nothing.reason)) == (None, True)
    give_labels(project.workspace, dict(items[150:]), Split.EVALUATION)
    promote_or_keep(project, model, evaluate_model(project, model))
    assert metrics_of(store, model_id, Split.EVALUATION)["ap"].value is not None
    assert store.rows("SELECT DISTINCT n FROM lake.metrics ORDER BY n") == [(0,), (150,)]
