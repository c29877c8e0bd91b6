"""Strategies that query what would change the model: transfer layers on its hidden layer, and gradients.

A transfer strategy puts a new two-way layer (right or wrong, known or new) on the hidden layer. Both kinds of item
weigh the same in it, so 0.5 is the even bet however rare one kind is. The layer is learned on dense rows of the
labelled items; of the pool only products with its weights are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.learning.vectors import Matrix, Vectors
from tasks.sampling.strategy import Floats, Picks, Pool, Positions, drawn, strategy, top

_MUNRO = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 5"


@strategy(
    needs=["model", "right and wrong validation items"],
    substitute="least_confidence",
    cost="O(n + validation items x width)",
    source=_MUNRO,
)
def transfer_uncertainty(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Most likely wrong, as a new layer learned it from the validation items that the model gets right and wrong.

    The score is that layer's probability, 0 to 1, that the model's most probable label is not the item's.

    Differs from the source: all validation items are learned from, to the optimum and with L2, not 100 of each kind
    for 10 epochs; and its code sorts by how likely the model is right.
    """
    hidden, rows, wrong = _validated(pool)
    return _most_likely(fit_logistic(rows, wrong), hidden, n, generator, "likely wrong")


@strategy(
    needs=["model", "training items"],
    substitute="representative",
    cost="O(n + (training items + candidates) x width)",
    source=_MUNRO,
)
def transfer_representative(pool: Pool, n: int, generator: np.random.Generator, *, candidates: int = 2000) -> Picks:
    """Most like the pool and least like the training items, as a new layer learned to tell the two apart.

    The score is that layer's probability, 0 to 1, that the item is of the pool. The whole pool is scored.

    Args:
        candidates: Items, drawn uniformly, that stand for the pool where the layer is learned; at least 1.

    Differs from the source: both sides weigh the same, whatever their sizes.
    """
    hidden = _hidden(pool)
    among = drawn(np.arange(len(pool)), max(1, candidates), generator)
    known = _all_rows(hidden.of(pool.training.tokens))
    of_pool = np.arange(len(known) + len(among)) >= len(known)
    layer = fit_logistic(np.concatenate([known, hidden.rows(among)]), of_pool)
    return _most_likely(layer, hidden, n, generator, "of the pool rather than of training")


@strategy(
    needs=["model", "right and wrong validation items"],
    substitute="least_confidence",
    adaptive=True,
    cost="O(n + picks x (candidates + vocabulary x width))",
    source="Munro (2021), Human-in-the-Loop Machine Learning, ch. 5 (ATLAS)",
)
def atlas(pool: Pool, n: int, generator: np.random.Generator, *, step: int = 10, candidates: int = 10_000) -> Picks:
    """`transfer_uncertainty` that expects its picks to be learned: they join as 'will be right', and it learns anew.

    The score, 0 to 1, is the layer's probability of wrong x (1 - c^2), where c is the largest cosine, at least 0, of
    the text to those picked before: what is like a text that will be known will be known too. c counts after every
    pick, so near-copies are not both picked while anything else has a chance to be wrong; two texts without known
    tokens are copies.

    Args:
        step: After how many picks the layer is fitted again; at least 1.
        candidates: Items, the most likely wrong before the first pick, that it chooses among once the whole pool is
            scored; never fewer than n.

    Differs from the source: c, without which one pick among many wrong items of its kind changes next to nothing, and
    all of a step are near-copies; and, as in `transfer_uncertainty`, what is most likely wrong is picked.
    """
    hidden, rows, wrong = _validated(pool)
    at_first = fit_logistic(rows, wrong).logits(hidden)
    chosen = top(at_first, min(len(pool), max(n, candidates)), generator)
    same, logits = hidden is pool.vectors, at_first[chosen]
    vectors = pool.vectors.take(chosen).kept()
    hidden = vectors if same else hidden.take(chosen).kept()
    cosines, left = np.zeros(len(chosen)), np.arange(len(chosen))
    picks: list[int] = []
    scores: list[float] = []
    details: list[str] = []
    for k in range(n):
        if k and k % max(1, step) == 0:
            known = np.concatenate([rows, hidden.rows(np.array(picks))])
            logits = fit_logistic(known, np.append(wrong, np.zeros(k, np.bool_))).logits(hidden)
        now = np.where(np.isfinite(logits[left]), sigmoid(logits[left]) * (1 - cosines[left] ** 2), -np.inf)
        first = int(now.argmax())
        pick = int(left[first])
        picks.append(pick)
        scores.append(now[first])
        details.append(f"likely wrong: {sigmoid(logits[pick]):.0%}; cosine to the picks before it: {cosines[pick]:.2f}")
        left = np.delete(left, first)
        cosines = np.maximum(cosines, _cosines_to(vectors, pick))
    return Picks(chosen[picks], np.array(scores), details)


def _hidden(pool: Pool) -> Vectors:
    assert pool.hidden is not None  # there is a model
    return pool.hidden


def _all_rows(vectors: Vectors) -> Matrix:
    return vectors.rows(np.arange(len(vectors)))


def _validated(pool: Pool) -> tuple[Vectors, Matrix, npt.NDArray[np.bool_]]:
    """The pool's hidden layer; that of the m validation items, (m, width); and whether the model gets each wrong."""
    hidden = _hidden(pool)
    wrong = pool.validation.logits.argmax(axis=1) != pool.validation.labels
    return hidden, _all_rows(hidden.of(pool.validation.tokens)), wrong


def _most_likely(layer: Logistic, hidden: Vectors, n: int, generator: np.random.Generator, what: str) -> Picks:
    logits = layer.logits(hidden)
    positions = top(logits, n, generator)
    found = logits[positions]
    details = [f"{what}: {p:.0%}" if np.isfinite(p) else "its representation is not finite" for p in sigmoid(found)]
    return Picks(positions, np.where(np.isfinite(found), sigmoid(found), -np.inf), details)


def _cosines_to(vectors: Vectors, pick: int) -> Floats:
    """Of n texts to one of them, (n,), at least 0; texts without known tokens have cosine 1 to each other."""
    empty = vectors.squared_norms == 0
    products = empty if empty[pick] else vectors.products(vectors.rows(np.array([pick])))[:, 0]
    cosines: Floats = np.clip(products.astype(np.float64), 0, 1)
    return cosines


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


COPY = 1e-5
"""A squared distance below this part of the two squared lengths is rounding, and counts as 0."""


@strategy(
    needs=["model"],
    substitute="random",
    adaptive=True,
    cost="O(candidates n_picks)",
    source="Ash et al. (2020), Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
)
def badge(pool: Pool, n: int, generator: np.random.Generator, *, candidates: int = 100_000) -> Picks:
    """Spread over the gradients that items would bring if predicted right, (p - onehot) x representation, by k-means++.

    A gradient is long where the model is unsure. The longest is picked first, then each item is drawn in proportion to
    the squared distance of its gradient to the nearest one picked: uncertain and diverse, with no number to weigh the
    two. That distance is the score, in the first pick the squared length. Where no distance is left (copies of what
    is picked) the longest of the rest follow with score 0.

    `candidates` are drawn uniformly from the pool, at least as many as are asked for. Gradients (n_labels * width,)
    are never made: the product of two is (a_i . a_j) (h_i . h_j), with a = p - onehot and h the representation. What h
    is for the candidates is computed once and kept: 100 MB for 100,000 of 256 dimensions.

    Differs from the source: probabilities are the calibrated ones, and only candidates are looked at.
    """
    assert pool.hidden is not None
    among = drawn(np.arange(len(pool)), max(candidates, n), generator)
    hidden = pool.hidden.take(among).kept()
    probabilities = pool.probabilities[among].astype(np.float64)
    sound = pool.sound[among]
    errors = np.where(sound[:, None], probabilities, 0)
    errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
    squares = np.where(sound, np.square(errors).sum(axis=1) * hidden.squared_norms, -np.inf)
    picks, scores = _spread(errors, hidden, squares, n, generator)
    others = np.setdiff1d(np.arange(len(among)), picks)
    others = others[top(squares[others], n - len(picks), generator)]
    positions = np.concatenate([picks, others])
    details = [f"gradient of length {length:.3f}" for length in np.sqrt(np.maximum(squares[positions], 0))]
    return Picks(among[positions], np.concatenate([scores, np.where(sound[others], 0, -np.inf)]), details)


def _spread(
    errors: Floats, hidden: Vectors, squares: Floats, n: int, generator: np.random.Generator
) -> tuple[Positions, Floats]:
    """k-means++ from the longest of the gradients errors (x) hidden: at most n of them, and what each was drawn by.

    Args:
        squares: Squared lengths of the gradients; -inf for what is not to be drawn.
    """
    picks = [int(top(squares, 1, generator)[0])]
    scores = [float(squares[picks[0]])]
    nearest = np.full(len(squares), np.inf)
    while len(picks) < n:
        products = (errors @ errors[picks[-1]]) * hidden.products(hidden.rows(np.array(picks[-1:])))[:, 0]
        nearest = np.minimum(nearest, _squared_distances(products, squares, picks[-1]))
        running = np.cumsum(nearest)
        if not running[-1] > 0:
            break
        drawn = np.searchsorted(running, generator.random() * running[-1], side="right")
        picks.append(min(int(drawn), int(np.flatnonzero(nearest)[-1])))
        scores.append(float(nearest[picks[-1]]))
    return np.array(picks, np.int64), np.array(scores)


def _squared_distances(products: Floats, squares: Floats, pick: int) -> Floats:
    """Of each gradient to that of the pick, (n,); 0 for the pick, its copies and what is not to be drawn."""
    both = squares + squares[pick]
    distances: Floats = np.maximum(both - 2 * products, 0)
    distances[distances <= COPY * both] = 0
    distances[pick] = 0
    return distances
