"""Models and their figures as the lake remembers them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from storage.errors import ModelError
from storage.lake import models
from storage.lake.store import Store
from storage.records import SUCCESSIVE, DecidedBy, Metric, Model, ModelStatus, Split

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


def test_every_decision_is_kept_with_who_and_why_and_saying_it_again_adds_none(store: Store) -> None:
    for model in (FIRST, SECOND):
        models.add_model(store, model)
    for _ in range(2):
        models.promote(store, "m1", decided_by=DecidedBy.GATE, reason="first")
    for _ in range(2):
        models.record_verdict(store, models.Verdict("m2", False, DecidedBy.GATE, "worse"), [])
    models.promote(store, "m2", reason="I know better")
    found = [
        (each.model_id, each.previous_id, each.promoted, each.decided_by, each.reason)
        for each in models.decisions(store)
    ]
    assert found == [
        ("m2", "m1", True, DecidedBy.PERSON, "I know better"),
        ("m2", "m1", False, DecidedBy.GATE, "worse"),
        ("m1", None, True, DecidedBy.GATE, "first"),
    ]
    measurement = models.Measurement("m9", Split.EVALUATION, [Metric("auc", 0.9)], 50, 1)
    for promoted in (True, False):
        with pytest.raises(ModelError, match="'m9'"):
            models.record_verdict(store, models.Verdict("m9", promoted, DecidedBy.GATE, ""), [measurement])
    assert models.metrics_of(store, "m9", Split.EVALUATION) == {}
    assert len(models.decisions(store)) == 3


def test_a_verdict_and_its_metrics_are_one_commit_which_is_not_made_again(store: Store) -> None:
    models.add_model(store, FIRST)
    verdict = models.Verdict("m1", True, DecidedBy.GATE, "first")
    measurement = models.Measurement("m1", Split.EVALUATION, [Metric("auc", 0.9), Metric("f1", None)], 50, 1)
    before = store.version()
    assert models.measured_on(store, "m1", Split.EVALUATION) == 0
    for _ in range(2):
        models.record_verdict(store, verdict, [measurement])
        assert store.version() == before + 1
    assert status(store) == {"m1": "production"}
    assert models.metrics_of(store, "m1", Split.EVALUATION) == {"auc": Metric("auc", 0.9), "f1": Metric("f1", None)}
    for changed in (replace(measurement, n=60), replace(measurement, metrics=[Metric("auc", 0.8), Metric("f1", None)])):
        models.record_verdict(store, None, [changed])
        assert models.measured_on(store, "m1", Split.EVALUATION) == changed.n
    assert models.metrics_of(store, "m1", Split.EVALUATION)["auc"] == Metric("auc", 0.8)
    assert [each.reason for each in models.decisions(store)] == ["first"]


def test_a_rollback_goes_back_step_by_step_until_there_was_none(store: Store) -> None:
    with pytest.raises(ModelError):
        models.model_before(store)
    for model in (FIRST, SECOND, replace(FIRST, model_id="m3")):
        models.add_model(store, model)
        models.promote(store, model.model_id)
    for expected in ("m2", "m1"):
        assert models.model_before(store) == expected
        models.promote(store, expected, decided_by=DecidedBy.ROLLBACK)
    with pytest.raises(ModelError, match=r"\bm1\b"):
        models.model_before(store)
    assert models.taken_back(store, "m3") is not None
    models.promote(store, "m3")
    assert models.taken_back(store, "m3") is None
    assert models.taken_back(store, "m2") is not None


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


def figures(store: Store, model_id: str, *metrics: Metric, split: str = SUCCESSIVE) -> None:
    models.add_metrics(store, model_id, split, metrics, n=10, lake_version=1)


def test_a_model_is_compared_with_the_newest_that_has_enough_fewer_labels_and_not_across_a_comparison(
    store: Store,
) -> None:
    for hour, n in enumerate([100, 110, 130, 135, 160]):
        made = replace(FIRST, model_id=f"m{n}", created_at=TIME + timedelta(hours=hour), n_training=n)
        models.add_model(store, made)

    def partner(model_id: str, n_more: int = 20) -> str | None:
        found = models.model_to_compare_with(store, model_id, n_more)
        return found and found.model_id

    partners = [partner(f"m{n}") for n in (100, 110, 130, 135, 160)]
    assert partners == [None, None, "m110", "m110", "m135"]
    assert partner("m135", n_more=30) == "m100"
    figures(store, "m130", Metric("kappa", 0.9))
    assert partner("m135") is None, "m130 is compared, and 135 is too near to it"
    assert partner("m160", n_more=26) == "m130"
    assert partner("m160", n_more=31) is None
    assert partner("unknown") is None


def test_recent_values_are_those_of_the_newest_models_that_have_the_figure(store: Store) -> None:
    assert models.recent_values(store, SUCCESSIVE, ["kappa"], 3) == [[]]
    for hour, model_id in enumerate(["m1", "m5", "m2", "m4", "m3"]):  # trained in this order
        models.add_model(store, replace(FIRST, model_id=model_id, created_at=TIME + timedelta(hours=hour)))
    figures(store, "m3", Metric("kappa", 0.3))  # measured in another order
    figures(store, "m2", Metric("kappa", 0.8))
    figures(store, "m2", Metric("kappa", None, reason="both give all items one label"))
    figures(store, "m5", Metric("kappa", None))
    figures(store, "m5", Metric("kappa", 0.5), Metric("change_of_f", 0.05))
    figures(store, "m1", Metric("kappa", 0.1))
    figures(store, "m4", Metric("kappa", 0.4), split=Split.EVALUATION)
    both = models.recent_values(store, SUCCESSIVE, ["kappa", "change_of_f"], 9)
    assert both == [[0.3, None, 0.5, 0.1], [0.05]]
    assert models.recent_values(store, SUCCESSIVE, ["kappa"], 2) == [[0.3, None]]
    assert models.recent_values(store, Split.EVALUATION, ["kappa"], 3) == [[0.4]]
