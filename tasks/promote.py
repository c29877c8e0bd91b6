"""Stage `promote`: the candidate into production, or not, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from prefect import task

from storage.errors import ModelError
from storage.models import keep_out, production_model, promote, taken_back
from storage.records import DecidedBy
from storage.workspace import Workspace
from tasks.evaluate import HeldOut, predict_held_out
from tasks.learning.calibration import Calibration
from tasks.learning.model_files import load_model
from tasks.learning.promotion import Comparison, Scored, compare
from tasks.learning.promotion_config import PromotionConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """Which model is in production now, whether it changed, and why."""

    model_id: str
    promoted: bool
    reason: str


@task
def promote_or_keep(workspace: Workspace, candidate_id: str, labels: tuple[str, ...], gate: PromotionConfig) -> Outcome:
    """Let the candidate through the gate, and remember what was decided and why; running it again changes nothing."""
    outcome, store = _decide(workspace, candidate_id, labels, gate), workspace.store()
    if outcome.promoted:
        promote(store, candidate_id, decided_by=DecidedBy.GATE, reason=outcome.reason)
    elif outcome.model_id != candidate_id:
        keep_out(store, candidate_id, decided_by=DecidedBy.GATE, reason=outcome.reason)
    log.info("%s: %s", "promoted" if outcome.promoted else f"kept {outcome.model_id}", outcome.reason)
    return outcome


def _decide(workspace: Workspace, candidate_id: str, labels: tuple[str, ...], gate: PromotionConfig) -> Outcome:
    store = workspace.store()
    current = production_model(store)
    if current is None:
        return Outcome(candidate_id, True, "there was no model in production")
    if current.model_id == candidate_id:
        return Outcome(candidate_id, False, "it is in production already")
    if taken := taken_back(store, candidate_id):
        on = f"{taken.decided_at:%Y-%m-%d}"
        return Outcome(current.model_id, False, f"it was taken back on {on}; to use it: pal promote {candidate_id}")
    try:
        production = load_model(workspace.model_folder(current.model_id), labels)
    except ModelError as error:
        return Outcome(candidate_id, True, f"the model in production cannot be used: {error.what}")
    candidate = load_model(workspace.model_folder(candidate_id), labels)
    version = store.version()
    ours = predict_held_out(store, candidate, version)
    theirs = predict_held_out(store, production, version)
    positive = candidate.calibration.positive
    counted = range(len(labels)) if positive is None else [positive]
    compared = compare(
        [_scored(ours, candidate.calibration, label) for label in counted],
        [_scored(theirs, production.calibration, label) for label in counted],
        [ours.labels == label for label in counted],
        gate,
    )
    if compared is None:
        return Outcome(candidate_id, True, f"{gate.metric} is undefined on these evaluation items: nothing to compare")
    passed = compared.not_worse >= gate.confidence
    return Outcome(candidate_id if passed else current.model_id, passed, _said(compared, gate, current.model_id))


def _said(compared: Comparison, gate: PromotionConfig, production_id: str) -> str:
    name = {"f1": "F1", "auc": "AUC", "ap": "AP"}[gate.metric]
    return (
        f"{name} {compared.candidate:.3f} against {compared.production:.3f} of {production_id} on the same"
        f" {compared.n:,} items, difference [{compared.low:+.3f}, {compared.high:+.3f}]; {compared.not_worse:.0%}"
        f" probable that it is not worse by more than {gate.margin:g}, {gate.confidence:.0%} needed"
    )


def _scored(held_out: HeldOut, calibration: Calibration, label: int) -> Scored:
    chosen = calibration.decisions(held_out.probabilities) == label
    return Scored(held_out.probabilities[:, label].astype(np.float64), chosen)
