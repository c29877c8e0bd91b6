"""Stage `promote_or_keep`: what gets into production, what is kept out, and the reason that is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from projects import project_of

from annotation.synthetic import synthetic_headlines
from storage.lake.models import (
    Measurement,
    add_model,
    decisions,
    find_model,
    measured_on,
    metrics_of,
    model_before,
    production_model,
    promote,
)
from storage.records import SUCCESSIVE, DecidedBy, Metric, Model, ModelStatus, Split
from storage.workspace import Workspace
from tasks.config.settings import PromotionConfig
from tasks.evaluate import evaluate_model
from tasks.learning.encoders import Encoder, StaticVectors, fit_bag_of_words
from tasks.learning.model_files import WEIGHTS, load_model, save_model
from tasks.learning.tokens import Examples
from tasks.learning.training import Target, TrainingConfig, train
from tasks.project import Project
from tasks.promote import promote_or_keep

NAMES = ("related", "not_related")
LENIENT = PromotionConfig(margin=1.0)
QUICK = TrainingConfig(epochs=5)


def made_model(
    workspace: Workspace,
    model_id: str,
    texts: Sequence[str],
    labels: Sequence[str],
    names: Sequence[str] = NAMES,
    *,
    positive: int | None = 0,
    bag_of_words: bool = False,
) -> str:
    """A model trained on these texts, on disk and in the lake."""
    array = pa.array(texts, pa.string())
    encoder: Encoder = fit_bag_of_words([array]) if bag_of_words else StaticVectors()
    examples = Examples(encoder.tokenize(array), np.array([names.index(label) for label in labels], np.int64))
    trained = train(encoder, examples, None, QUICK, Target(len(names), positive))
    save_model(workspace.models / model_id, trained, encoder, names, QUICK, {})
    at = datetime.now(UTC)
    add_model(workspace.store(), Model(model_id, at, 1, 10, "e", "{}", "hash", ModelStatus.CANDIDATE))
    return model_id


def decide(project: Project, model_id: str) -> tuple[str, bool, str]:
    """Evaluate a model and decide on it: the model in production afterwards, whether it is promoted, and why."""
    candidate = load_model(project.workspace.models / model_id)
    outcome = promote_or_keep(project, candidate, evaluate_model(project, candidate))
    return outcome.model.model_id, outcome.promoted, outcome.reason


def shuffled(labels: Sequence[str]) -> list[str]:
    return list(np.random.default_rng(0).permutation(list(labels)))


@pytest.fixture
def headlines() -> tuple[list[str], list[str]]:
    """Texts and true labels to train on, apart from the ones that are held out."""
    table = synthetic_headlines(900).slice(400)
    related = np.flatnonzero(np.array(table["label"].to_pylist()) == "related")
    kept = table.take(pa.array(np.unique(np.concatenate([related, np.arange(120)]))))
    return kept["text"].to_pylist(), kept["label"].to_pylist()


@pytest.fixture
def held_out(workspace: Workspace, take_headlines: Callable[..., Any], give_labels: Callable[..., None]) -> Project:
    """A project with 400 evaluation items."""
    give_labels(workspace, take_headlines(workspace, 400), Split.EVALUATION)
    return project_of(workspace)


@pytest.mark.parametrize("other", [False, True], ids=["same encoder", "production has another encoder"])
def test_a_worse_candidate_is_kept_out_and_a_better_one_goes_in(
    held_out: Project, headlines: tuple[list[str], list[str]], other: bool
) -> None:
    texts, labels = headlines
    good = made_model(held_out.workspace, "good", texts, labels)
    bad = made_model(held_out.workspace, "bad", texts, shuffled(labels), bag_of_words=other)
    store = held_out.workspace.store()
    promote(store, good)
    *kept, reason = decide(held_out, bad)
    assert kept == [good, False]
    assert all(value in reason for value in ("400 items", "0.01", "50%"))
    assert decide(held_out, bad) == (good, False, reason)
    promote(store, bad)
    *taken, reason = decide(held_out, good)
    assert "about equal" not in reason
    assert taken == [good, True]
    assert "100%" in reason
    assert [find_model(store, each).status for each in (good, bad)] == [  # type: ignore[union-attr]
        ModelStatus.PRODUCTION,
        ModelStatus.RETIRED,
    ]


def test_on_equal_terms_the_newer_model_is_kept(held_out: Project, headlines: tuple[list[str], list[str]]) -> None:
    promote(held_out.workspace.store(), made_model(held_out.workspace, "good", *headlines))
    *decided, reason = decide(held_out, made_model(held_out.workspace, "same", *headlines))
    assert decided == ["same", True]
    assert "equal" in reason


def test_a_production_model_that_cannot_be_loaded_is_replaced_and_the_reason_told(
    held_out: Project, headlines: tuple[list[str], list[str]]
) -> None:
    texts, labels = headlines
    workspace = held_out.workspace
    promote(workspace.store(), made_model(workspace, "good", texts, labels))
    bad = made_model(workspace, "bad", texts, shuffled(labels))
    (workspace.models / "good" / WEIGHTS).write_bytes(b"damaged")
    model_id, promoted, reason = decide(held_out, bad)
    assert (model_id, promoted) == (bad, True)
    assert WEIGHTS in reason


def test_without_evaluation_items_the_newest_model_wins_and_the_reason_is_told(
    workspace: Workspace, headlines: tuple[list[str], list[str]]
) -> None:
    texts, labels = headlines
    promote(workspace.store(), made_model(workspace, "good", texts, labels))
    bad = made_model(workspace, "bad", texts, shuffled(labels))
    reason = "the evaluation items are too few to compare the models by AP"
    assert decide(project_of(workspace), bad) == (bad, True, reason)


def test_one_commit_records_the_decision_with_the_metrics_of_both_models_and_again_adds_nothing(
    held_out: Project, headlines: tuple[list[str], list[str]]
) -> None:
    texts, labels = headlines
    workspace, store = held_out.workspace, held_out.workspace.store()
    promote(store, made_model(workspace, "good", texts, labels))
    bad = load_model(workspace.models / made_model(workspace, "bad", texts, shuffled(labels)))
    comparison = Measurement("bad", SUCCESSIVE, [Metric("kappa", 0.25)], 10, store.version())
    before = store.version()
    evaluation = evaluate_model(held_out, bad)
    assert store.version() == before, "measuring alone records nothing"
    for _ in range(2):
        outcome = promote_or_keep(held_out, bad, evaluation, comparison)
        assert (outcome.model.model_id, outcome.promoted, store.version()) == ("good", False, before + 1)
    assert [(each.model_id, each.promoted) for each in decisions(store)] == [("bad", False), ("good", True)]
    assert [measured_on(store, model_id, Split.EVALUATION) for model_id in ("good", "bad")] == [400, 400]
    assert metrics_of(store, "bad", SUCCESSIVE) == {"kappa": Metric("kappa", 0.25)}
    ap = [metrics_of(store, model_id, Split.EVALUATION)["ap"].value or 0 for model_id in ("good", "bad")]
    assert ap[0] > ap[1], "each model has its own"


def test_a_rollback_restores_bit_identical_predictions_and_the_gate_leaves_out_what_was_taken_back(
    held_out: Project, headlines: tuple[list[str], list[str]]
) -> None:
    texts, labels = headlines
    workspace, store = held_out.workspace, held_out.workspace.store()
    lenient = held_out.with_config(promotion=LENIENT)
    fair = made_model(workspace, "fair", texts, labels)
    decide(held_out, fair)
    before = load_model(workspace.models / production_id(workspace)).predict(texts)
    better = made_model(workspace, "better", texts + texts[:50], labels + labels[:50])
    promote(store, better, decided_by=DecidedBy.GATE, reason="better")
    assert not np.array_equal(load_model(workspace.models / production_id(workspace)).predict(texts), before)

    promote(store, model_before(store), decided_by=DecidedBy.ROLLBACK, reason="worse in use")
    after = load_model(workspace.models / production_id(workspace)).predict(texts)
    assert after.tobytes() == before.tobytes()
    *kept, reason = decide(lenient, better)
    assert kept == [fair, False]
    assert f"pal promote {better}" in reason
    promote(store, better)
    promote(store, fair)
    assert decide(lenient, better)[:2] == (better, True), "a person put it back since"


def production_id(workspace: Workspace) -> str:
    current = production_model(workspace.store())
    return current.model_id
