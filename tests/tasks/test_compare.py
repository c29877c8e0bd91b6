"""Stage `compare_with_previous`: a model's decisions against those of the one before it, once, on the same items."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from projects import project_of
from sklearn.metrics import cohen_kappa_score, f1_score

from annotation.label_set import Label, LabelSet
from storage.lake.models import Measurement, metrics_of, record_verdict
from storage.records import SUCCESSIVE
from storage.workspace import Workspace
from tasks import evaluate as compare
from tasks.evaluate import compare_with_previous
from tasks.learning.model_files import load_model
from tasks.prepare import open_model
from tasks.train import train_model


@dataclass(frozen=True)
class History:
    """A workspace with models, the oldest first; the last of them has a label more."""

    workspace: Workspace
    model_ids: list[str]
    more: LabelSet


@pytest.fixture(scope="module")
def history(
    tmp_path_factory: pytest.TempPathFactory,
    label_set: LabelSet,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> History:
    """Models of 30 to 180 labels among 300 headlines; each test compares another one of them."""
    workspace = Workspace(tmp_path_factory.mktemp("history"))
    workspace.make()
    items = list(take_headlines(workspace, 300).items())
    more = replace(label_set, labels=(*label_set.labels, Label("war", "2")))
    model_ids = []
    for n, labels in [*((n, label_set) for n in (30, 60, 120, 140, 160)), (180, more)]:
        give_labels(workspace, dict(items[:n]))
        model_ids.append(train_model(project_of(workspace, labels)).model_id)
    return History(workspace, model_ids, more)


def compared(workspace: Workspace, label_set: LabelSet, model_id: str) -> Measurement | None:
    """Compare a model with the one before it, and record what came of it."""
    project = project_of(workspace, label_set)
    measurement = compare_with_previous(project, load_model(workspace.models / model_id))
    record_verdict(workspace.store(), None, [measurement] if measurement else [])
    return measurement


def decisions(workspace: Workspace, model_id: str, n: int) -> np.ndarray:
    """What a model decides on the n items whose ids have the lowest hash."""
    rows = workspace.store().rows("SELECT item_id, text FROM lake.items")
    rows.sort(key=lambda row: hashlib.md5(row[0].encode()).hexdigest())
    model = load_model(workspace.models / model_id)
    return model.calibration.decisions(model.predict([text for _, text in rows[:n]]))


def test_a_project_loads_a_model_once(history: History, label_set: LabelSet) -> None:
    project = project_of(history.workspace, label_set)
    assert open_model(project, history.model_ids[0]) is open_model(project, history.model_ids[0])
    assert open_model(project, history.model_ids[0]).encoder is open_model(project, history.model_ids[1]).encoder


def test_nothing_comes_before_the_first_model_and_the_second_has_the_figures_that_its_predictions_give(
    history: History, label_set: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "N_SAMPLE", 150)
    workspace, (first_id, second_id, *_) = history.workspace, history.model_ids
    store = workspace.store()
    assert compared(workspace, label_set, first_id) is None
    compared(workspace, label_set, second_id)
    assert metrics_of(store, first_id, SUCCESSIVE) == {}
    first, second = (decisions(workspace, each, 150) for each in (first_id, second_id))
    found = metrics_of(store, second_id, SUCCESSIVE)
    related = 1 - f1_score(second == 0, first == 0)  # the newer one's decisions in place of the truth
    assert {name: metric.value for name, metric in found.items()} == {
        "kappa": pytest.approx(cohen_kappa_score(first, second)),
        "change_of_f": pytest.approx(related),
    }
    assert 0 < related < 1
    assert related != pytest.approx(1 - f1_score(second == 1, first == 1)), "of the positive label, not of the other"
    rows = store.rows("SELECT DISTINCT split, n FROM lake.metrics WHERE model_id = ?", [second_id])
    assert rows == [("successive", 150)]


def test_it_is_compared_once_and_with_the_one_trained_just_before(history: History, label_set: LabelSet) -> None:
    workspace, ids = history.workspace, history.model_ids[:3]
    assert compared(workspace, label_set, ids[2]) is not None
    assert compared(workspace, label_set, ids[2]) is None, "it is recorded already"
    first, second, third = (decisions(workspace, each, 300) for each in ids)
    kappa = metrics_of(workspace.store(), ids[2], SUCCESSIVE)["kappa"].value
    assert kappa == pytest.approx(cohen_kappa_score(second, third))
    assert kappa != pytest.approx(cohen_kappa_score(first, third))
    assert workspace.store().rows("SELECT count(*) FROM lake.metrics WHERE model_id = ?", [ids[2]]) == [(2,)]


def test_without_a_positive_label_there_is_only_kappa(history: History, label_set: LabelSet) -> None:
    unmarked = replace(label_set, labels=tuple(replace(label, positive=False) for label in label_set.labels))
    compared(history.workspace, unmarked, history.model_ids[3])
    assert metrics_of(history.workspace.store(), history.model_ids[3], SUCCESSIVE).keys() == {"kappa"}


def test_what_is_undefined_is_kept_with_the_reason(
    history: History, label_set: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "N_SAMPLE", 1)  # one item, on which both decide the same
    both = history.model_ids[3:5]
    compared(history.workspace, label_set, both[1])
    assert [decisions(history.workspace, each, 1).tolist() for each in both] == [[1], [1]]
    found = metrics_of(history.workspace.store(), both[1], SUCCESSIVE)
    assert {name: metric.value for name, metric in found.items()} == {"kappa": None, "change_of_f": None}
    assert all(metric.reason for metric in found.values())


def test_a_model_of_other_labels_is_not_compared_with_and_that_is_told(
    history: History, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="tasks.evaluate"):
        assert compared(history.workspace, history.more, history.model_ids[5]) is None
    (warning,) = [record.message for record in caplog.records if record.name == "tasks.evaluate"]
    assert history.model_ids[4] in warning
    assert re.search(r"related, not_related\b(?!, war).*related, not_related, war\b", warning)
    assert metrics_of(history.workspace.store(), history.model_ids[5], SUCCESSIVE) == {}
