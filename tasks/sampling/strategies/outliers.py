"""Strategies that query what is unlike the training items, quiet in the model, or typical of the pool only.

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
    """Novel features: tokens of the item / (1 + occurrences of its tokens in the training items).

    Greedy: each pick's tokens join the counts before the next one is chosen, so near-copies are not both picked.
    Counts only grow, so a score only falls: what leads with a fresh score has won, and few scores need be fresh.

    Differs from the source: the score is the inverse of its (1 + occurrences) / words, so that higher = ask first;
    features are the encoder's tokens. An item without tokens has score 1.
    """
    counts = pool.token_counts.copy()
    positions: list[int] = []
    found: list[float] = []
    while len(positions) < n:
        scores = novelty(pool, counts)
        scores[positions] = -np.inf
        left = len(pool) - len(positions)
        candidates = top(scores, min(left, max(MIN_CANDIDATES, 10 * n)), generator)
        ceiling_of_others = scores[candidates[-1]] if len(candidates) < left else -np.inf
        for position, score in _greedy(pool, counts, candidates, scores[candidates], ceiling_of_others):
            positions.append(position)
            found.append(score)
            if len(positions) == n:
                break
    picked = pool.tokens.take(np.array(positions, np.int64))
    seen = picked.sums((pool.token_counts > 0).astype(np.float64)).astype(np.int64)
    details = [
        f"{total - known} of {total} tokens are in no training item"
        for total, known in zip(picked.lengths, seen, strict=True)
    ]
    return Picks(np.array(positions, np.int64), np.array(found), details)


def novelty(pool: Pool, counts: Floats) -> Floats:
    """Tokens of each item / (1 + sum of their counts), (n,), for token counts (n_tokens,)."""
    return np.maximum(pool.tokens.lengths, 1) / (1 + pool.tokens.sums(counts))


def _greedy(
    pool: Pool, counts: Floats, candidates: Positions, scores: Floats, ceiling_of_others: float
) -> Iterator[tuple[int, float]]:
    """Candidates in greedy order with their fresh scores; ends where one that is no candidate may lead.

    `counts` grow by the tokens of each one given out.
    """
    texts = pool.tokens.take(candidates)
    heap = [(-score, rank) for rank, score in enumerate(scores)]
    while heap:
        stale, rank = heap[0]
        ids = texts.ids[texts.offsets[rank] : texts.offsets[rank + 1]]
        fresh = max(len(ids), 1) / (1 + counts[ids].sum())
        if fresh < -stale:
            heapq.heapreplace(heap, (-fresh, rank))
        elif fresh < ceiling_of_others:
            return
        else:
            heapq.heappop(heap)
            np.add.at(counts, ids, 1)
            yield int(candidates[rank]), float(fresh)


_MUNRO = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 4"


@strategy(
    needs=["model", "validation items", "logits that can all be low"],
    substitute="outlier",
    cost="O(n n_labels log(validation items))",
    source=_MUNRO,
)
def model_outlier(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Low activation: 1 - mean over labels of the percentile, 0 to 1, of the item's logit among validation items.

    The percentile of a logit that a validation item has is the share of validation items below + half of those level
    with it; between two such logits it runs straight; below all of them it is 0, above all of them 1. An item whose
    logits are not all finite has score -inf.

    Where there are two labels and their logits are each other's opposite, as those of a linear head under L2 are, the
    two percentiles add up to 1 and every score is 0.5: there `outlier` stands in. More labels or a hidden layer do.

    Differs from the source: there the k-th of m validation logits has percentile k / m, from k = 0, but the last 1.
    """
    percentiles = logit_percentiles(pool.logits, pool.validation.logits)
    scores = 1 - percentiles.mean(axis=1)
    positions = top(scores, n, generator)
    found = scores[positions]
    return Picks(positions, np.where(np.isnan(found), -np.inf, found), _in_words(percentiles[positions]))


@strategy(
    needs=["model", "validation items", "logits that can all be low"],
    substitute="least_confidence",
    cost="O(n + share n n_labels log(validation items))",
    source=_MUNRO,
)
def uncertain_model_outlier(pool: Pool, n: int, generator: np.random.Generator, *, share: float = 0.1) -> Picks:
    """Of the most uncertain 10 % of the pool (least confidence), those that `model_outlier` asks first.

    Uncertainty says where the model wavers, low activation which of those are unlike what it was checked on.

    Args:
        share: Part of the pool, 0 to 1, that counts as most uncertain; never fewer than n items.
    """
    size = min(len(pool), max(n, round(share * len(pool))))
    uncertain = np.sort(top(uncertainty(pool), size, generator))
    among = model_outlier(pool.take(uncertain), n, generator)
    return among._replace(positions=uncertain[among.positions])


def logit_percentiles(logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> Floats:
    """Percentiles, 0 to 1, of logits (n, n_labels) among those of reference items (m, n_labels), label by label.

    NaN in a row where a logit is not finite, and where no reference is.

    >>> reference = np.array([[0.0], [1.0], [1.0], [3.0]], np.float32)
    >>> logit_percentiles(np.array([[-1.0], [0.0], [1.0], [2.0], [4.0]], np.float32), reference).ravel().tolist()
    [0.0, 0.125, 0.5, 0.6875, 1.0]
    """
    found = np.full(logits.shape, np.nan)
    for label in range(logits.shape[1]):
        known = reference[:, label]
        known = known[np.isfinite(known)]
        if len(known):
            values, counts = np.unique(known, return_counts=True)
            middles = (np.cumsum(counts) - counts / 2) / len(known)
            found[:, label] = np.interp(logits[:, label], values, middles, left=0, right=1)
    found[~np.isfinite(logits).all(axis=1)] = np.nan
    return found


def _in_words(percentiles: Floats) -> Sequence[str]:
    return [
        "its logits are not finite"
        if np.isnan(row).any()
        else f"none of its logits ranks above {row.max():.0%} of the validation items'"
        for row in percentiles
    ]


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
