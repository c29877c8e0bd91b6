"""Cutting labelled items into folds, each label spread evenly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def stratified_folds(
    labels: npt.NDArray[np.int64], n_folds: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """A fold for each item.

    Args:
        labels: Label numbers (n,).

    Returns:
        Folds 0 to n_folds - 1, (n,): of each label the folds get equally many, give or take one.
    """
    folds = np.empty(len(labels), np.int64)
    start = 0
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        folds[members] = (np.arange(len(members)) + start) % n_folds
        start += len(members)
    return folds
