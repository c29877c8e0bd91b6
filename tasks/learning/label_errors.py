"""Labels that are probably wrong: given labels and out-of-sample probabilities in, a ranking to look at again out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.errors import ModelError

TOLERANCE = 1e-6
"""A probability so little below a threshold reaches it: the mean of equal numbers may be a rounding above them."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelErrors:
    """The m items of n that are suspected, the worst first; level ones in the order of the items.

    Attributes:
        positions: Where they stand among the items, (m,).
        scores: How improbable the given label is, 1 - its probability, (m,), above 0 to 1; higher = look first.
        believed: The label that the model holds for the right one, (m,).
        joint: Confident joint (n_labels, n_labels): items with given label i that the model is confident are j. Items
            of which it is confident of nothing are not counted.
    """

    positions: Ints
    scores: Floats
    believed: Ints
    joint: Ints


def label_errors(labels: Ints, probabilities: npt.NDArray[np.floating]) -> LabelErrors:
    """Items whose label is probably wrong, by confident learning.

    The model is confident of a label where its probability reaches the mean that it has on the items with that label:
    so a rare or difficult label needs less than a common one. Of several, the most probable counts. An item is
    suspected where this confident label is not the given one, and is more probable than it.

    These are the off-diagonal items of the confident joint, not as many as its calibrated counts say ("prune by noise
    rate", "by class", "both"): on some hundred labels such counts are rough, and which item fills them depends on all
    the others. Here each is suspected for what the model says of itself, and the label to suggest is known.

    The least probable given label comes first. With 18 errors planted among 300 items of 77 labels the first 40 had 15
    of them; ranked by how much more probable another label is, 11.

    Args:
        labels: The given labels (n,), 0 to n_labels - 1.
        probabilities: (n, n_labels), each row from a model that did not see the item.

    Raises:
        ModelError: A probability is not finite, or a label is none of the n_labels.

    >>> sure = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95]])
    >>> found = label_errors(np.array([0, 0, 1, 1, 0]), sure)
    >>> found.positions.tolist(), found.believed.tolist(), found.scores.round(2).tolist()
    ([4], [1], [0.95])

    Source: Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70.
    Differs from the source: an item is not suspected while its given label is as probable as the confident one.
    """
    rows = np.asarray(probabilities, np.float64)
    _check(labels, rows)
    n, n_labels = rows.shape
    reached = np.where(rows >= _thresholds(labels, rows) - TOLERANCE, rows, -np.inf)
    confident = reached.argmax(axis=1)
    every = np.arange(n)
    is_confident = np.isfinite(reached[every, confident])
    joint = np.zeros((n_labels, n_labels), np.int64)
    np.add.at(joint, (labels[is_confident], confident[is_confident]), 1)

    given = rows[every, labels]
    positions = np.flatnonzero(is_confident & (rows[every, confident] > given))
    scores = 1 - given[positions]
    order = np.argsort(-scores, kind="stable")
    return LabelErrors(positions[order], scores[order], confident[positions][order], joint)


def _thresholds(labels: Ints, rows: Floats) -> Floats:
    """Mean probability of each label on the items that have it, (n_labels,); infinite where there are none."""
    n_labels = rows.shape[1]
    counts = np.bincount(labels, minlength=n_labels)
    sums = np.bincount(labels, rows[np.arange(len(labels)), labels], n_labels)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _check(labels: Ints, rows: Floats) -> None:
    faulty = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(faulty):
        raise ModelError(
            f"{len(faulty)} of {len(rows)} items have invalid probabilities; "
            f"the first is item {faulty[0]}: {rows[faulty[0]].tolist()}.",
            hint="The training diverged. Lower learning_rate in pal.toml and train again: pal next",
        )
    strange = np.flatnonzero((labels < 0) | (labels >= rows.shape[1]))
    if len(strange):
        raise ModelError(
            f"Item {strange[0]} has label number {labels[strange[0]]}, but there are {rows.shape[1]} labels.",
            hint="Use only labels of the probabilities.",
        )
