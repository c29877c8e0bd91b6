"""Spherical k-means over texts: by cosine, learned on a stated number of them, then every text assigned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.learning.vectors import Matrix, Vectors, unit
from tasks.sampling.strategy import Floats, Positions, drawn

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
