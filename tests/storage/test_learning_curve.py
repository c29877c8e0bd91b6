"""The curve has each model once with its newest figures; an item counts for each strategy that proposed it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from storage.lake.annotations import ingest
from storage.lake.models import StrategyResult, add_metrics, add_model, learning_curve, strategy_results
from storage.records import SUCCESSIVE, Answer, Batch, Metric, Model, ModelStatus, Split
from storage.workspace import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_each_model_is_there_once_with_its_newest_figures_the_oldest_first(workspace: Workspace) -> None:
    store = workspace.store()
    for k, name in enumerate(("m2", "m1", "unmeasured")):
        at = START + timedelta(days=k)
        add_model(store, Model(name, at, 1, 100 * (k + 1), "e", "{}", "h", ModelStatus.CANDIDATE))
    for value, n in ((0.5, 50), (0.6, 60)):
        add_metrics(store, "m2", Split.EVALUATION, [Metric("auc", value, 0.4, 0.7)], n=n, lake_version=1)
    add_metrics(store, "m1", Split.EVALUATION, [Metric("auc", None, reason="none")], n=60, lake_version=1)
    add_metrics(store, "m1", SUCCESSIVE, [Metric("kappa", 0.9)], n=60, lake_version=1)
    first, second = learning_curve(store)
    assert (first.model_id, first.n_training, first.n_measured) == ("m2", 100, 60)
    assert first.figures == {"auc": Metric("auc", 0.6, 0.4, 0.7)}
    assert second.figures == {"auc": Metric("auc", None, reason="none")}


def test_what_each_strategy_found_is_counted_by_batch(
    workspace: Workspace, reserve_batch: Callable[..., Batch]
) -> None:
    batch = reserve_batch(workspace, {"i1": "Floods", "i2": "Tea", "i3": "Cats"})
    reserve_batch(workspace, {"e1": "Fire"}, Split.EVALUATION)
    given = [Answer("i1", "related", "a"), Answer("i2", "not_related", "a"), Answer("i3", "unsure", "a")]
    ingest(workspace.store(), batch.batch_id, given, "a.csv")
    assert strategy_results(workspace.store(), "related") == [
        StrategyResult("b0001-training", "entropy", 1, 1),
        StrategyResult("b0001-training", "random", 2, 1),
    ]
