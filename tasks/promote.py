"""Stage `promote_or_keep`: the candidate into production, or not, and why; recorded with its metrics at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from storage.errors import ModelError
from storage.lake.models import Measurement, Verdict, production_model, record_verdict, taken_back
from storage.records import DecidedBy
from tasks.config.settings import PromotionConfig
from tasks.evaluate import Evaluation, HeldOut, held_out_of, measured
from tasks.learning.calibration import Calibration
from tasks.learning.model_files import LoadedModel
from tasks.learning.promotion import Comparison, Scored, compare, recent_window
from tasks.model_input import open_model
from tasks.project import Project

log = logging.getLogger(__name__)

LEAST_RECENT = 30
"""Positive evaluation items of the newest slices of imports, or items for each label, for these to decide."""


@dataclass(frozen=True)
class Outcome:
    """The model in production now, whether it changed, and why.

    Attributes:
        measurements: Metrics of the model that stayed in production, on the evaluation items there are now.
        held_out: Model id -> what the model says of the evaluation items.
    """

    model: LoadedModel
    promoted: bool
    reason: str
    measurements: tuple[Measurement, ...] = ()
    held_out: dict[str, HeldOut] = field(default_factory=dict)


def promote_or_keep(
    project: Project, candidate: LoadedModel, evaluation: Evaluation, comparison: Measurement | None = None
) -> Outcome:
    """Decide whether the candidate passes the gate, and record decision and metrics in one transaction.

    Running it again changes nothing but the metrics.

    Args:
        evaluation: Of the candidate.
        comparison: With the model before it, where there is one to record.
    """
    held_out = {candidate.model_id: evaluation.held_out}
    outcome = replace(_decide(project, candidate, held_out), held_out=held_out)
    measurements = [evaluation.measurement, *outcome.measurements, *((comparison,) if comparison else ())]
    kept_out = not outcome.promoted and outcome.model.model_id != candidate.model_id
    verdict = Verdict(candidate.model_id, outcome.promoted, DecidedBy.GATE, outcome.reason)
    record_verdict(project.store, verdict if outcome.promoted or kept_out else None, measurements)
    action = f"Promoted {candidate.model_id}" if outcome.promoted else f"Kept {outcome.model.model_id}"
    log.info("%s: %s.", action, outcome.reason)
    return outcome


def _decide(project: Project, candidate: LoadedModel, held_out: dict[str, HeldOut]) -> Outcome:
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
    ours, theirs = held_out[candidate.model_id], held_out_of(project, production, held_out)
    if taken := taken_back(store, candidate.model_id):
        reason = f"it was rolled back on {taken.decided_at:%Y-%m-%d}; to use it: pal promote {candidate.model_id}"
        return Outcome(production, False, reason, (measured(production, theirs).measurement,))
    promoted, reason = _gate(_Contest(candidate, production, ours, theirs), gate)
    if promoted:
        return Outcome(candidate, True, reason)
    return Outcome(production, False, reason, (measured(production, theirs).measurement,))


@dataclass(frozen=True)
class _Contest:
    """A candidate and the production model, and what each says of the same evaluation items."""

    candidate: LoadedModel
    production: LoadedModel
    ours: HeldOut
    theirs: HeldOut

    @property
    def positive(self) -> int | None:
        """The positive label; None where all labels count."""
        return self.candidate.calibration.positive

    def compared(self, gate: PromotionConfig, among: npt.NDArray[np.bool_] | None = None) -> Comparison | None:
        """The two on some of the items, or all; None where the metric is undefined on them."""
        at = np.flatnonzero(among) if among is not None else slice(None)
        labels, weights = self.ours.labels[at], self.ours.weights
        counted = range(len(self.candidate.labels)) if self.positive is None else [self.positive]
        return compare(
            [_scored(self.ours.probabilities[at], self.candidate.calibration, label) for label in counted],
            [_scored(self.theirs.probabilities[at], self.production.calibration, label) for label in counted],
            [labels == label for label in counted],
            gate.metric,
            margin=gate.margin,
            item_weights=weights[at] if weights is not None else None,
        )


def _gate(contest: _Contest, gate: PromotionConfig) -> tuple[bool, str]:
    """Whether the candidate passes, and why.

    Where the newest slices of imports have enough evaluation items, these decide. The older ones are the control: a
    candidate that is worse on them has to be better on the newest.
    """
    model_id, sliced, note = contest.production.model_id, contest.ours.sliced, ""
    if sliced is not None:
        labels, positive = contest.ours.labels, contest.positive
        least = LEAST_RECENT * (1 if positive is not None else len(contest.candidate.labels))
        counted = labels == positive if positive is not None else labels >= 0
        window = recent_window(np.array(sliced.at, np.int64), counted, least)
        newest = contest.compared(gate, window[1]) if window else None
        if window and newest:
            since = f"{sliced.slices[window[0]].imports[0]:%Y-%m-%d %H:%M} UTC"
            return _by_window(newest, contest.compared(gate, ~window[1]), gate, (since, model_id))
        kind = "evaluation items" if positive is None else "positive evaluation items"
        note = f"; texts of later imports have fewer than {least} {kind}, so they do not decide"
    compared = contest.compared(gate)
    if compared is None:
        return True, f"{gate.metric} is undefined on these evaluation items: nothing to compare"
    return compared.not_worse >= gate.confidence, _reason(compared, gate, model_id) + note


def _by_window(
    newest: Comparison, older: Comparison | None, gate: PromotionConfig, names: tuple[str, str]
) -> tuple[bool, str]:
    since, model_id = names
    passes = newest.not_worse >= gate.confidence
    verdict = ""
    if older and passes and older.high < -gate.margin:
        passes = newest.low > 0
        verdict = f"worse on older texts {'but' if passes else 'and not'} better on the newest: "
    elif older and not passes and older.candidate > older.production:
        verdict = "better on older texts but worse on the newest: "
    reason = f"{verdict}{_reason(newest, gate, model_id)} (texts imported since {since})"
    if older:
        figures = f"{_NAMES[gate.metric]} {older.candidate:.3f} against {older.production:.3f}"
        reason += f"; on {older.n:,} older items {figures}, difference [{older.low:+.3f}, {older.high:+.3f}]"
    return passes, reason


_NAMES = {"f1": "F1", "auc": "AUC", "ap": "AP"}


def _reason(compared: Comparison, gate: PromotionConfig, production_id: str) -> str:
    is_equal = compared.not_worse >= gate.confidence and compared.low <= 0 <= compared.high
    return ("about equal; the newer one is kept: " if is_equal else "") + (
        f"{_NAMES[gate.metric]} {compared.candidate:.3f} against {compared.production:.3f} of {production_id} on the"
        f" same {compared.n:,} items, difference [{compared.low:+.3f}, {compared.high:+.3f}];"
        f" {compared.not_worse:.0%} probable that it is not worse by more than {gate.margin:g},"
        f" {gate.confidence:.0%} needed"
    )


def _scored(probabilities: npt.NDArray[np.float32], calibration: Calibration, label: int) -> Scored:
    return Scored(probabilities[:, label].astype(np.float64), calibration.decisions(probabilities) == label)
