"""Strategies that query items unlike the training items, with low activation, or typical only of the pool.

A text without known tokens has no cosine: it comes last, with score -inf.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from tasks.learning.vectors import Matrix, Vectors, unit
from tasks.sampling.strategies.uncertainty import uncertainty
from tasks.sampling.strategy import Floats, Picks, Pool, Positions, strategy, top, top_picks

MIN_CANDIDATES = 1000


@strategy(
    cost="O(n + tokens of the pool), a few times", source="Munro (2021), Human-in-the-Loop Machine Learning, ch. 2"
)
def outlier(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Novelty: number of tokens of the item / (1 + occurrences of these tokens in the training items).

    Greedy: the tokens of each pick are added to the counts before the next one, so that near-copies are not both
    picked. Counts only grow and scores only fall, so that an item whose current score exceeds all older scores is the
    best, and few scores have to be updated.

    Differs from the source: the score is the inverse of its (1 + occurrences) / words, so that higher = query first;
    features are the encoder's tokens. An item without tokens has score 1.
    """
    counts = pool.token_counts.copy()
    positions: list[int] = []
    picked_scores: list[float] = []
    while len(positions) < n:
        scores = novelty(pool, counts)
        scores[positions] = -np.inf
        remaining = len(pool) - len(positions)
        candidates = top(scores, min(remaining, max(MIN_CANDIDATES, 10 * n)), generator)
        ceiling_of_others = scores[candidates[-1]] if len(candidates) < remaining else -np.inf
        for position, score in _greedy(pool, counts, candidates, scores[candidates], ceiling_of_others):
            positions.append(position)
            picked_scores.append(score)
            if len(positions) == n:
                break
    texts = pool.tokens.take(np.array(positions, np.int64))
    n_seen = texts.sums((pool.token_counts > 0).astype(np.float64)).astype(np.int64)
    details = [
        f"{total - seen} of {total} tokens are in no training item"
        for total, seen in zip(texts.lengths, n_seen, strict=True)
    ]
    return Picks(np.array(positions, np.int64), np.array(picked_scores), details)


def novelty(pool: Pool, counts: Floats) -> Floats:
    """Return the number of tokens of each item / (1 + sum of their counts), (n,), for token counts (n_tokens,)."""
    return np.maximum(pool.tokens.lengths, 1) / (1 + pool.tokens.sums(counts))


def _greedy(
    pool: Pool, counts: Floats, candidates: Positions, scores: Floats, ceiling_of_others: float
) -> Iterator[tuple[int, float]]:
    """Yield candidates in greedy order with their current scores; stop if an item outside them may be better.

    The tokens of each yielded candidate are added to `counts`.
    """
    texts = pool.tokens.take(candidates)
    heap = [(-score, rank) for rank, score in enumerate(scores)]
    while heap:
        stale, rank = heap[0]
        ids = texts.ids[texts.offsets[rank] : texts.offsets[rank + 1]]
        current = max(len(ids), 1) / (1 + counts[ids].sum())
        if current < -stale:
            heapq.heapreplace(heap, (-current, rank))
        elif current < ceiling_of_others:
            return
        else:
            heapq.heappop(heap)
            np.add.at(counts, ids, 1)
            yield int(candidates[rank]), float(current)


_MUNRO = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 4"


@strategy(
    needs=["model", "validation items", "logits that can all be low"],
    substitute="outlier",
    cost="O(n n_labels log(validation items))",
    source=_MUNRO,
)
def model_outlier(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Low activation: 1 - mean over labels of the percentile, 0 to 1, of the item's logit among validation items.

    The percentile of a validation item's logit is the fraction of validation items below it + half of those equal to
    it; between two such logits it is interpolated linearly, below all of them it is 0 and above all of them 1. An item
    whose logits are not all finite has score -inf.

    For two labels with opposite logits, such as those of a linear head with L2, the two percentiles add up to 1 and
    every score is 0.5; in this case `outlier` is used instead. More labels or a hidden layer avoid this.

    Differs from the source: there the k-th of m validation logits has percentile k / m, from k = 0, and the last 1.
    """
    percentiles = logit_percentiles(pool.logits, pool.validation.logits)
    scores = 1 - percentiles.mean(axis=1)
    positions = top(scores, n, generator)
    highest = scores[positions]
    return Picks(positions, np.where(np.isnan(highest), -np.inf, highest), _describe(percentiles[positions]))


@strategy(
    needs=["model", "validation items", "logits that can all be low"],
    substitute="least_confidence",
    cost="O(n + share n n_labels log(validation items))",
    source=_MUNRO,
)
def uncertain_model_outlier(pool: Pool, n: int, generator: np.random.Generator, *, share: float = 0.1) -> Picks:
    """`model_outlier` on the most uncertain 10% of the pool (least confidence).

    Uncertainty finds the items near the decision boundary, low activation those of them unlike the validation items.

    Args:
        share: Fraction of the pool, 0 to 1, that counts as most uncertain; at least n items.
    """
    size = min(len(pool), max(n, round(share * len(pool))))
    uncertain = np.sort(top(uncertainty(pool), size, generator))
    among = model_outlier(pool.take(uncertain), n, generator)
    return among._replace(positions=uncertain[among.positions])


def logit_percentiles(logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> Floats:
    """Return the percentiles, 0 to 1, of logits (n, n_labels) among those of reference items (m, n_labels), by label.

    A row with a logit that is not finite is NaN; so is a label without finite reference logits.

    >>> reference = np.array([[0.0], [1.0], [1.0], [3.0]], np.float32)
    >>> logit_percentiles(np.array([[-1.0], [0.0], [1.0], [2.0], [4.0]], np.float32), reference).ravel().tolist()
    [0.0, 0.125, 0.5, 0.6875, 1.0]
    """
    percentiles = np.full(logits.shape, np.nan)
    for label in range(logits.shape[1]):
        finite = reference[:, label]
        finite = finite[np.isfinite(finite)]
        if len(finite):
            values, counts = np.unique(finite, return_counts=True)
            middles = (np.cumsum(counts) - counts / 2) / len(finite)
            percentiles[:, label] = np.interp(logits[:, label], values, middles, left=0, right=1)
    percentiles[~np.isfinite(logits).all(axis=1)] = np.nan
    return percentiles


def _describe(percentiles: Floats) -> Sequence[str]:
    return [
        "its logits are not finite"
        if np.isnan(row).any()
        else f"none of its logits ranks above {row.max():.0%} of the validation items'"
        for row in percentiles
    ]


@strategy(needs=["training items"], substitute="cluster", cost="O(n)", source=_MUNRO)
def representative(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Items more typical of the pool than of the training items: difference of the cosines to the two centroids.

    The score is cos(item, centroid of the pool) - cos(item, centroid of the training items), -2 to 2, for the whole
    pool. A centroid is the mean of unit vectors, so that long texts do not have a higher weight.
    """
    to_pool, to_training, _ = _cosines(pool)
    picks = top_picks(to_pool - to_training, n, generator)
    return picks._replace(details=_cosine_details(to_pool[picks.positions], to_training[picks.positions]))


@strategy(
    needs=["training items"], substitute="cluster", adaptive=True, cost="O(n + picks x candidates)", source=_MUNRO
)
def adaptive_representative(pool: Pool, n: int, generator: np.random.Generator, *, candidates: int = 10_000) -> Picks:
    """Adaptive `representative`: each pick is added to the training items, so that the next one is different.

    The score is that at the time of the pick, so it may rise.

    Args:
        candidates: Number of items that are considered after the whole pool is scored, those with the highest
            `representative` score; at least n.
    """
    to_pool, to_training, trained = _cosines(pool)
    chosen = top(to_pool - to_training, min(len(pool), max(n, candidates)), generator)
    vectors, to_pool = pool.vectors.take(chosen).kept(), to_pool[chosen]
    remaining = np.isfinite(to_pool)
    picks: list[int] = []
    to_trained: list[float] = []  # at the time of each pick
    while len(picks) < n and remaining.any():
        cosines = vectors.products(unit(trained))[:, 0]
        pick = int(np.where(remaining, to_pool - cosines, -np.inf).argmax())
        picks.append(pick)
        to_trained.append(float(cosines[pick]))
        remaining[pick] = False
        trained = trained + vectors.rows(np.array([pick]))
    picks += np.flatnonzero(~np.isfinite(to_pool))[: n - len(picks)].tolist()
    to_trained += [0.0] * (n - len(to_trained))
    return Picks(chosen[picks], to_pool[picks] - np.array(to_trained), _cosine_details(to_pool[picks], to_trained))


def _cosines(pool: Pool) -> tuple[Floats, Floats, Matrix]:
    """Return each item's cosine to the centroids of pool (-inf without tokens) and training, and training's sum."""
    trained = _sum(pool.vectors.of(pool.training.tokens))
    to_pool, to_training = pool.vectors.products(unit(np.concatenate([_sum(pool.vectors), trained]))).T
    return (
        np.where(pool.vectors.squared_norms > 0, to_pool, -np.inf).astype(np.float64),
        to_training.astype(np.float64),
        trained,
    )


def _sum(vectors: Vectors) -> Matrix:
    """Return the sum of all vectors, (1, width)."""
    return vectors.sums(np.zeros(len(vectors), np.int64), 1)


def _cosine_details(to_pool: Iterable[float], to_training: Iterable[float]) -> list[str]:
    return [
        f"cosine {mean:.2f} to the pool, {trained:.2f} to the training items"
        if np.isfinite(mean)
        else "has no known token, so it has no cosine"
        for mean, trained in zip(to_pool, to_training, strict=True)
    ]
