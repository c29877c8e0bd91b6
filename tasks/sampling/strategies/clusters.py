"""Strategies that cluster the pool (spherical k-means) and query each cluster.

The clusters are learned on a sample of the texts, then every text is assigned. A text without known tokens is in no
cluster: it comes last, with score -inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.learning.vectors import Matrix, Vectors, unit
from tasks.sampling.strategies.uncertainty import uncertainty
from tasks.sampling.strategy import Floats, Picks, Pool, Positions, drawn, strategy, top

MAX_CLUSTERS = 200
"""Maximum for `cluster`: beyond 200 * `per_cluster` items, it queries more random members of each cluster."""

_DIVERSITY = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 4"
_COMBINED = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 5"

Mask = npt.NDArray[np.bool_]


class _Members(NamedTuple):
    """Positions of the members of each nonempty cluster, the largest cluster first."""

    of: Sequence[Positions]

    def describe(self, number: int) -> str:
        return f"cluster {number + 1} of {len(self.of)} ({len(self.of[number]):,} items)"


class _Turns(NamedTuple):
    """n items from several clusters in turn: the position, round and cluster number of each."""

    positions: Positions
    rounds: Positions
    numbers: Positions


@strategy(cost="O(n k), k clusters", source=_DIVERSITY)
def cluster(pool: Pool, n: int, generator: np.random.Generator, *, per_cluster: int = 5) -> Picks:
    """From each of n / 5 clusters of the pool: the item nearest to the center, the farthest one, and 3 random members.

    All centers come first, that of the largest cluster in front; then all outliers; then a random member of each
    cluster, and so on. A cluster without further members is skipped, and the others fill its share.

    The score is the fraction of the pool in the item's cluster (above 0, to 1) minus the round (0 for centers, 1 for
    outliers, 2 and up for random members), so that rounds follow each other.

    Args:
        per_cluster: Items per cluster: a center, an outlier, and random members. There are n / per_cluster clusters,
            rounded up, at most 200.

    Differs from the source: clusters are initialized with k-means++ instead of at random, and contain the whole pool
    instead of 10,000 items.
    """
    has_tokens = pool.vectors.squared_norms > 0
    picks = _centers_outliers_members(pool.vectors, has_tokens, n, per_cluster, generator)
    return _filled(picks, ~has_tokens, n, generator, "has no known token, so it is in no cluster")


@strategy(needs=["model"], substitute="cluster", cost="O(n)", source=_COMBINED)
def clustered_uncertainty(
    pool: Pool, n: int, generator: np.random.Generator, *, share: float = 0.1, per_cluster: int = 5
) -> Picks:
    """`cluster` on the most uncertain tenth of the pool: diverse uncertain items.

    Uncertainty is that of `least_confidence`. The score is that of `cluster`: the fraction of the uncertain items in
    the item's cluster, minus the round. Items whose probabilities are not finite come last, with score -inf.

    Args:
        share: Fraction of the pool, 0 to 1, that is clustered, the most uncertain items; at least n items.
        per_cluster: As in `cluster`.
    """
    scores = np.where(pool.vectors.squared_norms > 0, uncertainty(pool), -np.inf)
    sound = np.isfinite(scores)
    size = min(max(n, int(np.ceil(share * len(pool)))), int(sound.sum()))
    positions = np.sort(top(scores, size, generator))
    vectors, has_tokens = pool.vectors.take(positions), np.ones(size, np.bool_)
    picks = _centers_outliers_members(vectors, has_tokens, n, per_cluster, generator)
    picks = picks._replace(positions=positions[picks.positions])
    return _filled(picks, ~sound, n, generator, "has no known token or no finite probability, so it is in no cluster")


@strategy(needs=["training items"], substitute="cluster", adaptive=True, cost="O(n k), k clusters", source=_COMBINED)
def representative_cluster(pool: Pool, n: int, generator: np.random.Generator, *, clusters: int = 20) -> Picks:
    """From each cluster of the pool: the items most typical of the pool and least similar to the training items.

    The score is cos(item, nearest center of the pool's clusters) - cos(item, nearest center of the training items'
    clusters), -2 to 2. The item with the highest score of each cluster comes first, in the order of their scores, then
    the second of each cluster, and so on. Scores fall within a cluster and within a round, and may rise from one round
    to the next.

    Args:
        clusters: Number of clusters of the pool, and of the training items; fewer if there are fewer distinct texts.
    """
    has_tokens = pool.vectors.squared_norms > 0
    groups = spherical_kmeans(pool.vectors, max(1, clusters), generator)
    trained = spherical_kmeans(pool.vectors.of(pool.training.tokens), max(1, clusters), generator)
    _, to_training = assign(pool.vectors, trained.centroids)
    scores = groups.cosines - to_training
    members = _members(groups, has_tokens)
    ranked = [group[top(scores[group], min(n, len(group)), generator)] for group in members.of]
    positions, rounds, numbers = _in_turns(ranked, scores, n)
    details = [
        f"number {turn + 1} of {members.describe(number)}: "
        f"cosine {groups.cosines[position]:.2f} to the pool, {to_training[position]:.2f} to the training items"
        for position, turn, number in zip(positions, rounds, numbers, strict=True)
    ]
    picks = Picks(positions, scores[positions], details)
    return _filled(picks, ~has_tokens, n, generator, "has no known token, so it is in no cluster")


@strategy(needs=["model"], substitute="cluster", cost="O(n k), k clusters", source=_COMBINED)
def high_uncertainty_cluster(pool: Pool, n: int, generator: np.random.Generator, *, clusters: int = 20) -> Picks:
    """Random members of the cluster with the highest mean uncertainty.

    If that cluster has too few members, those of the next one follow. Uncertainty is that of `least_confidence`; the
    score is the mean of the item's cluster, 0 (certain) to 1 (uniform). Items whose probabilities are not finite are
    left out of the means and come last, with score -inf.

    Args:
        clusters: Number of clusters of the pool; fewer if there are fewer distinct texts.
    """
    scores = np.where(pool.vectors.squared_norms > 0, uncertainty(pool), -np.inf)
    sound = np.isfinite(scores)
    members = _members(spherical_kmeans(pool.vectors, max(1, clusters), generator), sound)
    means = np.array([scores[group].mean() for group in members.of])
    by_mean = np.argsort(-means, kind="stable")
    numbers = np.repeat(by_mean, [len(members.of[number]) for number in by_mean])[:n]
    shuffled = [generator.permutation(members.of[number]) for number in by_mean]
    positions = np.concatenate([np.zeros(0, np.int64), *shuffled])[:n]
    details = [f"{members.describe(number)}, mean uncertainty {means[number]:.3f}" for number in numbers]
    picks = Picks(positions, means[numbers], details)
    return _filled(picks, ~sound, n, generator, "has no known token or no finite probability, so it is in no cluster")


def _centers_outliers_members(
    vectors: Vectors, has_tokens: Mask, n: int, per_cluster: int, generator: np.random.Generator
) -> Picks:
    """Return at most n picks among the known texts, as `cluster` describes."""
    if not has_tokens.any():
        return Picks(np.zeros(0, np.int64), np.zeros(0))
    groups = spherical_kmeans(vectors, min(MAX_CLUSTERS, -(-n // max(1, per_cluster))), generator)
    members = _members(groups, has_tokens)
    shares = np.zeros(len(vectors))
    for group in members.of:
        shares[group] = len(group) / len(vectors)
    ranked = [_center_outlier_rest(group, groups.cosines, generator)[:n] for group in members.of]
    positions, rounds, numbers = _in_turns(ranked, shares, n)
    details = [
        f"{['center', 'outlier', 'member'][min(turn, 2)]} of {members.describe(number)}, "
        f"cosine {groups.cosines[position]:.2f} to its center"
        for position, turn, number in zip(positions, rounds, numbers, strict=True)
    ]
    return Picks(positions, shares[positions] - rounds, details)


def _center_outlier_rest(members: Positions, cosines: Floats, generator: np.random.Generator) -> Positions:
    """Order the members of a cluster: the nearest to its center, the farthest from it, the others at random."""
    center = cosines[members].argmax()
    others = np.delete(members, center)
    outlier = cosines[others].argmin() if len(others) else 0
    rest = generator.permutation(np.delete(others, outlier)) if len(others) else others
    return np.concatenate([members[[center]], others[outlier : outlier + 1], rest])


def _members(clusters: Clusters, included: Mask) -> _Members:
    positions = np.flatnonzero(included)
    labels = clusters.labels[positions]
    sizes = np.bincount(labels, minlength=len(clusters))
    parts = np.split(positions[np.argsort(labels, kind="stable")], np.cumsum(sizes)[:-1])
    return _Members([parts[label] for label in np.argsort(-sizes, kind="stable") if sizes[label]])


def _in_turns(ranked: Sequence[Positions], scores: Floats, n: int) -> _Turns:
    """Take the first item of each cluster, then the second of each, and so on; higher scores first within a round."""
    lengths = [len(group) for group in ranked]
    positions = np.concatenate([np.zeros(0, np.int64), *ranked])
    rounds = np.concatenate([np.zeros(0, np.int64), *map(np.arange, lengths)])
    order = np.lexsort((-scores[positions], rounds))[:n]
    return _Turns(positions[order], rounds[order], np.repeat(np.arange(len(ranked)), lengths)[order])


def _filled(picks: Picks, excluded: Mask, n: int, generator: np.random.Generator, reason: str) -> Picks:
    """Fill up to n picks with random ones of the excluded items, with score -inf."""
    missing = n - len(picks.positions)
    rest = generator.choice(np.flatnonzero(excluded), missing, replace=False)
    return Picks(
        np.concatenate([picks.positions, rest]),
        np.concatenate([picks.scores, np.full(missing, -np.inf)]),
        [*picks.details, *[reason] * missing],
    )


CANDIDATES = 50_000
"""Centroids are learned on at most this many texts, drawn uniformly; all texts are assigned to them."""

ITERATIONS = 20


@dataclass(frozen=True)
class Clusters:
    """n texts in at most k clusters; there are fewer if there are fewer distinct texts.

    Attributes:
        centroids: Unit vectors (k, width).
        labels: Cluster of each text, (n,), 0 to k - 1.
        cosines: Cosine of each text to the centroid of its cluster, (n,); 0 for a text without known tokens.
    """

    centroids: Matrix
    labels: Positions
    cosines: Floats

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def sizes(self) -> Positions:
        """Number of texts in each cluster, (k,)."""
        return np.bincount(self.labels, minlength=len(self))


def spherical_kmeans(
    vectors: Vectors, k: int, generator: np.random.Generator, *, candidates: int = CANDIDATES
) -> Clusters:
    """Cluster n texts (rows of length 1 or 0) by cosine.

    Runs at most 20 of Lloyd's iterations on the candidates, after a greedy k-means++ initialization; then assigns all
    texts once. O(n k).

    Args:
        vectors: The n texts.
        k: Number of clusters, at least 1.
        generator: Random numbers.
        candidates: Centroids are learned on at most this many texts.

    Source: Dhillon and Modha (2001), Concept Decompositions; Arthur and Vassilvitskii (2007), k-means++.
    """
    among = vectors.take(drawn(np.arange(len(vectors)), max(candidates, 1), generator)).kept()
    centroids = among.rows(plus_plus(among, k, generator, trials=2 + int(np.log(k))))
    labels, _ = assign(among, centroids)
    for _ in range(ITERATIONS):
        sums = among.sums(labels, len(centroids))
        centroids = unit(np.where(np.any(sums, axis=1, keepdims=True), sums, centroids))
        before, (labels, _) = labels, assign(among, centroids)
        if np.array_equal(labels, before):
            break
    return Clusters(centroids, *assign(vectors, centroids))


def plus_plus(vectors: Vectors, k: int, generator: np.random.Generator, *, trials: int = 1) -> Positions:
    """Draw at most k different texts by k-means++: in proportion to the distance (1 - cosine) to those drawn before.

    Args:
        vectors: The texts.
        k: Maximum number of positions.
        generator: Random numbers.
        trials: Number of draws per position; the one with the smallest sum of remaining distances is kept.

    Returns:
        At least one position; fewer than k if all texts are copies of the drawn ones.
    """
    distances = (vectors.squared_norms > 0).astype(np.float64)
    picks: list[int] = []
    while len(picks) < k and (total := distances.sum()) > 0:
        tried = np.searchsorted(np.cumsum(distances), generator.random(trials) * total, side="right")
        tried = np.minimum(tried, np.flatnonzero(distances)[-1])
        remaining = np.maximum(1 - vectors.products(vectors.rows(tried)).astype(np.float64), 0)
        remaining[remaining < 1e-5] = 0  # a copy, up to rounding
        remaining = np.minimum(remaining, distances[:, None])
        best = remaining.sum(axis=0).argmin()
        picks.append(int(tried[best]))
        distances = remaining[:, best]
    return np.array(picks or [0], np.int64)


def assign(vectors: Vectors, centroids: Matrix) -> tuple[Positions, Floats]:
    """Return the nearest of the unit centroids (k, width) for each text, (n,), and the cosine to it, (n,)."""
    labels, cosines = vectors.reduced(centroids, _nearest)
    return labels, cosines


def _nearest(products: Matrix) -> tuple[Positions, Floats]:
    """Return the column and the value of the maximum of each row of (m, k)."""
    nearest = products.argmax(axis=1)
    return nearest, products[np.arange(len(products)), nearest].astype(np.float64)
