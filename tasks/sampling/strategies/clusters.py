"""Strategies that cluster the pool (spherical k-means) and query each cluster.

The clusters are learned on a stated number of texts, then every text is assigned. A text without known tokens is in no
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
"""`cluster` makes no more: beyond 200 * `per_cluster` items it asks about more random members of each."""

_DIVERSITY = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 4"
_COMBINED = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 5"

Mask = npt.NDArray[np.bool_]


class _Members(NamedTuple):
    """Positions of the members of each cluster that is not empty, the biggest cluster first."""

    of: Sequence[Positions]

    def named(self, number: int) -> str:
        return f"cluster {number + 1} of {len(self.of)} ({len(self.of[number]):,} items)"


class _Turns(NamedTuple):
    """n items taken from several clusters in turn: positions, the round of each and the number of its cluster."""

    positions: Positions
    rounds: Positions
    numbers: Positions


@strategy(cost="O(n k), k clusters", source=_DIVERSITY)
def cluster(pool: Pool, n: int, generator: np.random.Generator, *, per_cluster: int = 5) -> Picks:
    """Of each of n / 5 clusters of the pool the item nearest to its centre, the farthest one, and 3 random members.

    All centres come first, the biggest cluster's in front; then all outliers; then a random member of each, and
    so on. A cluster that has no more members is passed over, so the others fill its share.

    The score is the share of the pool that is in the item's cluster (above 0, to 1) less the round (0 for centres,
    1 for outliers, 2 and up for random members): what an item stands for, one round after the other.

    Args:
        per_cluster: n / per_cluster clusters are made, rounded up, but at most 200. It is how many items each is
            asked for: a centre, an outlier, the rest random.

    Differs from the source: its clusters begin at random, ours with k-means++; they hold the whole pool, not 10,000.
    """
    known = pool.vectors.squared_norms > 0
    picks = _centres_outliers_members(pool.vectors, known, n, per_cluster, generator)
    return _filled(picks, ~known, n, generator, "has no known token, so it is in no cluster")


@strategy(needs=["model"], substitute="cluster", cost="O(n)", source=_COMBINED)
def clustered_uncertainty(
    pool: Pool, n: int, generator: np.random.Generator, *, share: float = 0.1, per_cluster: int = 5
) -> Picks:
    """The most uncertain tenth of the pool, then `cluster` on it: unsure items of every kind.

    Uncertainty is that of `least_confidence`. The score is that of `cluster`: the share of those uncertain items that
    is in the item's cluster, less the round. Items whose probabilities are not finite come last, with -inf.

    Args:
        share: Part of the pool (0-1) that is clustered, the most uncertain; at least n items.
        per_cluster: As in `cluster`.
    """
    scores = np.where(pool.vectors.squared_norms > 0, uncertainty(pool), -np.inf)
    sound = np.isfinite(scores)
    size = min(max(n, int(np.ceil(share * len(pool)))), int(sound.sum()))
    positions = np.sort(top(scores, size, generator))
    vectors, known = pool.vectors.take(positions), np.ones(size, np.bool_)
    picks = _centres_outliers_members(vectors, known, n, per_cluster, generator)
    picks = picks._replace(positions=positions[picks.positions])
    return _filled(picks, ~sound, n, generator, "has no known token or no finite probability, so it is in no cluster")


@strategy(needs=["training items"], substitute="cluster", adaptive=True, cost="O(n k), k clusters", source=_COMBINED)
def representative_cluster(pool: Pool, n: int, generator: np.random.Generator, *, clusters: int = 20) -> Picks:
    """From each cluster of the pool what is most typical of the pool and least like the training items.

    The score is cos(item, nearest centre of the pool's clusters) - cos(item, nearest centre of the training items'
    clusters), -2 to 2. First the item with the highest score of each cluster, in the order of their scores, then the
    second of each, and so on: a score falls within a cluster and within a round, and may rise from one round
    to the next.

    Args:
        clusters: How many are made of the pool, and how many of the training items; fewer where fewer differ.
    """
    known = pool.vectors.squared_norms > 0
    groups = spherical_kmeans(pool.vectors, max(1, clusters), generator)
    trained = spherical_kmeans(pool.vectors.of(pool.training.tokens), max(1, clusters), generator)
    _, to_training = assign(pool.vectors, trained.centroids)
    scores = groups.cosines - to_training
    members = _members(groups, known)
    ranked = [each[top(scores[each], min(n, len(each)), generator)] for each in members.of]
    positions, rounds, numbers = _in_turns(ranked, scores, n)
    details = [
        f"number {turn + 1} of {members.named(number)}: "
        f"cosine {groups.cosines[position]:.2f} to the pool, {to_training[position]:.2f} to the training items"
        for position, turn, number in zip(positions, rounds, numbers, strict=True)
    ]
    picks = Picks(positions, scores[positions], details)
    return _filled(picks, ~known, n, generator, "has no known token, so it is in no cluster")


@strategy(needs=["model"], substitute="cluster", cost="O(n k), k clusters", source=_COMBINED)
def high_uncertainty_cluster(pool: Pool, n: int, generator: np.random.Generator, *, clusters: int = 20) -> Picks:
    """Random members of the cluster that the model is least sure of: its mean uncertainty is the highest.

    Where that cluster has too few, members of the next one follow. Uncertainty is that of `least_confidence`; the
    score is the mean over the item's cluster, 0 (sure) to 1 (no idea). Items whose probabilities are not finite do
    not count in a mean, and come last, with -inf.

    Args:
        clusters: How many are made of the pool; fewer where fewer items differ.
    """
    scores = np.where(pool.vectors.squared_norms > 0, uncertainty(pool), -np.inf)
    sound = np.isfinite(scores)
    members = _members(spherical_kmeans(pool.vectors, max(1, clusters), generator), sound)
    means = np.array([scores[each].mean() for each in members.of])
    by_mean = np.argsort(-means, kind="stable")
    numbers = np.repeat(by_mean, [len(members.of[number]) for number in by_mean])[:n]
    drawn = [generator.permutation(members.of[number]) for number in by_mean]
    positions = np.concatenate([np.zeros(0, np.int64), *drawn])[:n]
    details = [f"{members.named(number)}, mean uncertainty {means[number]:.3f}" for number in numbers]
    picks = Picks(positions, means[numbers], details)
    return _filled(picks, ~sound, n, generator, "has no known token or no finite probability, so it is in no cluster")


def _centres_outliers_members(
    vectors: Vectors, known: Mask, n: int, per_cluster: int, generator: np.random.Generator
) -> Picks:
    """At most n picks of those known, by rounds: what `cluster` does."""
    if not known.any():
        return Picks(np.zeros(0, np.int64), np.zeros(0))
    groups = spherical_kmeans(vectors, min(MAX_CLUSTERS, -(-n // max(1, per_cluster))), generator)
    members = _members(groups, known)
    shares = np.zeros(len(vectors))
    for each in members.of:
        shares[each] = len(each) / len(vectors)
    ranked = [_centre_outlier_rest(each, groups.cosines, generator)[:n] for each in members.of]
    positions, rounds, numbers = _in_turns(ranked, shares, n)
    details = [
        f"{['centre', 'outlier', 'member'][min(turn, 2)]} of {members.named(number)}, "
        f"cosine {groups.cosines[position]:.2f} to its centre"
        for position, turn, number in zip(positions, rounds, numbers, strict=True)
    ]
    return Picks(positions, shares[positions] - rounds, details)


def _centre_outlier_rest(members: Positions, cosines: Floats, generator: np.random.Generator) -> Positions:
    """Members of one cluster: the nearest to its centre, the farthest from it, the rest in random order."""
    centre = cosines[members].argmax()
    others = np.delete(members, centre)
    outlier = cosines[others].argmin() if len(others) else 0
    rest = generator.permutation(np.delete(others, outlier)) if len(others) else others
    return np.concatenate([members[[centre]], others[outlier : outlier + 1], rest])


def _members(clusters: Clusters, kept: Mask) -> _Members:
    positions = np.flatnonzero(kept)
    labels = clusters.labels[positions]
    sizes = np.bincount(labels, minlength=len(clusters))
    parts = np.split(positions[np.argsort(labels, kind="stable")], np.cumsum(sizes)[:-1])
    return _Members([parts[label] for label in np.argsort(-sizes, kind="stable") if sizes[label]])


def _in_turns(ranked: Sequence[Positions], scores: Floats, n: int) -> _Turns:
    """The first of each cluster, then the second of each, ..., at most n; higher scores first within a round."""
    lengths = [len(each) for each in ranked]
    positions = np.concatenate([np.zeros(0, np.int64), *ranked])
    rounds = np.concatenate([np.zeros(0, np.int64), *map(np.arange, lengths)])
    order = np.lexsort((-scores[positions], rounds))[:n]
    return _Turns(positions[order], rounds[order], np.repeat(np.arange(len(ranked)), lengths)[order])


def _filled(picks: Picks, left: Mask, n: int, generator: np.random.Generator, why: str) -> Picks:
    """n picks: where there are fewer, random ones of those `left` out follow, with score -inf."""
    missing = n - len(picks.positions)
    drawn = generator.choice(np.flatnonzero(left), missing, replace=False)
    return Picks(
        np.concatenate([picks.positions, drawn]),
        np.concatenate([picks.scores, np.full(missing, -np.inf)]),
        [*picks.details, *[why] * missing],
    )


CANDIDATES = 50_000
"""Centroids are learned on at most this many texts, drawn uniformly; all texts are assigned to them."""

ITERATIONS = 20


@dataclass(frozen=True)
class Clusters:
    """n texts in at most k clusters; there are fewer where fewer texts are different.

    Attributes:
        centroids: Unit vectors (k, width).
        labels: Cluster of each text, (n,), 0 to k - 1.
        cosines: Of each text to the centroid of its cluster, (n,); 0 for a text without known tokens.
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

    At most 20 of Lloyd's iterations on the candidates, from a greedy k-means++ start; then all texts are assigned
    once. O(n k).

    Args:
        k: Number of clusters, at least 1.
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
    """Positions of at most k different texts, each drawn in proportion to its distance (1 - cosine) to those before.

    At least one; fewer than k where no text is left at a distance.

    Args:
        trials: So many are drawn each time, and the one that leaves the others nearest to a drawn one is kept.
    """
    distances = (vectors.squared_norms > 0).astype(np.float64)
    picks: list[int] = []
    while len(picks) < k and (total := distances.sum()) > 0:
        tried = np.searchsorted(np.cumsum(distances), generator.random(trials) * total, side="right")
        tried = np.minimum(tried, np.flatnonzero(distances)[-1])
        left = np.maximum(1 - vectors.products(vectors.rows(tried)).astype(np.float64), 0)
        left[left < 1e-5] = 0  # a copy, but for rounding
        left = np.minimum(left, distances[:, None])
        best = left.sum(axis=0).argmin()
        picks.append(int(tried[best]))
        distances = left[:, best]
    return np.array(picks or [0], np.int64)


def assign(vectors: Vectors, centroids: Matrix) -> tuple[Positions, Floats]:
    """The nearest of the unit centroids (k, width) for each text, (n,), and the cosine to it, (n,)."""
    labels, cosines = vectors.reduced(centroids, _nearest)
    return labels, cosines


def _nearest(products: Matrix) -> tuple[Positions, Floats]:
    """Which column is the largest in each row of (m, k), and how large it is."""
    nearest = products.argmax(axis=1)
    return nearest, products[np.arange(len(products)), nearest].astype(np.float64)
