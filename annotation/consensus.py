"""Consensus of annotators of different quality, and what to ask next: CROWDLAB and ActiveLab (extra `[crowd]`)."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from annotation.agreement import MISSING
from storage.errors import BatchError, PalError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_TIE = 1e-9
"""Breaks exact ties in a model's probabilities; cleanlab would draw from the global generator, or fail."""


@dataclass(frozen=True)
class Consensus:
    """The consensus of a model and all annotators.

    Attributes:
        labels: (n_items,), label numbers; MISSING for items without an answer.
        quality: (n_items,), probability that the label is right, 0 to 1; nan for items without an answer.
        annotator_quality: (n_annotators,), quality of an annotator's answers, 0 to 1; nan without an answer to an
            item that others answered too.
        model_weight: Weight of the model, 0 or more, on the scale of `annotator_weights`.
        annotator_weights: (n_annotators,), weight of each annotator; nan without an answer.
    """

    labels: Ints
    quality: Floats
    annotator_quality: Floats
    model_weight: float
    annotator_weights: Floats


def crowd_consensus(matrix: Ints, probabilities: npt.NDArray[np.floating]) -> Consensus:
    """Compute the consensus label of each item, weighted over its annotators and a model (CROWDLAB).

    The weights follow from agreement with the others on items with two or more answers. The model can overrule a
    single annotator.

    Source: Goh, Tkachenko & Mueller (2022).
    Differs from the source: ties between labels go to the one listed first instead of a random one.

    Args:
        matrix: (n_items, n_annotators), label numbers or MISSING.
        probabilities: (n_items, n_labels), of a model that was not trained on the item (out of sample).

    Raises:
        BatchError: No item has answers from two annotators, so weights cannot be estimated.
        PalError: cleanlab is not installed.
    """
    answered, active = (matrix != MISSING).any(axis=1), (matrix != MISSING).any(axis=0)
    if not ((matrix != MISSING).sum(axis=1) >= 2).any():
        raise BatchError(
            f"None of the {np.count_nonzero(answered):,} answered items has answers from two annotators.",
            hint="Have a second annotator answer a batch: pal annotate BATCH --annotator NAME",
        )
    with _quiet_cleanlab() as cleanlab:
        result = cleanlab.get_label_quality_multiannotator(
            _with_nan(matrix[answered][:, active]),
            _untied(probabilities[answered]),
            return_detailed_quality=False,
            return_weights=True,
            verbose=False,
        )
    of_items, of_annotators = result["label_quality"], result["annotator_stats"].sort_index()
    labels = np.full(len(matrix), MISSING, np.int64)
    labels[answered] = of_items["consensus_label"].to_numpy()
    return Consensus(
        labels,
        _spread(of_items["consensus_quality_score"].to_numpy(), answered),
        _spread(of_annotators["annotator_quality"].to_numpy(), active),
        float(result["model_weight"]),
        _spread(result["annotator_weight"], active),
    )


def ask_scores(matrix: Ints, probabilities: npt.NDArray[np.floating]) -> Floats:
    """Score the value of one more answer to each item (ActiveLab): (n_items,), 0 to 1, higher = query first.

    Scores of answered and new items are comparable: if an answered item scores higher, query it again. If no item has
    answers from two annotators, the model and all annotators have equal weight.

    Source: Goh & Mueller (2023).
    Differs from the source: 1 - its score; equally probable labels as in `crowd_consensus`.

    Args:
        matrix: (n_items, n_annotators), label numbers or MISSING; items without an answer are new.
        probabilities: (n_items, n_labels), of a model that was not trained on the item (out of sample).

    Raises:
        PalError: cleanlab is not installed.
    """
    answered, active = (matrix != MISSING).any(axis=1), (matrix != MISSING).any(axis=0)
    scores = np.full(len(matrix), np.nan)
    if not len(matrix):
        return scores
    with _quiet_cleanlab() as cleanlab:
        scores[answered], scores[~answered] = cleanlab.get_active_learning_scores(
            _with_nan(matrix[answered][:, active]) if answered.any() else None,
            _untied(probabilities[answered]) if answered.any() else None,
            _untied(probabilities[~answered]) if not answered.all() else None,
        )
    return 1 - scores


@contextlib.contextmanager
def _quiet_cleanlab() -> Iterator[ModuleType]:
    """Import cleanlab, with its output and warnings suppressed."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            from cleanlab import multiannotator
        except ImportError as error:
            raise PalError(
                f"Consensus and repeated queries need cleanlab, which is not installed ({error}).",
                hint="Install it: pip install 'pytorch-active-learning[crowd]'",
            ) from error
        yield multiannotator


def _with_nan(matrix: Ints) -> Floats:
    return np.where(matrix == MISSING, np.nan, matrix)


def _untied(probabilities: npt.NDArray[np.floating]) -> Floats:
    lowered = probabilities.astype(np.float64) + _TIE * np.arange(probabilities.shape[1], 0, -1)
    untied: Floats = lowered / lowered.sum(axis=1, keepdims=True)
    return untied


def _spread(values: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """`values` where `mask` is true, nan elsewhere."""
    spread = np.full(len(mask), np.nan)
    spread[mask] = values
    return spread
