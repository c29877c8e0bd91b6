"""Strategies that cover the texts of the pool, for a start without a model; training items count as covered.

A text without known tokens has no position among the others: it comes last, with score -inf.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from storage.errors import SamplingError
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import Matrix, Vectors, unit
from tasks.sampling.strategies.clusters import assign, spherical_kmeans
from tasks.sampling.strategy import Floats, Picks, Pool, Positions, drawn, strategy, top

LEADERS = 10_000
"""Farthest-first keeps exact distances for this many items, and upper bounds for the others."""

REFERENCES = 1_000
"""In a larger cluster, neighbors are searched among this many of its items."""

SMALL_CLUSTER = 5
FARTHEST = 2.0
NOWHERE = -1.0
ROUNDING = 1e-6
BLOCK = 64

Bits = npt.NDArray[np.uint8]


@strategy(cost="O(n), then O(10,000) per pick", source="Sener and Savarese (2018), Core-Set Approach")
def core_set(pool: Pool, n: int, generator: np.random.Generator, *, anchors: int = 1_000) -> Picks:
    """The item farthest from all labeled and picked items: 1 - its highest cosine with any of them.

    Greedy k-center over the whole pool. Euclidean distance gives the same ranking, as vectors have length 1. Without
    training items, the first pick is the item nearest to the mean of the pool, with the largest possible distance, 2.

    Args:
        anchors: If there are more training items, distances are computed to a uniform sample of this size.

    Differs from the source: only the greedy part, without the integer program that may drop outliers.
    """
    return _farthest_first(pool.vectors, _labelled(pool, anchors, generator), n, generator)


@strategy(adaptive=True, cost="O(candidates x clusters)", source="Hacohen et al. (2022), Active Learning on a Budget")
def typical_cluster(
    pool: Pool,
    n: int,
    generator: np.random.Generator,
    *,
    max_clusters: int = 200,
    neighbours: int = 20,
    candidates: int = 20_000,
) -> Picks:
    """The most typical item of each cluster: 1 / mean distance to its nearest neighbors in the cluster.

    There are as many clusters of candidates as training items and picks. The next pick is always from the cluster with
    the fewest labeled or picked items, and among those from the largest; clusters of up to 5 candidates come last.
    Distances are Euclidean. Items that are not candidates follow in random order, with score -inf.

    Args:
        max_clusters: Maximum number of clusters.
        neighbours: Number of nearest neighbors in the cluster (all others if there are fewer).
        candidates: Number of items of the pool that are considered, a uniform sample.

    Differs from the source: training items are assigned to the clusters, which are learned without them; there are at
    most 200 clusters, not 500; in a cluster of more than 1,000 candidates, neighbors are searched among 1,000 of them.
    """
    chosen = drawn(np.flatnonzero(pool.vectors.squared_norms > 0), candidates, generator)
    picks = Picks(chosen[:0], np.zeros(0))
    if len(chosen):
        vectors = pool.vectors.take(chosen).kept()
        labelled = _known(pool.vectors.of(pool.training.tokens))
        clusters = spherical_kmeans(vectors, max(1, min(len(labelled) + n, max_clusters)), generator)
        covered = np.bincount(assign(labelled, clusters.centroids)[0], minlength=len(clusters))
        picks = _cluster_by_cluster(vectors, clusters.labels, covered, min(n, len(chosen)), neighbours, generator)
    positions = chosen[picks.positions]
    rest = generator.choice(_others(len(pool), positions), n - len(positions), replace=False)
    return Picks(
        np.concatenate([positions, rest]),
        np.concatenate([picks.scores, np.full(len(rest), -np.inf)]),
        [*picks.details, *["drawn at random, as there are no more candidates"] * len(rest)],
    )


@strategy(cost="O(candidates^2)", source="Yehuda et al. (2022), Active Learning Through a Covering Lens")
def probability_cover(
    pool: Pool, n: int, generator: np.random.Generator, *, radius: float = 0.55, candidates: int = 10_000
) -> Picks:
    """The item that covers the most candidates that are not covered yet: the fraction of them within `radius` of it.

    Candidates within the radius of a training item are covered from the start. Once all are covered, the items farthest
    from all labeled and picked items follow, from the whole pool, with score 0. Memory: candidates^2 / 8 bytes.

    Args:
        radius: Cosine distance (1 - cosine), above 0 and below 1. The default suits the shipped sentence vectors: of
            74,400 headlines, 55% of those within 0.55 of a positive one are positive (8.5% of all are), and 100 picks
            cover 47% of 10,000. Word counts need a larger radius: texts within 0.55 of each other share many words.
        candidates: Number of items of the pool that are considered, a uniform sample.

    Differs from the source: the radius is an option, instead of being derived from the purity of clusters.

    Raises:
        SamplingError: The radius is out of range.
    """
    if not 0 < radius < 1:
        message = f"The radius of probability_cover must be above 0 and below 1, but is {radius}."
        raise SamplingError(message, hint="Set it in [sampling.options.probability_cover]: radius = 0.55")
    labelled = pool.vectors.of(pool.training.tokens)
    among = generator.permutation(drawn(np.flatnonzero(pool.vectors.squared_norms > 0), candidates, generator))
    centers, gains = _greedy_cover(pool.vectors.take(among).kept(), labelled, 1 - radius - ROUNDING, n)
    positions = among[centers]
    details = [f"newly covers {gain:,} of {len(among):,} candidates" for gain in gains]
    scores = gains / max(len(among), 1)
    if len(positions) < n:
        rest = _others(len(pool), positions)
        before = pool.vectors.of(Tokens.joined([pool.training.tokens, pool.tokens.take(positions)]))
        far = _farthest_first(pool.vectors.take(rest), _known(before), n - len(positions), generator)
        positions = np.concatenate([positions, rest[far.positions]])
        scores = np.concatenate([scores, np.where(np.isfinite(far.scores), 0, -np.inf)])
        details += ["far from all labeled and picked items, as all candidates are covered"] * (n - len(details))
    return Picks(positions, scores, details)


def highest_cosines(vectors: Vectors, others: Vectors) -> Floats:
    """Return the highest cosine of each of n texts with any of m others, (n,); -1 if there are no others."""
    best = np.full(len(vectors), -1, np.float32)
    for first in range(0, len(others), BLOCK):
        block = others.rows(np.arange(first, min(first + BLOCK, len(others))))
        (highest,) = vectors.reduced(block, _largest)
        best = np.maximum(best, highest)
    return best.astype(np.float64)


def _largest(products: Matrix) -> tuple[Matrix]:
    """Return the maximum of each row of (m, k), (m,)."""
    return (products.max(axis=1),)


def typicality(vectors: Vectors, neighbours: int, generator: np.random.Generator) -> Floats:
    """Return 1 / mean Euclidean distance of each text of a cluster to its neighbors, (n,); 0 for a single text."""
    n = len(vectors)
    if n == 1:
        return np.zeros(1)
    references = drawn(np.arange(n), REFERENCES, generator)
    rows = vectors.rows(references)
    used = np.flatnonzero(rows.any(axis=0))  # word counts use only few columns
    rows = rows[:, used]
    own = np.full(n, -1)
    own[references] = np.arange(len(references))
    k = max(1, min(neighbours, len(references) - 1))
    values = np.empty(n)
    for start in range(0, n, REFERENCES):
        part = np.arange(start, min(start + REFERENCES, n))
        distances = 1 - (vectors.rows(part)[:, used] @ rows.T).astype(np.float64)
        distances[distances < ROUNDING] = 0  # a copy
        itself = own[part] >= 0
        distances[np.flatnonzero(itself), own[part][itself]] = np.inf
        nearest = np.partition(distances, k - 1, axis=1)[:, :k]
        values[part] = 1 / (1e-5 + np.sqrt(2 * nearest).mean(axis=1))
    return values


def _farthest_first(vectors: Vectors, centers: Vectors, n: int, generator: np.random.Generator) -> Picks:
    """Greedy k-center: pick n texts, each the farthest from the centers and the texts picked before.

    The result is exact although few distances are current: distances only fall, so a text whose current distance
    exceeds all bounds is the farthest.
    """
    has_tokens = vectors.squared_norms > 0
    bounds = np.where(has_tokens, _distances(vectors, centers.slice(0, BLOCK)), NOWHERE)
    positions: list[int] = []
    scores: list[float] = []
    if not len(centers) and has_tokens.any():
        mean = unit(vectors.sums(np.zeros(len(vectors), np.int64), 1))
        positions, scores = [int(np.where(has_tokens, vectors.products(mean)[:, 0], -np.inf).argmax())], [FARTHEST]
        bounds = np.minimum(bounds, _distances(vectors, vectors.take(np.array(positions))))
    while len(positions) < n:
        bounds[positions] = -np.inf
        remaining = len(vectors) - len(positions)
        leaders = top(bounds, min(remaining, max(LEADERS, 10 * n)), generator)
        ceiling = bounds[leaders[-1]] if len(leaders) < remaining else -np.inf
        leader_vectors = vectors.take(leaders).kept()
        current = np.minimum(bounds[leaders], _distances(leader_vectors, centers))
        current = np.minimum(current, _distances(leader_vectors, vectors.take(np.array(positions, np.int64))))
        while len(positions) < n and current.max() >= ceiling:
            best = int(current.argmax())
            positions.append(int(leaders[best]))
            scores.append(float(current[best]))
            current = np.minimum(current, _distances(leader_vectors, leader_vectors.take(np.array([best]))))
            current[best] = -np.inf
        bounds[leaders] = current
    distances = np.array(scores)
    details = [_describe_distance(distance, first=not len(centers) and not k) for k, distance in enumerate(scores)]
    return Picks(np.array(positions, np.int64), np.where(distances == NOWHERE, -np.inf, distances), details)


def _describe_distance(distance: float, *, first: bool) -> str:
    if distance == NOWHERE:
        return "has no known token, so it has no position"
    if first:
        return "nearest to the mean of the pool"
    return f"cosine {1 - distance:.2f} to the nearest labeled or picked item"


def _cluster_by_cluster(
    vectors: Vectors, labels: Positions, covered: Positions, n: int, neighbours: int, generator: np.random.Generator
) -> Picks:
    """Pick the n most typical texts, always from the cluster with the fewest `covered` (k,) or picked, then largest."""
    sizes = np.bincount(labels, minlength=len(covered))
    starts = np.cumsum(sizes) - sizes
    members = np.argsort(labels, kind="stable")
    clusters = labels[members]
    ranks = np.arange(len(labels)) - starts[clusters]
    turns = np.lexsort((clusters, -sizes[clusters], covered[clusters] + ranks, sizes[clusters] <= SMALL_CLUSTER))[:n]
    clusters, ranks = clusters[turns], ranks[turns]
    positions, scores = np.empty(n, np.int64), np.empty(n)
    for k in np.unique(clusters):
        inside = members[starts[k] : starts[k] + sizes[k]]
        values = typicality(vectors.take(inside), neighbours, generator)
        best = top(values, int((clusters == k).sum()), generator)
        positions[clusters == k], scores[clusters == k] = inside[best], values[best]
    details = [
        f"number {rank + 1:,} by typicality in a cluster of {sizes[k]:,} candidates, {covered[k]:,} training items"
        for k, rank in zip(clusters, ranks, strict=True)
    ]
    return Picks(positions, scores, details)


def _greedy_cover(vectors: Vectors, labelled: Vectors, floor: float, n: int) -> tuple[Positions, Positions]:
    """Pick at most n texts that cover others by a cosine of at least `floor`; return also how many each adds."""
    covering = _covering(vectors, floor)
    uncovered = highest_cosines(vectors, labelled) < floor
    gains = _count_covered(covering, np.flatnonzero(uncovered))
    chosen: list[int] = []
    newly_covered: list[int] = []
    while len(chosen) < n and gains.any():
        best = int(gains.argmax())
        chosen.append(best)
        newly_covered.append(int(gains[best]))
        new = uncovered & (covering[:, best >> 3] << (best & 7) & 128 > 0)
        uncovered &= ~new
        gains -= _count_covered(covering, np.flatnonzero(new))
    return np.array(chosen, np.int64), np.array(newly_covered, np.int64)


def _covering(vectors: Vectors, floor: float) -> Bits:
    """Return a row of bits for each of m texts: which of them cover it, (m, m / 8) with 8 bits per byte."""
    m = len(vectors)
    bits = np.empty((m, (m + 7) // 8), np.uint8)
    for start in range(0, m, 4 * BLOCK):
        part = np.arange(start, min(start + 4 * BLOCK, m))
        bits[part] = np.packbits((vectors.products(vectors.rows(part)) >= floor).T, axis=1)
    return bits


def _count_covered(covering: Bits, items: Positions) -> Positions:
    """Count how many of the items each of the m texts covers, (m,)."""
    counts = np.zeros(len(covering), np.int64)
    for start in range(0, len(items), 4 * BLOCK):
        rows = np.unpackbits(covering[items[start : start + 4 * BLOCK]], axis=1, count=len(covering))
        counts += rows.sum(axis=0, dtype=np.int64)
    return counts


def _distances(vectors: Vectors, others: Vectors) -> Floats:
    """Return 1 - the highest cosine of each text with any of the others, (n,), 0 to 2."""
    return np.clip(1 - highest_cosines(vectors, others), 0, FARTHEST)


def _labelled(pool: Pool, at_most: int, generator: np.random.Generator) -> Vectors:
    """Return the vectors of at most so many training items with known tokens."""
    labelled = _known(pool.vectors.of(pool.training.tokens))
    return labelled.take(drawn(np.arange(len(labelled)), at_most, generator))


def _known(vectors: Vectors) -> Vectors:
    return vectors.take(np.flatnonzero(vectors.squared_norms > 0))


def _others(n: int, positions: Positions) -> Positions:
    """Return 0 to n - 1 without the positions."""
    is_other = np.ones(n, np.bool_)
    is_other[positions] = False
    return np.flatnonzero(is_other)
