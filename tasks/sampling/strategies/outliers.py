"""Strategies that ask what is unlike everything in the training items."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

from tasks.sampling.strategy import Floats, Picks, Pool, Positions, strategy, top

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
