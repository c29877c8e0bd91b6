"""Strategies that query the items that would change the model: transfer layers on its hidden layer, and gradients.

A transfer strategy trains a new binary layer (right or wrong, training or pool) on the hidden layer. Both classes have
the same total weight, so that 0.5 is neutral however rare one of them is. The layer is trained on dense rows of labeled
items; for the pool only products with its weights are computed.
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
    """Items whose prediction is most likely wrong, by a new layer trained on right and wrong validation items.

    The score is the probability by that layer, 0 to 1, that the model's most probable label is wrong.

    Differs from the source: the layer is trained on all validation items, to the optimum and with L2, not on 100 of
    each class for 10 epochs; and the code of the source ranks by the probability of being right.
    """
    hidden, rows, wrong = _validation_rows(pool)
    return _most_likely(fit_logistic(rows, wrong), hidden, n, generator, "likely wrong")


@strategy(
    needs=["model", "training items"],
    substitute="representative",
    cost="O(n + (training items + candidates) x width)",
    source=_MUNRO,
)
def transfer_representative(pool: Pool, n: int, generator: np.random.Generator, *, candidates: int = 2000) -> Picks:
    """Items most typical of the pool and least of the training items, by a new layer that separates the two.

    The score is the probability by that layer, 0 to 1, that the item is from the pool. The whole pool is scored.

    Args:
        candidates: Number of items, a uniform sample, that represent the pool in training the layer; at least 1.

    Differs from the source: both classes have the same total weight, whatever their sizes.
    """
    hidden = _hidden(pool)
    among = drawn(np.arange(len(pool)), max(1, candidates), generator)
    training_rows = _all_rows(hidden.of(pool.training.tokens))
    is_pool = np.arange(len(training_rows) + len(among)) >= len(training_rows)
    layer = fit_logistic(np.concatenate([training_rows, hidden.rows(among)]), is_pool)
    return _most_likely(layer, hidden, n, generator, "typical of the pool rather than of the training items")


@strategy(
    needs=["model", "right and wrong validation items"],
    substitute="least_confidence",
    adaptive=True,
    cost="O(n + picks x (candidates + vocabulary x width))",
    source="Munro (2021), Human-in-the-Loop Machine Learning, ch. 5 (ATLAS)",
)
def atlas(pool: Pool, n: int, generator: np.random.Generator, *, step: int = 10, candidates: int = 10_000) -> Picks:
    """Adaptive `transfer_uncertainty`: its picks are added as items that will be right, and the layer is retrained.

    The score, 0 to 1, is the probability by the layer that the item is wrong x (1 - c^2), where c is the largest
    cosine, at least 0, of the text to those picked before: a text similar to one that will be labeled will be right,
    too. c is updated after every pick, so that near-copies are not both picked while other items may be wrong; two
    texts without known tokens count as copies.

    Args:
        step: Number of picks after which the layer is retrained; at least 1.
        candidates: Number of items that are considered after the whole pool is scored, the most likely wrong; at
            least n.

    Differs from the source: the factor with c, without which a single pick among many similar wrong items hardly
    changes the layer, and all picks of a step are near-copies; and, as in `transfer_uncertainty`, the items most likely
    wrong are picked.
    """
    hidden, rows, wrong = _validation_rows(pool)
    initial = fit_logistic(rows, wrong).logits(hidden)
    chosen = top(initial, min(len(pool), max(n, candidates)), generator)
    same, logits = hidden is pool.vectors, initial[chosen]
    vectors = pool.vectors.take(chosen).kept()
    hidden = vectors if same else hidden.take(chosen).kept()
    cosines, remaining = np.zeros(len(chosen)), np.arange(len(chosen))
    picks: list[int] = []
    scores: list[float] = []
    details: list[str] = []
    for k in range(n):
        if k and k % max(1, step) == 0:
            extended = np.concatenate([rows, hidden.rows(np.array(picks))])
            logits = fit_logistic(extended, np.append(wrong, np.zeros(k, np.bool_))).logits(hidden)
        wrong_p = sigmoid(logits[remaining])
        current = np.where(np.isfinite(logits[remaining]), wrong_p * (1 - cosines[remaining] ** 2), -np.inf)
        best = int(current.argmax())
        pick = int(remaining[best])
        picks.append(pick)
        scores.append(current[best])
        details.append(f"likely wrong: {sigmoid(logits[pick]):.0%}; cosine to earlier picks: {cosines[pick]:.2f}")
        remaining = np.delete(remaining, best)
        cosines = np.maximum(cosines, _cosines_to(vectors, pick))
    return Picks(chosen[picks], np.array(scores), details)


def _hidden(pool: Pool) -> Vectors:
    assert pool.hidden is not None  # the strategy needs a model
    return pool.hidden


def _all_rows(vectors: Vectors) -> Matrix:
    return vectors.rows(np.arange(len(vectors)))


def _validation_rows(pool: Pool) -> tuple[Vectors, Matrix, npt.NDArray[np.bool_]]:
    """Return the hidden layer of the pool, that of the m validation items, (m, width), and which are wrong, (m,)."""
    hidden = _hidden(pool)
    wrong = pool.validation.logits.argmax(axis=1) != pool.validation.labels
    return hidden, _all_rows(hidden.of(pool.validation.tokens)), wrong


def _most_likely(layer: Logistic, hidden: Vectors, n: int, generator: np.random.Generator, prefix: str) -> Picks:
    logits = layer.logits(hidden)
    positions = top(logits, n, generator)
    scores = sigmoid(logits[positions])
    details = [f"{prefix}: {p:.0%}" if np.isfinite(p) else "its representation is not finite" for p in scores]
    return Picks(positions, np.where(np.isfinite(logits[positions]), scores, -np.inf), details)


def _cosines_to(vectors: Vectors, pick: int) -> Floats:
    """Return the cosines of n texts to one of them, (n,), at least 0; 1 between two texts without known tokens."""
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
        """Return the logits of n vectors, (n,); above 0 means yes."""
        products = vectors.products(self.weight[None].astype(np.float32))[:, 0]
        logits: Floats = products + np.float64(self.bias)
        return logits


def fit_logistic(rows: Matrix, yes: npt.NDArray[np.bool_], *, c: float = 1.0) -> Logistic:
    """Minimize |weight|^2 / 2 + c * sum of weighted log losses, with the same total weight for both classes.

    The weight of an item is m / (2 * size of its class); the bias is not regularized. Rows that are not finite are
    left out; if only one class remains, every probability is 0.5. Newton's method takes a third of the steps of L-BFGS
    and does not use a second thread pool, whose threads would compete with those of NumPy on busy cores.

    Args:
        rows: Vectors (m, width); two copies as float64 must fit into memory.
        yes: The class of each row, (m,).
        c: Inverse strength of the regularization.
    """
    from scipy.optimize import minimize  # imported late: takes a third of a second

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
    """Return 1 / (1 + exp(-logits)), without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    return 0.5 + 0.5 * np.tanh(logits / 2)


COPY = 1e-5
"""A squared distance below this fraction of the two squared lengths is rounding, and counts as 0."""


@strategy(
    needs=["model"],
    substitute="random",
    adaptive=True,
    cost="O(candidates n_picks)",
    source="Ash et al. (2020), Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
)
def badge(pool: Pool, n: int, generator: np.random.Generator, *, candidates: int = 100_000) -> Picks:
    """Diverse uncertain items: k-means++ on the gradients of the predicted labels, (p - onehot) x representation.

    A gradient is long where the model is uncertain. The longest is picked first, then each item is drawn in proportion
    to the squared distance of its gradient to the nearest picked one, so that no parameter has to balance uncertainty
    and diversity. This distance is the score; for the first pick it is the squared length. If all distances are 0
    (copies of picked items), the longest of the others follow with score 0.

    `candidates` is the size of a uniform sample of the pool, at least n. Gradients (n_labels * width,) are never
    computed: the product of two is (a_i . a_j) (h_i . h_j), with a = p - onehot and the representation h. The
    representations of the candidates are kept in memory: 100 MB for 100,000 of 256 dimensions.

    Differs from the source: probabilities are calibrated, and only candidates are considered.
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
    """Draw at most n gradients errors (x) hidden by k-means++, starting with the longest; return also their distances.

    Args:
        errors: p - onehot of each item, (m, n_labels).
        hidden: Representations of the m items.
        squares: Squared lengths of the gradients, (m,); -inf for items that must not be drawn.
        n: Maximum number of picks.
        generator: Random numbers.
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
    """Return the squared distances to the pick, (n,); 0 for the pick, its copies and items that must not be drawn."""
    both = squares + squares[pick]
    distances: Floats = np.maximum(both - 2 * products, 0)
    distances[distances <= COPY * both] = 0
    distances[pick] = 0
    return distances
