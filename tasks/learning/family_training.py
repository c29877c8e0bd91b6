"""Training on feature families: the mix, the regularization and the calibration follow from the labeled items.

The problem is convex: multinomial logistic regression on all families at once. With few items it is solved in the space
of the items (their kernel's Cholesky factor), with many in that of the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import solve_triangular
from scipy.special import log_softmax

from tasks.learning.calibration import stratified_folds
from tasks.learning.families import (
    MOST_TO_CHOOSE_BY,
    Design,
    Family,
    Kernel,
    Labels,
    Mix,
    choose_mix,
    few_to_choose_by,
    mean_precision,
    mixed,
)

N_FOLDS = 5
USUAL_C = 10.0
OTHER_CS = (1.0, 100.0)
"""Taken where they rank held-out items better by more than a standard error."""

MOST_IN_KERNEL = 3_000
"""Labeled items whose cosines fit into memory; more are fitted in the space of the features."""

MOST_WEIGHTS = 4_000_000
"""Columns times labels in the space of the features; the features of the fewest texts are left out."""

RIDGE_OF_KERNEL = 1e-4
"""Of its mean diagonal: cosines are rounded, and copies of a text make the kernel singular."""

Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FamilyWeights:
    """A linear classifier on feature families.

    Attributes:
        mix: How much each family counted.
        weights: Family -> float64 (features of the family, n_labels), the mix included.
        bias: (n_labels,).
        c: Strength of the fit: C of a logistic regression.
    """

    mix: Mix
    weights: dict[Family, Any]
    bias: Weights
    c: float


@dataclass(frozen=True)
class Fitted:
    """A classifier, and the logits (n, n_labels) of its n training items, each by one that did not see the item."""

    family_weights: FamilyWeights
    held_out_logits: npt.NDArray[np.float32]


def fit_families(
    texts: Design, labels: Labels, n_labels: int, *, weights: Weights, seed: int, c: float | None = None
) -> Fitted:
    """Fit a classifier on feature families.

    Args:
        texts: n labeled texts.
        labels: Their label numbers, (n,).
        weights: Their weights in the loss, (n,).
        seed: Of the folds, and of the items that choose the mix where there are many.
        c: As of a logistic regression; None to choose it by cross-validation.
    """
    generator = np.random.default_rng(seed)
    few = _some(labels, MOST_TO_CHOOSE_BY, generator)
    mix = choose_mix(texts.take(few), labels[few], weights[few])
    problem = _problem(texts, mix, labels, n_labels, weights)
    folds = stratified_folds(labels, N_FOLDS, generator)
    by_c = {each: _held_out(problem, folds, each) for each in ((USUAL_C, *OTHER_CS) if c is None else (c,))}
    best = _best_c(by_c, labels) if c is None else c
    return Fitted(problem.family_weights(best), by_c[best].astype(np.float32))


def _best_c(by_c: dict[float, Kernel], labels: Labels) -> float:
    """The usual C, or another that ranks the held-out items better by more than a standard error."""
    best, gain = USUAL_C, 0.0
    if few_to_choose_by(labels):
        return best
    ranked = {c: log_softmax(logits, axis=1) for c, logits in by_c.items()}
    for other in OTHER_CS:
        better, error = mean_precision(ranked[other], labels, than=ranked[USUAL_C])
        if better > max(gain, error):
            best, gain = other, better
    return best


def _some(labels: Labels, most: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """At most so many positions, of each label about its share and at least two, ascending."""
    if len(labels) <= most:
        return np.arange(len(labels))
    order = generator.permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    counts = np.bincount(labels)[labels]
    return np.flatnonzero(rank < np.maximum(2, np.round(counts * most / len(labels))))


@dataclass(frozen=True)
class _Problem:
    """What is minimized: texts in one matrix of rows, whose products are the mixed kernel's."""

    texts: Design
    mix: Mix
    labels: Labels
    n_labels: int
    weights: Weights
    kernel: Kernel | None
    held_out_kernel: Kernel | None

    def held_out(self, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64], c: float) -> Kernel:
        """Logits of the texts at `test` by a classifier trained on those at `train`."""
        if self.held_out_kernel is not None:
            coefficients, bias = self._in_kernel(train, c)
            return np.asarray(self.held_out_kernel[np.ix_(test, train)] @ coefficients + bias)
        trained = self._in_features(train, c)
        logits = np.tile(trained.bias, (len(test), 1))
        for name, weights in trained.weights.items():
            factor = self.texts.unseen[name][test, None] if name in self.texts.unseen else 1.0
            logits += factor * (self.texts.rows[name][test] @ weights)
        return logits

    def family_weights(self, c: float) -> FamilyWeights:
        """The classifier trained on all texts."""
        every = np.arange(len(self.labels))
        if self.kernel is None:
            return self._in_features(every, c)
        coefficients, bias = self._in_kernel(every, c)
        weights = {name: share * (self.texts.rows[name].T @ coefficients) for name, share in self.mix.items()}
        return FamilyWeights(self.mix, weights, bias, c)

    def _in_kernel(self, train: npt.NDArray[np.int64], c: float) -> tuple[Kernel, Weights]:
        """Coefficients (m, n_labels) of the m training texts, and the bias."""
        assert self.kernel is not None
        kernel = self.kernel[np.ix_(train, train)]
        kernel[np.diag_indices(len(kernel))] += RIDGE_OF_KERNEL * np.trace(kernel) / len(kernel)
        factor = np.linalg.cholesky(kernel)
        solved, bias = fit_softmax(factor, self.labels[train], self.n_labels, self.weights[train], c)
        return solve_triangular(factor.T, solved), bias

    def _in_features(self, train: npt.NDArray[np.int64], c: float) -> FamilyWeights:
        parts, columns = [], []
        most = MOST_WEIGHTS // self.n_labels
        for name, share in self.mix.items():
            rows = sparse.csr_matrix(self.texts.rows[name][train])
            occurs = np.bincount(rows.indices, minlength=rows.shape[1])
            kept = np.sort(np.argsort(-occurs, kind="stable")[: min(most, np.count_nonzero(occurs))])
            parts.append(np.sqrt(share) * rows[:, kept])
            columns.append(kept)
        solved, bias = fit_softmax(
            sparse.hstack(parts).tocsr(), self.labels[train], self.n_labels, self.weights[train], c
        )
        weights: dict[Family, Any] = {}
        ends = np.cumsum([len(kept) for kept in columns])
        for (name, share), kept, end in zip(self.mix.items(), columns, ends, strict=True):
            weights[name] = np.zeros((self.texts.rows[name].shape[1], self.n_labels))
            weights[name][kept] = np.sqrt(share) * solved[end - len(kept) : end]
        return FamilyWeights(self.mix, weights, bias, c)


def _problem(texts: Design, mix: Mix, labels: Labels, n_labels: int, weights: Weights) -> _Problem:
    if len(labels) > MOST_IN_KERNEL:
        return _Problem(texts, mix, labels, n_labels, weights, None, None)
    kernels = Design({name: texts.rows[name] for name in mix}, {}).kernels()
    return _Problem(texts, mix, labels, n_labels, weights, mixed(kernels, mix), mixed(kernels, mix, texts.unseen))


def _held_out(problem: _Problem, folds: Labels, c: float) -> Kernel:
    """Logits (n, n_labels) of all items, each by a classifier trained on the other folds."""
    logits = np.zeros((len(folds), problem.n_labels))
    for fold in np.unique(folds):
        test = np.flatnonzero(folds == fold)
        logits[test] = problem.held_out(np.flatnonzero(folds != fold), test, c)
    return logits


def fit_softmax(rows: Any, labels: Labels, n_labels: int, weights: Weights, c: float) -> tuple[Weights, Weights]:
    """Multinomial logistic regression: the least of sum(weight * cross-entropy) + |w|^2 / (2 C), the bias free.

    Args:
        rows: Dense or sparse (n, d).
        labels: (n,).
        weights: (n,).

    Returns:
        Weights (d, n_labels) and bias (n_labels,).
    """
    from scipy.optimize import minimize  # loading a model goes without it

    n, width = rows.shape
    columns = rows.T.tocsr() if sparse.issparse(rows) else np.ascontiguousarray(rows.T)
    share = weights / weights.sum()
    strength = 1 / (c * weights.sum())

    def loss_and_gradient(flat: Weights) -> tuple[float, Weights]:
        w, bias = flat[:-n_labels].reshape(width, n_labels), flat[-n_labels:]
        logits = rows @ w + bias
        logits -= logits.max(axis=1, keepdims=True)
        own = logits[np.arange(n), labels]
        np.exp(logits, out=logits)
        sums = logits.sum(axis=1)
        loss = -(share * (own - np.log(sums))).sum() + strength / 2 * np.vdot(w, w)
        logits /= sums[:, None]
        logits[np.arange(n), labels] -= 1
        logits *= share[:, None]
        return float(loss), np.concatenate([(columns @ logits + strength * w).ravel(), logits.sum(axis=0)])

    start = np.zeros((width + 1) * n_labels)
    options = {"maxiter": 500, "ftol": 1e-8, "gtol": 1e-6}
    solved = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
    return solved[:-n_labels].reshape(width, n_labels), solved[-n_labels:]
