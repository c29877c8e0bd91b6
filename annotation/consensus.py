"""Consensus of annotators of unlike quality, and what to ask next: CROWDLAB and ActiveLab, by the extra `[crowd]`."""

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
"""Breaks a model's exact ties; without it the library draws from the global generator, or fails."""


@dataclass(frozen=True)
class Consensus:
    """What a model and all annotators say together.

    Attributes:
        labels: (n_items,): the label's number; MISSING where nobody answered.
        quality: (n_items,): how likely that label is right, 0 to 1; nan where nobody answered.
        annotator_quality: (n_annotators,): how good an annotator's answers are, 0 to 1; nan for one without an answer
            to an item that others answered too.
        model_weight: How much the model counts for, 0 or more; compare `annotator_weights`.
        annotator_weights: (n_annotators,): how much an annotator counts for; nan without an answer.
    """

    labels: Ints
    quality: Floats
    annotator_quality: Floats
    model_weight: float
    annotator_weights: Floats


def crowd_consensus(matrix: Ints, probabilities: npt.NDArray[np.floating]) -> Consensus:
    """The label of each item by weight of its annotators and of a model (CROWDLAB), with its quality.

    Weights come from how well each agrees with the others on items with two or more answers. A label may be the
    model's against a single annotator.

    Source: Goh, Tkachenko & Mueller (2022).
    Differs from the source: of equally probable labels the earlier one comes first, so that no tie is left to chance.

    Args:
        matrix: (n_items, n_annotators), label numbers or MISSING.
        probabilities: (n_items, n_labels), of a model that was not trained on the item (out of sample).

    Raises:
        BatchError: No item has answers of two annotators, so that no weights can be told.
        PalError: cleanlab is not installed.
    """
    answered, active = (matrix != MISSING).any(axis=1), (matrix != MISSING).any(axis=0)
    if not ((matrix != MISSING).sum(axis=1) >= 2).any():
        raise BatchError(
            f"None of {np.count_nonzero(answered)} answered items has answers of two annotators.",
            hint="let somebody else answer one of the batches too: pal annotate BATCH --annotator NAME",
        )
    with _quiet_cleanlab() as cleanlab:
        found = cleanlab.get_label_quality_multiannotator(
            _with_nan(matrix[answered][:, active]),
            _untied(probabilities[answered]),
            return_detailed_quality=False,
            return_weights=True,
            verbose=False,
        )
    of_items, of_annotators = found["label_quality"], found["annotator_stats"].sort_index()
    labels = np.full(len(matrix), MISSING, np.int64)
    labels[answered] = of_items["consensus_label"].to_numpy()
    return Consensus(
        labels,
        _spread(of_items["consensus_quality_score"].to_numpy(), answered),
        _spread(of_annotators["annotator_quality"].to_numpy(), active),
        float(found["model_weight"]),
        _spread(found["annotator_weight"], active),
    )


def ask_scores(matrix: Ints, probabilities: npt.NDArray[np.floating]) -> Floats:
    """How much one more answer to each item is worth (ActiveLab), (n_items,), 0 to 1, higher = ask first.

    Scores of answered items and of new ones can be compared: where an answered item's is higher, ask about it again.
    Without any item that two annotators answered, the model and every annotator count alike.

    Source: Goh & Mueller (2023).
    Differs from the source: 1 - its score; equally probable labels as in `crowd_consensus`.

    Args:
        matrix: (n_items, n_annotators), label numbers or MISSING; an item without an answer is a new one.
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
    """The library, while it is kept from printing and warning."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            from cleanlab import multiannotator
        except ImportError as error:
            raise PalError(
                f"Consensus and asking again need cleanlab, which is not installed ({error}).",
                hint="pip install 'pytorch-active-learning[crowd]'",
            ) from error
        yield multiannotator


def _with_nan(matrix: Ints) -> Floats:
    return np.where(matrix == MISSING, np.nan, matrix)


def _untied(probabilities: npt.NDArray[np.floating]) -> Floats:
    lowered = probabilities.astype(np.float64) + _TIE * np.arange(probabilities.shape[1], 0, -1)
    untied: Floats = lowered / lowered.sum(axis=1, keepdims=True)
    return untied


def _spread(values: Floats, where: npt.NDArray[np.bool_]) -> Floats:
    """`values` at the places where `where` is true, nan elsewhere."""
    spread = np.full(len(where), np.nan)
    spread[where] = values
    return spread
