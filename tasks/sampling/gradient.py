"""Strategies that ask what would change the model: by the gradient that an item's label would bring."""

from __future__ import annotations

import numpy as np

from tasks.learning.vectors import Vectors
from tasks.sampling.strategy import Floats, Picks, Pool, Positions, drawn, strategy, top

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
