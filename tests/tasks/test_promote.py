"""Stage `promote`: what gets into production, what is kept out, and the reason that is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annotation.headlines import synthetic_headlines
from annotation.label_set import LabelSet
from storage.models import add_model, decisions, find_model, model_before, production_model, promote
from storage.records import DecidedBy, Model, ModelStatus, Split
from storage.workspace import Workspace
from tasks.learning.encoder import Encoder, fit_bag_of_words, minilm_static
from tasks.learning.model_files import WEIGHTS, load_model, save_model
from tasks.learning.promotion_config import PromotionConfig
from tasks.learning.tokens import Examples
from tasks.learning.training import train
from tasks.learning.training_config import TrainingConfig
from tasks.promote import Outcome, promote_or_keep

NAMES = ("related", "not_related")
GATE = PromotionConfig()
QUICK = TrainingConfig(epochs=5)
pytestmark = pytest.mark.usefixtures("outside_of_a_flow")


def remember(workspace: Workspace, model_id: str) -> str:
    """A model that the lake knows, whatever lies in its folder."""
    at = datetime.now(UTC)
    add_model(workspace.store(), Model(model_id, at, 1, 10, "e", "{}", "hash", ModelStatus.CANDIDATE))
    return model_id


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
    encoder: Encoder = fit_bag_of_words([array]) if bag_of_words else minilm_static()
    examples = Examples(encoder.tokenize(array), np.array([names.index(label) for label in labels], np.int64))
    trained = train(encoder, examples, None, QUICK, n_labels=len(names), positive=positive)
    save_model(workspace.models / model_id, trained, encoder, names, QUICK, {})
    return remember(workspace, model_id)


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
def held_out(workspace: Workspace, take_headlines: Callable[..., Any], give_labels: Callable[..., None]) -> Workspace:
    """A workspace with 400 evaluation items."""
    give_labels(workspace, take_headlines(workspace, 400), Split.EVALUATION)
    return workspace


def test_the_first_model_goes_into_production_and_stays_there(workspace: Workspace) -> None:
    remember(workspace, "m1")
    first = promote_or_keep.fn(workspace, "m1", NAMES, GATE)
    assert first == Outcome("m1", True, "there was no model in production")
    assert promote_or_keep.fn(workspace, "m1", NAMES, GATE) == Outcome("m1", False, "it is in production already")
    current = production_model(workspace.store())
    assert current is not None
    assert current.model_id == "m1"


@pytest.mark.parametrize("other", [False, True], ids=["same encoder", "production has another encoder"])
def test_a_worse_candidate_is_kept_out_and_a_better_one_goes_in(
    held_out: Workspace, headlines: tuple[list[str], list[str]], other: bool
) -> None:
    texts, labels = headlines
    good = made_model(held_out, "good", texts, labels)
    bad = made_model(held_out, "bad", texts, shuffled(labels), bag_of_words=other)
    store = held_out.store()
    promote(store, good)
    kept = promote_or_keep.fn(held_out, bad, NAMES, GATE)
    assert (kept.model_id, kept.promoted) == (good, False)
    assert "on the same 400 items" in kept.reason
    assert "probable that it is not worse by more than 0.01, 50% needed" in kept.reason
    assert promote_or_keep.fn(held_out, bad, NAMES, GATE) == kept
    promote(store, bad)
    taken = promote_or_keep.fn(held_out, good, NAMES, GATE)
    assert (taken.model_id, taken.promoted) == (good, True)
    assert "; 100% probable" in taken.reason
    assert [find_model(store, each).status for each in (good, bad)] == [  # type: ignore[union-attr]
        ModelStatus.PRODUCTION,
        ModelStatus.RETIRED,
    ]


def test_without_a_positive_label_every_label_counts(
    workspace: Workspace,
    three_labels: LabelSet,
    reserve_batch: Callable[..., Any],
    give_labels: Callable[..., None],
) -> None:
    names = three_labels.names
    words = {"sport": "football match goal", "politics": "parliament vote election", "weather": "rain wind forecast"}
    texts = {f"{name}-{k}": f"{words[name]} number {k}" for name in names for k in range(40)}
    labels = {item_id: item_id.split("-")[0] for item_id in texts}
    held = [item_id for item_id in texts if int(item_id.split("-")[1]) < 20]
    reserve_batch(workspace, {item_id: texts[item_id] for item_id in held})
    give_labels(workspace, {item_id: labels[item_id] for item_id in held}, Split.EVALUATION)
    rest = [item_id for item_id in texts if item_id not in held]

    def model(model_id: str, said: dict[str, str]) -> str:
        lines, truth = [texts[i] for i in rest], [said[i] for i in rest]
        return made_model(workspace, model_id, lines, truth, names, positive=None)

    promote(workspace.store(), model("good", labels))
    assert promote_or_keep.fn(workspace, model("as-good", labels), names, GATE).promoted
    for spared in names:  # a model that mistakes the other two for each other
        confused = [name for name in names if name != spared]
        said = dict(labels)
        for item_id in rest:
            if labels[item_id] != spared:
                said[item_id] = confused[int(item_id.split("-")[1]) % 2]
        decision = promote_or_keep.fn(workspace, model(f"only-{spared}", said), names, GATE)
        assert not decision.promoted, (spared, decision.reason)


def test_a_production_model_that_cannot_be_loaded_is_replaced_and_the_reason_told(
    held_out: Workspace, headlines: tuple[list[str], list[str]]
) -> None:
    texts, labels = headlines
    promote(held_out.store(), made_model(held_out, "good", texts, labels))
    bad = made_model(held_out, "bad", texts, shuffled(labels))
    (held_out.models / "good" / WEIGHTS).write_bytes(b"damaged")
    decision = promote_or_keep.fn(held_out, bad, NAMES, GATE)
    assert (decision.model_id, decision.promoted) == (bad, True)
    assert decision.reason.startswith("the model in production cannot be used: ")
    assert WEIGHTS in decision.reason


def test_without_evaluation_items_the_newest_model_wins_and_the_reason_is_told(
    workspace: Workspace, headlines: tuple[list[str], list[str]]
) -> None:
    texts, labels = headlines
    promote(workspace.store(), made_model(workspace, "good", texts, labels))
    bad = made_model(workspace, "bad", texts, shuffled(labels))
    decision = promote_or_keep.fn(workspace, bad, NAMES, GATE)
    assert decision == Outcome(bad, True, "ap is undefined on these evaluation items: nothing to compare")


def test_every_decision_is_remembered_once_with_its_reason(
    held_out: Workspace, headlines: tuple[list[str], list[str]]
) -> None:
    texts, labels = headlines
    good, store = made_model(held_out, "good", texts, labels), held_out.store()
    bad = made_model(held_out, "bad", texts, shuffled(labels))
    for candidate in (good, good, bad, bad, good):
        outcome = promote_or_keep.fn(held_out, candidate, NAMES, GATE)
        assert outcome.model_id == good
    found = [(each.model_id, each.previous_id, each.promoted, each.decided_by) for each in decisions(store)]
    assert found == [("bad", "good", False, DecidedBy.GATE), ("good", None, True, DecidedBy.GATE)]
    assert "on the same 400 items" in decisions(store)[0].reason


def test_a_rollback_restores_bit_identical_predictions_and_the_gate_leaves_out_what_was_taken_back(
    held_out: Workspace, headlines: tuple[list[str], list[str]]
) -> None:
    texts, labels = headlines
    store = held_out.store()
    fair = made_model(held_out, "fair", texts, labels)
    promote_or_keep.fn(held_out, fair, NAMES, GATE)
    before = load_model(held_out.models / production_id(held_out)).predict(texts)
    better = made_model(held_out, "better", texts + texts[:50], labels + labels[:50])
    promote(store, better, decided_by=DecidedBy.GATE, reason="better")
    assert not np.array_equal(load_model(held_out.models / production_id(held_out)).predict(texts), before)

    promote(store, model_before(store), decided_by=DecidedBy.ROLLBACK, reason="worse in use")
    after = load_model(held_out.models / production_id(held_out)).predict(texts)
    assert after.tobytes() == before.tobytes()
    kept = promote_or_keep.fn(held_out, better, NAMES, PromotionConfig(margin=1.0))
    assert (kept.model_id, kept.promoted) == (fair, False)
    assert kept.reason.endswith(f"to use it: pal promote {better}")
    promote(store, better)
    promote(store, fair)
    assert promote_or_keep.fn(held_out, better, NAMES, PromotionConfig(margin=1.0)).promoted, (
        "a person put it back since"
    )


def production_id(workspace: Workspace) -> str:
    current = production_model(workspace.store())
    assert current is not None
    return current.model_id
