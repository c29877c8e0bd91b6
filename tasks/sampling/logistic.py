"""Logistic regression on few rows: the new two-way layer that transfer strategies put on a model's hidden layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.learning.vectors import Matrix, Vectors
from tasks.sampling.strategy import Floats


@dataclass(frozen=True)
class Logistic:
    """A fitted layer: the probability of yes is the sigmoid of `row @ weight + bias`.

    Attributes:
        weight: (width,).
        bias: One number.
    """

    weight: Floats
    bias: float

    def logits(self, vectors: Vectors) -> Floats:
        """Of n vectors, (n,): above 0 is rather yes than no."""
        products = vectors.products(self.weight[None].astype(np.float32))[:, 0]
        logits: Floats = products + np.float64(self.bias)
        return logits


def fit_logistic(rows: Matrix, yes: npt.NDArray[np.bool_], *, c: float = 1.0) -> Logistic:
    """The optimum of |weight|^2 / 2 + c * sum of weighted log losses, yes and no weighing the same in total.

    An item weighs m / (2 * number of its kind); the bias goes free. Rows that are not finite are left out; where not
    both kinds are left there is nothing to learn, and every probability is 0.5. By Newton's method: a third of the
    steps of L-BFGS, and none in a second thread pool, where on busy cores the threads of the two wait for each other.

    Args:
        rows: Vectors (m, width): as float64 they and a copy must fit into memory.
        yes: What each is, (m,).
        c: Inverse strength of the regularisation.
    """
    from scipy.optimize import minimize  # a third of a second that commands without sampling need not pay

    sound = np.isfinite(rows).all(axis=1)
    wide, yes = rows[sound].astype(np.float64), yes[sound]
    width, m = wide.shape[1], len(wide)
    if yes.all() or not yes.any():
        return Logistic(np.zeros(width), 0.0)
    signs = np.where(yes, 1.0, -1.0)
    shares = 0.5 / np.where(yes, yes.sum(), m - yes.sum())
    ridge = 1 / (c * m)

    def loss_and_gradient(layer: Floats) -> tuple[float, Floats]:
        weight, margins = layer[:-1], signs * (wide @ layer[:-1] + layer[-1])
        slopes = -shares * signs * sigmoid(-margins)
        loss = shares @ np.logaddexp(0, -margins) + ridge / 2 * (weight @ weight)
        return loss, np.append(slopes @ wide + ridge * weight, slopes.sum())

    def curvature_along(layer: Floats, step: Floats) -> Floats:
        p = sigmoid(wide @ layer[:-1] + layer[-1])
        bends = shares * p * (1 - p) * (wide @ step[:-1] + step[-1])
        return np.append(bends @ wide + ridge * step[:-1], bends.sum())

    layer = minimize(
        loss_and_gradient,
        np.zeros(width + 1),
        jac=True,
        hessp=curvature_along,
        method="Newton-CG",
        options={"xtol": 1e-7, "maxiter": 100},
    ).x
    return Logistic(layer[:-1], float(layer[-1]))


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-logits)), without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return 0.5 + 0.5 * np.tanh(logits / 2)
