"""Stage `promote`: the candidate into production, or not, and why."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from prefect import task

from storage.errors import ModelError
from storage.models import production_model, promote
from storage.workspace import Workspace
from tasks.evaluate import HeldOut, predict_held_out
from tasks.learning.calibration import Calibration
from tasks.learning.model_files import load_model
from tasks.learning.promotion import PromotionConfig, Scored, probability_not_worse

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Which model is in production now, whether it changed, and why."""

    model_id: str
    promoted: bool
    reason: str


@task
def promote_or_keep(
    workspace: Workspace, candidate_id: str, labels: tuple[str, ...], gate: PromotionConfig
) -> Decision:
    """Let the candidate through the gate; running it again gives the same answer."""
    decision = _decide(workspace, candidate_id, labels, gate)
    if decision.promoted:
        promote(workspace.store(), candidate_id)
    log.info("%s: %s", "promoted" if decision.promoted else f"kept {decision.model_id}", decision.reason)
    return decision


def _decide(workspace: Workspace, candidate_id: str, labels: tuple[str, ...], gate: PromotionConfig) -> Decision:
    store = workspace.store()
    current = production_model(store)
    if current is None:
        return Decision(candidate_id, True, "there was no model in production")
    if current.model_id == candidate_id:
        return Decision(candidate_id, False, "it is in production already")
    try:
        production = load_model(workspace.models / current.model_id, labels)
    except ModelError as error:
        return Decision(candidate_id, True, f"the model in production cannot be used: {error.what}")
    candidate = load_model(workspace.models / candidate_id, labels)
    version = store.version()
    ours = predict_held_out(store, candidate, version)
    theirs = predict_held_out(store, production, version)
    positive = candidate.calibration.positive
    counted = range(len(labels)) if positive is None else [positive]
    probability = probability_not_worse(
        [_scored(ours, candidate.calibration, label) for label in counted],
        [_scored(theirs, production.calibration, label) for label in counted],
        [ours.labels == label for label in counted],
        gate,
    )
    if probability is None:
        return Decision(candidate_id, True, f"{gate.metric} is undefined on these evaluation items: nothing to compare")
    said = (
        f"{probability:.0%} probable that its {gate.metric} is not worse by more than {gate.margin:g}; "
        f"{gate.confidence:.0%} needed"
    )
    if probability >= gate.confidence:
        return Decision(candidate_id, True, said)
    return Decision(current.model_id, False, said)


def _scored(held_out: HeldOut, calibration: Calibration, label: int) -> Scored:
    chosen = calibration.decisions(held_out.probabilities) == label
    return Scored(held_out.probabilities[:, label].astype(np.float64), chosen)
