"""Stage `promote_or_keep`: the candidate into production, or not, and why; recorded with its metrics at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from storage.errors import ModelError
from storage.lake.models import Measurement, Verdict, production_model, record_verdict, taken_back
from storage.records import DecidedBy
from tasks.config.settings import PromotionConfig
from tasks.evaluate import Evaluation, HeldOut, measured, predict_held_out
from tasks.learning.calibration import Calibration
from tasks.learning.model_files import LoadedModel
from tasks.learning.promotion import Comparison, Scored, compare
from tasks.model_input import open_model
from tasks.project import Project

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The model in production now, whether it changed, and why.

    Attributes:
        measurements: Metrics of the model that stayed in production, on the evaluation items there are now.
    """

    model: LoadedModel
    promoted: bool
    reason: str
    measurements: tuple[Measurement, ...] = ()


def promote_or_keep(
    project: Project, candidate: LoadedModel, evaluation: Evaluation, comparison: Measurement | None = None
) -> Outcome:
    """Decide whether the candidate passes the gate, and record decision and metrics in one transaction.

    Running it again changes nothing but the metrics.

    Args:
        evaluation: Of the candidate.
        comparison: With the model before it, where there is one to record.
    """
    outcome = _decide(project, candidate, evaluation)
    measurements = [evaluation.measurement, *outcome.measurements, *((comparison,) if comparison else ())]
    kept_out = not outcome.promoted and outcome.model.model_id != candidate.model_id
    verdict = Verdict(candidate.model_id, outcome.promoted, DecidedBy.GATE, outcome.reason)
    record_verdict(project.store, verdict if outcome.promoted or kept_out else None, measurements)
    action = f"Promoted {candidate.model_id}" if outcome.promoted else f"Kept {outcome.model.model_id}"
    log.info("%s: %s.", action, outcome.reason)
    return outcome


def _decide(project: Project, candidate: LoadedModel, evaluation: Evaluation) -> Outcome:
    store, gate = project.store, project.config.promotion
    current = production_model(store)
    if current is None:
        return Outcome(candidate, True, "there was no model in production")
    if current.model_id == candidate.model_id:
        return Outcome(candidate, False, "it is in production already")
    try:
        production = open_model(project, current.model_id)
    except ModelError as error:
        return Outcome(candidate, True, f"the model in production cannot be used: {error.what}")
    if production.outputs is not None and production.outputs.are_merged:
        return Outcome(candidate, True, "labels were merged since the model in production was trained")
    ours = evaluation.held_out
    theirs = predict_held_out(store, production, ours.lake_version)
    if taken := taken_back(store, candidate.model_id):
        reason = f"it was rolled back on {taken.decided_at:%Y-%m-%d}; to use it: pal promote {candidate.model_id}"
        return Outcome(production, False, reason, (measured(production, theirs).measurement,))
    positive = candidate.calibration.positive
    counted = range(len(project.label_set.names)) if positive is None else [positive]
    compared = compare(
        [_scored(ours, candidate.calibration, label) for label in counted],
        [_scored(theirs, production.calibration, label) for label in counted],
        [ours.labels == label for label in counted],
        gate.metric,
        margin=gate.margin,
    )
    if compared is None:
        return Outcome(candidate, True, f"{gate.metric} is undefined on these evaluation items: nothing to compare")
    reason = _reason(compared, gate, current.model_id)
    if compared.not_worse >= gate.confidence:
        return Outcome(candidate, True, reason)
    return Outcome(production, False, reason, (measured(production, theirs).measurement,))


def _reason(compared: Comparison, gate: PromotionConfig, production_id: str) -> str:
    name = {"f1": "F1", "auc": "AUC", "ap": "AP"}[gate.metric]
    is_equal = compared.not_worse >= gate.confidence and compared.low <= 0 <= compared.high
    return ("about equal; the newer one is kept: " if is_equal else "") + (
        f"{name} {compared.candidate:.3f} against {compared.production:.3f} of {production_id} on the same"
        f" {compared.n:,} items, difference [{compared.low:+.3f}, {compared.high:+.3f}]; {compared.not_worse:.0%}"
        f" probable that it is not worse by more than {gate.margin:g}, {gate.confidence:.0%} needed"
    )


def _scored(held_out: HeldOut, calibration: Calibration, label: int) -> Scored:
    chosen = calibration.decisions(held_out.probabilities) == label
    return Scored(held_out.probabilities[:, label].astype(np.float64), chosen)
