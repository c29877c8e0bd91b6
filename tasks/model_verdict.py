"""The newest model compared with the one before: a verdict in a sentence, and items with another prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from storage.errors import ModelError
from storage.lake.items import fixed_sample
from tasks.evaluate import N_SAMPLE, HeldOut, held_out_of
from tasks.learning.metrics import FEW
from tasks.learning.model_files import LoadedModel
from tasks.learning.promotion import Comparison, Scored, compare
from tasks.model_input import open_model
from tasks.project import Project
from tasks.sentence_vectors import predict_stored

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
    scored = [[_scored(of, model, label) for label in counted] for model, of in zip(models, held_out, strict=True)]
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


def _scored(held_out: HeldOut, model: LoadedModel, label: int) -> Scored:
    chosen = model.calibration.decisions(held_out.probabilities) == label
    return Scored(held_out.probabilities[:, label].astype(np.float64), chosen)
