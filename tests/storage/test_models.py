"""Models and their figures as the lake remembers them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from storage import models
from storage.errors import ModelError
from storage.records import Metric, Model, ModelStatus, Split
from storage.store import Store

TIME = datetime(2026, 1, 2, 3, 4, 5, 6)
FIRST = Model("m1", TIME, 7, 813, "minilm", '{"lr": "it\'s 0.1"}', "abc", ModelStatus.CANDIDATE)
SECOND = replace(FIRST, model_id="m2", created_at=TIME + timedelta(hours=1))


def status(store: Store) -> dict[str, str]:
    return dict(store.rows("SELECT model_id, status FROM lake.models"))


def test_a_model_is_remembered_whole_and_once(store: Store) -> None:
    assert models.find_model(store, "m1") is None
    assert models.add_model(store, FIRST) is True
    assert models.add_model(store, replace(FIRST, n_training=1)) is False
    assert models.find_model(store, "m1") == FIRST
    assert models.find_model(store, "M1") is None


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-5))])
def test_the_time_of_a_model_is_kept_in_utc(store: Store, zone: timezone) -> None:
    models.add_model(store, replace(FIRST, created_at=TIME.replace(tzinfo=UTC).astimezone(zone)))
    assert models.find_model(store, "m1") == FIRST


def test_one_model_is_in_production_and_the_one_before_is_retired(store: Store) -> None:
    for model in (FIRST, SECOND, replace(FIRST, model_id="m3")):
        models.add_model(store, model)
    assert models.production_model(store) is None
    for model_id in ("m1", "m2", "m2"):
        models.promote(store, model_id)
    assert status(store) == {"m1": "retired", "m2": "production", "m3": "candidate"}
    models.promote(store, "m1")
    assert models.production_model(store) == replace(FIRST, status=ModelStatus.PRODUCTION)
    assert status(store) == {"m1": "production", "m2": "retired", "m3": "candidate"}


def test_promoting_a_model_that_is_not_known_is_refused_and_retires_none(store: Store) -> None:
    models.add_model(store, FIRST)
    models.promote(store, "m1")
    with pytest.raises(ModelError, match="'m9'"):
        models.promote(store, "m9")
    assert status(store) == {"m1": "production"}


def test_the_newest_figures_of_a_model_on_a_split_are_given_by_name(store: Store) -> None:
    old = [Metric("auc", 0.5, 0.4, 0.6), Metric("f1", 0.1)]
    new = [Metric("auc", 0.9, 0.8, 0.95), Metric("ece", None, None, None, "no item is 'related'")]
    assert models.metrics_of(store, "m1", Split.EVALUATION) == {}
    models.add_metrics(store, "m1", Split.EVALUATION, old, n=10, lake_version=3)
    models.add_metrics(store, "m1", Split.EVALUATION, new, n=20, lake_version=5)
    models.add_metrics(store, "m1", Split.TRAINING, [Metric("auc", 1.0)], n=30, lake_version=9)
    models.add_metrics(store, "m2", Split.EVALUATION, [Metric("auc", 0.0)], n=30, lake_version=8)
    assert models.metrics_of(store, "m1", Split.EVALUATION) == {"auc": new[0], "ece": new[1], "f1": old[1]}
    assert models.metrics_of(store, "m1", Split.TRAINING) == {"auc": Metric("auc", 1.0)}
    assert store.rows("SELECT count(*) FROM lake.metrics") == [(6,)]
