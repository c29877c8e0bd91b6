"""Strategies that cover the texts of the pool: for a start without a model; training items count as covered.

A text without known tokens lies nowhere among the others: it is asked last, with score -inf.
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
"""Farthest-first keeps the distances of this many items up to date; of the others it knows upper bounds."""

REFERENCES = 1_000
"""In a larger cluster, neighbours are looked for among this many of its items."""

SMALL_CLUSTER = 5
FARTHEST = 2.0
NOWHERE = -1.0
ROUNDING = 1e-6
BLOCK = 64

Bits = npt.NDArray[np.uint8]


@strategy(cost="O(n), then O(10,000) per pick", source="Sener and Savarese (2018), Core-Set Approach")
def core_set(pool: Pool, n: int, generator: np.random.Generator, *, anchors: int = 1_000) -> Picks:
    """The item farthest from everything labelled or picked so far: 1 - its highest cosine with any of them.

    Greedy k-center over the whole pool; Euclidean distance would rank alike, for vectors have length 1. Without
    training items the first is the one nearest to the mean of the pool, and its distance counts as the largest, 2.

    Args:
        anchors: Where there are more training items, distances are to this many of them, drawn uniformly.

    Differs from the source: its greedy part only, without the integer program that may drop outliers.
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
    """The most typical item of each cluster, 1 / mean distance to its nearest in it, the least labelled cluster first.

    Candidates are cut into as many clusters as there are training items and picks. Next is always the cluster with the
    fewest labelled or picked items, of those the largest; clusters of up to 5 candidates come last. Distances are
    Euclidean. What is no candidate comes after them, in random order, with score -inf.

    Args:
        max_clusters: At most so many clusters.
        neighbours: So many nearest items of the cluster count (all others in it, where there are fewer).
        candidates: So many items of the pool are looked at, drawn uniformly.

    Differs from the source: training items do not shape the clusters, they are assigned to them; 200 clusters at most,
    not 500; in a cluster of more than 1,000 candidates, neighbours are looked for among 1,000 of them.
    """
    chosen = drawn(np.flatnonzero(pool.vectors.squared_norms > 0), candidates, generator)
    found = Picks(chosen[:0], np.zeros(0))
    if len(chosen):
        vectors = pool.vectors.take(chosen).kept()
        labelled = _known(pool.vectors.of(pool.training.tokens))
        clusters = spherical_kmeans(vectors, max(1, min(len(labelled) + n, max_clusters)), generator)
        covered = np.bincount(assign(labelled, clusters.centroids)[0], minlength=len(clusters))
        found = _cluster_by_cluster(vectors, clusters.labels, covered, min(n, len(chosen)), neighbours, generator)
    positions = chosen[found.positions]
    rest = generator.choice(_others(len(pool), positions), n - len(positions), replace=False)
    return Picks(
        np.concatenate([positions, rest]),
        np.concatenate([found.scores, np.full(len(rest), -np.inf)]),
        [*found.details, *["drawn at random: none of the candidates is left"] * len(rest)],
    )


@strategy(cost="O(candidates^2)", source="Yehuda et al. (2022), Active Learning Through a Covering Lens")
def probability_cover(
    pool: Pool, n: int, generator: np.random.Generator, *, radius: float = 0.55, candidates: int = 10_000
) -> Picks:
    """The item that covers most uncovered ones: the share of candidates within `radius` of it and of nothing before.

    Candidates within the radius of a training item are covered from the start. Once all are covered, the items farthest
    from everything labelled or picked follow, from the whole pool, with score 0. Memory: candidates^2 / 8 bytes.

    Args:
        radius: Cosine distance (1 - cosine), above 0 and below 1. The default suits the shipped sentence vectors: of
            74,400 headlines, those within 0.55 of a positive one are positive at 55 % (8.5 % of all are), and 100
            picks cover 47 % of 10,000. Word counts need a larger one: texts within 0.55 of each other share many words.
        candidates: So many items of the pool are looked at, drawn uniformly.

    Differs from the source: the radius is given, not found by the purity of clusters.

    Raises:
        SamplingError: The radius is out of its range.
    """
    if not 0 < radius < 1:
        raise SamplingError(
            f"probability_cover: radius is {radius}.", hint="give one above 0 and below 1: radius = 0.55"
        )
    labelled = pool.vectors.of(pool.training.tokens)
    among = generator.permutation(drawn(np.flatnonzero(pool.vectors.squared_norms > 0), candidates, generator))
    centres, gains = _greedy_cover(pool.vectors.take(among).kept(), labelled, 1 - radius - ROUNDING, n)
    positions = among[centres]
    details = [f"newly covers {gain:,} of {len(among):,} candidates" for gain in gains]
    scores = gains / max(len(among), 1)
    if len(positions) < n:
        rest = _others(len(pool), positions)
        before = pool.vectors.of(Tokens.joined([pool.training.tokens, pool.tokens.take(positions)]))
        far = _farthest_first(pool.vectors.take(rest), _known(before), n - len(positions), generator)
        positions = np.concatenate([positions, rest[far.positions]])
        scores = np.concatenate([scores, np.where(np.isfinite(far.scores), 0, -np.inf)])
        details += ["all candidates are covered: far from everything before"] * (n - len(details))
    return Picks(positions, scores, details)


def highest_cosines(vectors: Vectors, others: Vectors) -> Floats:
    """Of each of n texts with any of m others, (n,); -1 where there are no others."""
    best = np.full(len(vectors), -1, np.float32)
    for first in range(0, len(others), BLOCK):
        block = others.rows(np.arange(first, min(first + BLOCK, len(others))))
        (highest,) = vectors.reduced(block, _largest)
        best = np.maximum(best, highest)
    return best.astype(np.float64)


def _largest(products: Matrix) -> tuple[Matrix]:
    """The largest of each row of (m, k), (m,)."""
    return (products.max(axis=1),)


def typicality(vectors: Vectors, neighbours: int, generator: np.random.Generator) -> Floats:
    """1 / mean Euclidean distance of each text of a cluster to its nearest others in it, (n,); 0 for one alone."""
    n = len(vectors)
    if n == 1:
        return np.zeros(1)
    references = drawn(np.arange(n), REFERENCES, generator)
    rows = vectors.rows(references)
    used = np.flatnonzero(rows.any(axis=0))  # of word counts only few columns
    rows = rows[:, used]
    own = np.full(n, -1)
    own[references] = np.arange(len(references))
    k = max(1, min(neighbours, len(references) - 1))
    found = np.empty(n)
    for start in range(0, n, REFERENCES):
        part = np.arange(start, min(start + REFERENCES, n))
        distances = 1 - (vectors.rows(part)[:, used] @ rows.T).astype(np.float64)
        distances[distances < ROUNDING] = 0  # a copy
        itself = own[part] >= 0
        distances[np.flatnonzero(itself), own[part][itself]] = np.inf
        nearest = np.partition(distances, k - 1, axis=1)[:, :k]
        found[part] = 1 / (1e-5 + np.sqrt(2 * nearest).mean(axis=1))
    return found


def _farthest_first(vectors: Vectors, centres: Vectors, n: int, generator: np.random.Generator) -> Picks:
    """Greedy k-center: n of the texts, each the farthest from the centres and those before it.

    Exact, though few distances are up to date: they only fall, so who leads with a fresh one has won.
    """
    known = vectors.squared_norms > 0
    bounds = np.where(known, _distances(vectors, centres.slice(0, BLOCK)), NOWHERE)
    positions: list[int] = []
    scores: list[float] = []
    if not len(centres) and known.any():
        mean = unit(vectors.sums(np.zeros(len(vectors), np.int64), 1))
        positions, scores = [int(np.where(known, vectors.products(mean)[:, 0], -np.inf).argmax())], [FARTHEST]
        bounds = np.minimum(bounds, _distances(vectors, vectors.take(np.array(positions))))
    while len(positions) < n:
        bounds[positions] = -np.inf
        left = len(vectors) - len(positions)
        leaders = top(bounds, min(left, max(LEADERS, 10 * n)), generator)
        ceiling = bounds[leaders[-1]] if len(leaders) < left else -np.inf
        near = vectors.take(leaders).kept()
        fresh = np.minimum(bounds[leaders], _distances(near, centres))
        fresh = np.minimum(fresh, _distances(near, vectors.take(np.array(positions, np.int64))))
        while len(positions) < n and fresh.max() >= ceiling:
            best = int(fresh.argmax())
            positions.append(int(leaders[best]))
            scores.append(float(fresh[best]))
            fresh = np.minimum(fresh, _distances(near, near.take(np.array([best]))))
            fresh[best] = -np.inf
        bounds[leaders] = fresh
    found = np.array(scores)
    details = [_far_in_words(distance, first=not len(centres) and not k) for k, distance in enumerate(scores)]
    return Picks(np.array(positions, np.int64), np.where(found == NOWHERE, -np.inf, found), details)


def _far_in_words(distance: float, *, first: bool) -> str:
    if distance == NOWHERE:
        return "has no known token, so it lies nowhere"
    return (
        "nearest to the mean of the pool" if first else f"cosine {1 - distance:.2f} to the nearest labelled or picked"
    )


def _cluster_by_cluster(
    vectors: Vectors, labels: Positions, covered: Positions, n: int, neighbours: int, generator: np.random.Generator
) -> Picks:
    """The n most typical texts, next always from the cluster with the fewest `covered` (k,) or picked, then largest."""
    sizes = np.bincount(labels, minlength=len(covered))
    starts = np.cumsum(sizes) - sizes
    members = np.argsort(labels, kind="stable")
    cluster = labels[members]
    rank = np.arange(len(labels)) - starts[cluster]
    turns = np.lexsort((cluster, -sizes[cluster], covered[cluster] + rank, sizes[cluster] <= SMALL_CLUSTER))[:n]
    cluster, rank = cluster[turns], rank[turns]
    positions, scores = np.empty(n, np.int64), np.empty(n)
    for each in np.unique(cluster):
        inside = members[starts[each] : starts[each] + sizes[each]]
        values = typicality(vectors.take(inside), neighbours, generator)
        best = top(values, int((cluster == each).sum()), generator)
        positions[cluster == each], scores[cluster == each] = inside[best], values[best]
    details = [
        f"number {r + 1:,} by typicality in a cluster of {sizes[each]:,} candidates, {covered[each]:,} training items"
        for each, r in zip(cluster, rank, strict=True)
    ]
    return Picks(positions, scores, details)


def _greedy_cover(vectors: Vectors, labelled: Vectors, floor: float, n: int) -> tuple[Positions, Positions]:
    """At most n texts that cover others by a cosine of at least `floor`, and how many each was the first to cover."""
    covering = _covering(vectors, floor)
    uncovered = highest_cosines(vectors, labelled) < floor
    gains = _covered_by_each(covering, np.flatnonzero(uncovered))
    chosen: list[int] = []
    found: list[int] = []
    while len(chosen) < n and gains.any():
        best = int(gains.argmax())
        chosen.append(best)
        found.append(int(gains[best]))
        new = uncovered & (covering[:, best >> 3] << (best & 7) & 128 > 0)
        uncovered &= ~new
        gains -= _covered_by_each(covering, np.flatnonzero(new))
    return np.array(chosen, np.int64), np.array(found, np.int64)


def _covering(vectors: Vectors, floor: float) -> Bits:
    """Which of m texts cover each one, a row for each, (m, m / 8) with 8 to a byte."""
    m = len(vectors)
    bits = np.empty((m, (m + 7) // 8), np.uint8)
    for start in range(0, m, 4 * BLOCK):
        part = np.arange(start, min(start + 4 * BLOCK, m))
        bits[part] = np.packbits((vectors.products(vectors.rows(part)) >= floor).T, axis=1)
    return bits


def _covered_by_each(covering: Bits, items: Positions) -> Positions:
    """How many of the items each of the m texts covers, (m,)."""
    found = np.zeros(len(covering), np.int64)
    for start in range(0, len(items), 4 * BLOCK):
        rows = np.unpackbits(covering[items[start : start + 4 * BLOCK]], axis=1, count=len(covering))
        found += rows.sum(axis=0, dtype=np.int64)
    return found


def _distances(vectors: Vectors, others: Vectors) -> Floats:
    """1 - the highest cosine with any of the others, (n,), 0 to 2."""
    return np.clip(1 - highest_cosines(vectors, others), 0, FARTHEST)


def _labelled(pool: Pool, at_most: int, generator: np.random.Generator) -> Vectors:
    """Vectors of the training items that have known tokens."""
    labelled = _known(pool.vectors.of(pool.training.tokens))
    return labelled.take(drawn(np.arange(len(labelled)), at_most, generator))


def _known(vectors: Vectors) -> Vectors:
    return vectors.take(np.flatnonzero(vectors.squared_norms > 0))


def _others(n: int, positions: Positions) -> Positions:
    """0 to n - 1 without the positions."""
    left = np.ones(n, np.bool_)
    left[positions] = False
    return np.flatnonzero(left)
