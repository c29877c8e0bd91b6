"""Training on feature families: the mix, the regularization and the calibration follow from the labeled items.

The problem is convex: multinomial logistic regression on all families at once. With few items it is solved in the space
of the items (their kernel's Cholesky factor), with many in that of the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
MOST_TO_CROSS_VALIDATE = 20_000
"""Labeled items; of more, so many are drawn to choose C by, and all are held out in two folds."""

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
    if len(labels) > MOST_TO_CROSS_VALIDATE:
        return _fit_many(problem, c, generator)
    folds = stratified_folds(labels, N_FOLDS, generator)
    by_c = {each: _held_out(problem, folds, each) for each in ((USUAL_C, *OTHER_CS) if c is None else (c,))}
    best = _best_c(by_c, labels) if c is None else c
    return Fitted(problem.family_weights(best), by_c[best].astype(np.float32))


def _fit_many(problem: _Problem, c: float | None, generator: np.random.Generator) -> Fitted:
    """As `fit_families`: C is chosen on a sample, the items are held out in two folds, the last fit starts there."""
    labels = problem.labels
    if c is None:
        sample = problem.take(_some(labels, MOST_TO_CROSS_VALIDATE, generator))
        folds = stratified_folds(sample.labels, N_FOLDS, generator)
        c = _best_c({each: _held_out(sample, folds, each) for each in (USUAL_C, *OTHER_CS)}, sample.labels)
    folds = stratified_folds(labels, 2, generator)
    logits = np.zeros((len(labels), problem.n_labels), np.float32)
    halves = [problem.in_features(np.flatnonzero(folds != fold), c) for fold in range(2)]
    for fold, half in enumerate(halves):
        logits[folds == fold] = problem.logits(half, np.flatnonzero(folds == fold))
    return Fitted(problem.in_features(np.arange(len(labels)), c, near=halves), logits)


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
    keeps_dense: bool = False  # many items: products with dense columns as they are cost a fifth, and less memory

    def take(self, positions: npt.NDArray[np.int64]) -> _Problem:
        """The same problem of the texts at `positions`."""
        texts, labels, weights = self.texts.take(positions), self.labels[positions], self.weights[positions]
        return replace(_problem(texts, self.mix, labels, self.n_labels, weights), keeps_dense=self.keeps_dense)

    def held_out(self, train: npt.NDArray[np.int64], test: npt.NDArray[np.int64], c: float) -> Kernel:
        """Logits of the texts at `test` by a classifier trained on those at `train`."""
        if self.held_out_kernel is not None:
            coefficients, bias = self._in_kernel(train, c)
            return np.asarray(self.held_out_kernel[np.ix_(test, train)] @ coefficients + bias)
        return self.logits(self.in_features(train, c), test)

    def logits(self, trained: FamilyWeights, test: npt.NDArray[np.int64]) -> Kernel:
        """Logits of the texts at `test`, which a classifier was not trained on."""
        logits = np.tile(trained.bias, (len(test), 1))
        for name, weights in trained.weights.items():
            factor = self.texts.unseen[name][test, None] if name in self.texts.unseen else 1.0
            logits += factor * (self.texts.rows[name][test] @ weights)
        return logits

    def family_weights(self, c: float) -> FamilyWeights:
        """The classifier trained on all texts."""
        every = np.arange(len(self.labels))
        if self.kernel is None:
            return self.in_features(every, c)
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

    def in_features(self, train: npt.NDArray[np.int64], c: float, near: Sequence[FamilyWeights] = ()) -> FamilyWeights:
        """A classifier trained on the texts at `train`; the search for it starts at the mean of those `near`."""
        blocks, columns = [], []
        most = MOST_WEIGHTS // self.n_labels
        for name, share in self.mix.items():
            rows = self.texts.rows[name][train]
            if self.keeps_dense and not sparse.issparse(rows):
                kept = np.arange(rows.shape[1])
            else:
                rows = sparse.csr_matrix(rows)
                occurs = np.bincount(rows.indices, minlength=rows.shape[1])
                kept = np.sort(np.argsort(-occurs, kind="stable")[: min(most, np.count_nonzero(occurs))])
                rows = rows[:, kept]
            blocks.append(np.sqrt(share) * rows)
            columns.append(kept)
        start = None
        if near:
            scaled = zip(self.mix.items(), columns, strict=True)
            sums = [np.add.reduce([one.weights[name][kept] for one in near]) / np.sqrt(s) for (name, s), kept in scaled]
            start = np.concatenate([*sums, [np.add.reduce([one.bias for one in near])]]) / len(near)
        rows = Blocks(blocks) if self.keeps_dense else sparse.hstack(blocks).tocsr()
        solved, bias = fit_softmax(rows, self.labels[train], self.n_labels, self.weights[train], c, start)
        weights: dict[Family, Any] = {}
        ends = np.cumsum([len(kept) for kept in columns])
        for (name, share), kept, end in zip(self.mix.items(), columns, ends, strict=True):
            weights[name] = np.zeros((self.texts.rows[name].shape[1], self.n_labels))
            weights[name][kept] = np.sqrt(share) * solved[end - len(kept) : end]
        return FamilyWeights(self.mix, weights, bias, c)


@dataclass(frozen=True)
class Blocks:
    """A matrix (n, d) whose columns stand in several, dense and sparse."""

    blocks: Sequence[Any]

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.blocks[0].shape[0], sum(block.shape[1] for block in self.blocks)

    def __matmul__(self, weights: Weights) -> Weights:
        """Product (n, k) with weights (d, k)."""
        ends = np.cumsum([block.shape[1] for block in self.blocks])
        parts = np.split(weights, ends[:-1])
        return np.asarray(sum(block @ part for block, part in zip(self.blocks, parts, strict=True)))

    def transposed_product(self, values: Weights) -> Weights:
        """Product (d, k) of the transpose with values (n, k)."""
        return np.concatenate([block.T @ values for block in self.blocks])


def _problem(texts: Design, mix: Mix, labels: Labels, n_labels: int, weights: Weights) -> _Problem:
    if len(labels) > MOST_IN_KERNEL:
        many = len(labels) > MOST_TO_CROSS_VALIDATE
        return _Problem(texts, mix, labels, n_labels, weights, None, None, keeps_dense=many)
    kernels = Design({name: texts.rows[name] for name in mix}, {}).kernels()
    return _Problem(texts, mix, labels, n_labels, weights, mixed(kernels, mix), mixed(kernels, mix, texts.unseen))


def _held_out(problem: _Problem, folds: Labels, c: float) -> Kernel:
    """Logits (n, n_labels) of all items, each by a classifier trained on the other folds."""
    logits = np.zeros((len(folds), problem.n_labels))
    for fold in np.unique(folds):
        test = np.flatnonzero(folds == fold)
        logits[test] = problem.held_out(np.flatnonzero(folds != fold), test, c)
    return logits


def fit_softmax(
    rows: Any, labels: Labels, n_labels: int, weights: Weights, c: float, start: Weights | None = None
) -> tuple[Weights, Weights]:
    """Multinomial logistic regression: the least of sum(weight * cross-entropy) + |w|^2 / (2 C), the bias free.

    Args:
        rows: Dense or sparse (n, d), or blocks of these.
        labels: (n,).
        weights: (n,).
        start: Weights, and the bias as the last row, to begin with, (d + 1, n_labels); 0 where None.

    Returns:
        Weights (d, n_labels) and bias (n_labels,).
    """
    from scipy.optimize import minimize  # loading a model goes without it

    n, width = rows.shape
    transposed_product: Callable[[Weights], Weights]
    if isinstance(rows, Blocks):
        transposed_product = rows.transposed_product
    else:
        columns = rows.T.tocsr() if sparse.issparse(rows) else np.ascontiguousarray(rows.T)
        transposed_product = columns.__matmul__
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
        return float(loss), np.concatenate([(transposed_product(logits) + strength * w).ravel(), logits.sum(axis=0)])

    first = np.zeros((width + 1) * n_labels) if start is None else start.ravel()
    options = {"maxiter": 500, "ftol": 1e-8, "gtol": 1e-6}
    solved = minimize(loss_and_gradient, first, jac=True, method="L-BFGS-B", options=options).x
    return solved[:-n_labels].reshape(width, n_labels), solved[-n_labels:]
