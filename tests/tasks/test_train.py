"""Stage `train`: which labels a model is made from, and when a model is another one."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
from projects import project_of

from annotation.label_set import LabelSet
from storage.lake.history import edit_item
from storage.lake.models import find_model
from storage.records import Split
from storage.workspace import Workspace
from tasks.learning.training import TrainingConfig
from tasks.train import train_model

QUICK = TrainingConfig(epochs=1)
Labels = dict[str, str]


@pytest.fixture
def true_labels(workspace: Workspace, take_headlines: Callable[..., Labels]) -> Labels:
    """The labels of 120 headlines that are in the lake."""
    return take_headlines(workspace, 120)


def trained(workspace: Workspace, label_set: LabelSet, config: TrainingConfig = QUICK) -> str:
    return train_model(project_of(workspace, label_set, "bag-of-words", config)).model_id


def manifest(workspace: Workspace, model_id: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((workspace.models / model_id / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_marking_a_label_positive_gives_another_model(
    workspace: Workspace, label_set: LabelSet, true_labels: Labels, give_labels: Callable[..., None]
) -> None:
    give_labels(workspace, true_labels)
    unmarked = replace(label_set, labels=tuple(replace(label, positive=False) for label in label_set.labels))
    assert unmarked.digest == label_set.digest
    marked_id, unmarked_id = trained(workspace, label_set), trained(workspace, unmarked)
    assert marked_id != unmarked_id
    calibrations = [manifest(workspace, each)["calibration"] for each in (marked_id, unmarked_id)]
    assert [each["positive"] for each in calibrations] == [0, None]  # type: ignore[index]


def test_other_settings_or_validation_labels_give_another_model(
    workspace: Workspace, label_set: LabelSet, true_labels: Labels, give_labels: Callable[..., None]
) -> None:
    items = list(true_labels.items())
    give_labels(workspace, dict(items[:80]))
    first = trained(workspace, label_set)
    second = trained(workspace, label_set, replace(QUICK, seed=1))
    give_labels(workspace, dict(items[80:]), Split.VALIDATION)
    third = trained(workspace, label_set)
    assert len({first, second, third}) == 3
    assert manifest(workspace, third)["n_validation"] == 40


def test_labels_that_pal_toml_no_longer_has_are_left_out_and_told_and_not_counted(
    workspace: Workspace,
    label_set: LabelSet,
    true_labels: Labels,
    give_labels: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = dict.fromkeys(list(true_labels)[:7], "gone")
    give_labels(workspace, true_labels | gone)
    with caplog.at_level(logging.WARNING):
        model_id = trained(workspace, label_set)
    assert any("7 items" in message and "(gone)" in message for message in caplog.messages)
    assert manifest(workspace, model_id)["n_training"] == 113
    model = find_model(workspace.store(), model_id)
    assert model.n_training == 113


def test_held_out_labels_are_not_trained_on(
    workspace: Workspace, label_set: LabelSet, true_labels: Labels, give_labels: Callable[..., None]
) -> None:
    items = list(true_labels.items())
    give_labels(workspace, dict(items[:80]))
    first = trained(workspace, label_set)
    give_labels(workspace, dict(items[80:]), Split.EVALUATION)
    assert trained(workspace, label_set) == first
    assert manifest(workspace, first)["n_training"] == 80


def test_the_same_labels_are_trained_on_again_only_where_the_model_was_lost_and_then_to_the_same_weights(
    workspace: Workspace, label_set: LabelSet, true_labels: Labels, give_labels: Callable[..., None]
) -> None:
    give_labels(workspace, true_labels)
    model_id = trained(workspace, label_set)
    first, version = manifest(workspace, model_id), workspace.store().version()
    assert trained(workspace, label_set) == model_id
    assert manifest(workspace, model_id)["created_at"] == first["created_at"]
    assert workspace.store().version() == version
    shutil.rmtree(workspace.models / model_id)
    assert trained(workspace, label_set) == model_id
    again = manifest(workspace, model_id)
    assert again["created_at"] != first["created_at"]
    assert again["weights_sha256"] == first["weights_sha256"]


def test_a_corrected_text_that_gets_its_old_label_again_gives_another_model(
    workspace: Workspace, label_set: LabelSet, true_labels: Labels, give_labels: Callable[..., None]
) -> None:
    give_labels(workspace, true_labels)
    first, (item_id, label) = trained(workspace, label_set), next(iter(true_labels.items()))
    edit_item(workspace.store(), item_id, "Another text about something else")
    give_labels(workspace, {item_id: label})
    assert trained(workspace, label_set) != first
