"""Stage `promote_or_keep`: the candidate into production, or not, and why; recorded with its metrics at once.

`model_change` compares the newest model with the one before: a sentence, and the items with another prediction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from storage.errors import ModelError
from storage.lake.items import fixed_sample
from storage.lake.models import Measurement, Verdict, production_model, record_verdict, taken_back
from storage.records import DecidedBy
from tasks.config.settings import PromotionConfig
from tasks.evaluate import N_SAMPLE, Evaluation, HeldOut, held_out_of, measured
from tasks.learning.calibration import Calibration
from tasks.learning.metrics import FEW
from tasks.learning.model_files import LoadedModel
from tasks.learning.promotion import Comparison, Scored, compare, recent_window
from tasks.prepare import open_model
from tasks.project import Project
from tasks.sentence_vectors import predict_stored

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
        return True, f"the evaluation items are too few to compare the models by {_NAMES[gate.metric]}"
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


N_FLIPS = 10
METRICS = {"ap": "AP", "f1": "F1", "auc": "AUC"}


@dataclass(frozen=True)
class Flip:
    """A text with different predictions of the two models, and the newer one's probability of its label, 0 to 1."""

    text: str
    before: str
    now: str
    probability: float


@dataclass(frozen=True)
class ModelChange:
    """The newest model against the one before it.

    Attributes:
        verdict: The comparison on the evaluation items in a sentence; empty if the metrics are undefined.
        n: Size of a fixed sample of all texts; the predictions differ on `n_flips` of them.
        flips: Those on which the newer model is most certain.
    """

    previous_id: str
    model_id: str
    verdict: str
    n: int
    n_flips: int
    flips: tuple[Flip, ...]


def model_change(project: Project, model_ids: Sequence[str], predicted: dict[str, HeldOut]) -> ModelChange | None:
    """Compare the two newest models; None if there are no two that fit pal.toml.

    Args:
        model_ids: All models with metrics, oldest first.
        predicted: Model id -> what was predicted for the evaluation items so far in this run; results are added.
    """
    store, names, newest = project.store, project.label_set.names, model_ids[-2:]
    if len(newest) < 2:
        return None
    try:
        before, now = (open_model(project, model_id) for model_id in newest)
    except ModelError:
        return None  # trained for other labels, or damaged; `pal status` and the next run report it
    held_out = [held_out_of(project, model, predicted) for model in (before, now)]
    texts = fixed_sample(store, N_SAMPLE)
    probabilities = predict_stored(store, now, texts)
    first = before.calibration.decisions(predict_stored(store, before, texts))
    second = now.calibration.decisions(probabilities)
    flipped = np.flatnonzero(first != second)
    surest = flipped[np.argsort(-probabilities[flipped, second[flipped]], kind="stable")][:N_FLIPS]
    flips = [
        Flip(texts[at], names[first[at]], names[second[at]], float(probabilities[at, second[at]])) for at in surest
    ]
    return ModelChange(newest[0], newest[1], _verdict((before, now), held_out), len(texts), len(flipped), tuple(flips))


def _verdict(models: tuple[LoadedModel, LoadedModel], held_out: list[HeldOut]) -> str:
    """Better, worse or about equal in each metric, by the paired bootstrap of the promotion gate."""
    labels = held_out[1].labels
    positive = models[1].calibration.positive
    if positive is not None and (n := np.count_nonzero(labels == positive)) < FEW:
        return f"Too few evaluation items have the positive label ({n}) to say which of the two models is better."
    counted = range(len(models[1].labels)) if positive is None else [positive]
    scored = [
        [_scored_held_out(of, model, label) for label in counted] for model, of in zip(models, held_out, strict=True)
    ]
    truths = [labels == label for label in counted]
    weights = held_out[1].weights
    compared = {name: compare(scored[1], scored[0], truths, name, margin=0.0, item_weights=weights) for name in METRICS}
    defined = {METRICS[name]: comparison for name, comparison in compared.items() if comparison}
    return verdict_text(models[0].model_id, defined)


def verdict_text(previous_id: str, comparisons: dict[str, Comparison]) -> str:
    """The comparison in a sentence; empty if there is none.

    >>> better, equal = Comparison(9, 0.63, 0.60, 0.01, 0.05, 1.0), Comparison(9, 0.5, 0.5, -1, 1, 0.5)
    >>> verdict_text("m1", {"AP": better, "F1": equal})
    'Against m1 on the same 9 items: AP better by 0.030, F1 about equal.'
    """
    parts = []
    for name, comparison in comparisons.items():
        difference = abs(comparison.candidate - comparison.production)
        if comparison.low <= 0 <= comparison.high:
            parts.append(f"{name} about equal")
        else:
            parts.append(f"{name} {'better' if comparison.low > 0 else 'worse'} by {difference:.3f}")
    n = next((comparison.n for comparison in comparisons.values()), 0)
    return f"Against {previous_id} on the same {n:,} items: {', '.join(parts)}." if parts else ""


def _scored_held_out(held_out: HeldOut, model: LoadedModel, label: int) -> Scored:
    chosen = model.calibration.decisions(held_out.probabilities) == label
    return Scored(held_out.probabilities[:, label].astype(np.float64), chosen)
