"""Strategies that ask what is typical of the pool and not yet of the training items.

A text without known tokens has no cosine: it comes last, with score -inf.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tasks.learning.vectors import Matrix, Vectors, unit
from tasks.sampling.strategy import Floats, Picks, Pool, strategy, top, top_picks

_MUNRO = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 4"


@strategy(needs=["training items"], substitute="cluster", cost="O(n)", source=_MUNRO)
def representative(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """How much more typical an item is of the pool than of the training items: difference of its cosines to the two.

    cos(item, centroid of the pool) - cos(item, centroid of the training items), -2 to 2, over the whole pool.
    A centroid is the mean of unit vectors, so that long texts do not weigh more.
    """
    to_pool, to_training, _ = _cosines(pool)
    picks = top_picks(to_pool - to_training, n, generator)
    return picks._replace(details=_told(to_pool[picks.positions], to_training[picks.positions]))


@strategy(
    needs=["training items"], substitute="cluster", adaptive=True, cost="O(n + picks x candidates)", source=_MUNRO
)
def adaptive_representative(pool: Pool, n: int, generator: np.random.Generator, *, candidates: int = 10_000) -> Picks:
    """`representative`, one at a time: each pick joins the training items, so the next one is something else.

    The score is the one at the time of the pick, so it may rise.

    Args:
        candidates: Items, those of the highest `representative` score before the first pick, that it chooses among
            once the whole pool is scored; never fewer than n.
    """
    to_pool, to_training, trained = _cosines(pool)
    chosen = top(to_pool - to_training, min(len(pool), max(n, candidates)), generator)
    vectors, to_pool = pool.vectors.take(chosen).kept(), to_pool[chosen]
    left = np.isfinite(to_pool)
    picks: list[int] = []
    at_the_time: list[float] = []
    while len(picks) < n and left.any():
        cosines = vectors.products(unit(trained))[:, 0]
        pick = int(np.where(left, to_pool - cosines, -np.inf).argmax())
        picks.append(pick)
        at_the_time.append(float(cosines[pick]))
        left[pick] = False
        trained = trained + vectors.rows(np.array([pick]))
    picks += np.flatnonzero(~np.isfinite(to_pool))[: n - len(picks)].tolist()
    at_the_time += [0.0] * (n - len(at_the_time))
    return Picks(chosen[picks], to_pool[picks] - np.array(at_the_time), _told(to_pool[picks], at_the_time))


def _cosines(pool: Pool) -> tuple[Floats, Floats, Matrix]:
    """Of each item to the centroids of the pool, -inf without known tokens, and of training; the sum of training."""
    trained = _sum(pool.vectors.of(pool.training.tokens))
    to_pool, to_training = pool.vectors.products(unit(np.concatenate([_sum(pool.vectors), trained]))).T
    return (
        np.where(pool.vectors.squared_norms > 0, to_pool, -np.inf).astype(np.float64),
        to_training.astype(np.float64),
        trained,
    )


def _sum(vectors: Vectors) -> Matrix:
    """Sum of all vectors, (1, width)."""
    return vectors.sums(np.zeros(len(vectors), np.int64), 1)


def _told(to_pool: Iterable[float], to_training: Iterable[float]) -> list[str]:
    return [
        f"cosine {mean:.2f} to the pool, {trained:.2f} to the training items"
        if np.isfinite(mean)
        else "has no known token, so it is like nothing"
        for mean, trained in zip(to_pool, to_training, strict=True)
    ]
