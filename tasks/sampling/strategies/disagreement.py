"""Strategies that query where predictions disagree: under dropout, or with those for similar training items."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import SamplingError
from tasks.learning.calibration import Calibration
from tasks.learning.vectors import Matrix, Vectors
from tasks.sampling.strategies.clusters import spherical_kmeans
from tasks.sampling.strategies.uncertainty import uncertainty
from tasks.sampling.strategy import Floats, Picks, Pool, Positions, drawn, strategy, top, top_picks

BATCHES = ("top", "power", "softmax")

ANCHORS_AT_ONCE = 250
SMALLEST_PROBABILITY = 1e-7
SMALLEST_INFORMATION = 1e-12


@strategy(
    needs=["model"],
    substitute="random",
    cost="O(n samples n_labels)",
    source="Gal et al. (2017), Deep Bayesian Active Learning; Kirsch et al. (2023), Stochastic Batch Acquisition",
)
def bald(
    pool: Pool,
    n: int,
    generator: np.random.Generator,
    *,
    samples: int = 10,
    dropout: float = 0.5,
    batch: str = "power",
    beta: float = 1.0,
) -> Picks:
    """Mutual information of prediction and dropout mask: entropy of the mean prediction - mean entropy, in nats.

    It is high where the masks give confident predictions that contradict each other, so that a label would decide
    between them. The whole pool is scored. The items with the highest scores are often similar; noise for each item
    makes the batch more diverse.

    `samples` masks are drawn, each dropping a dimension of the last representation with probability `dropout`; they
    are the same for all items. `batch` is the way in which n items are selected by their information I. It determines
    the score: "top" is I itself; "power" is beta log I + Gumbel noise, which draws items in proportion to I ** beta;
    "softmax" is beta I + Gumbel noise, in proportion to exp(beta I), which at beta = 1 is nearly uniform, as I is below
    log n_labels. A larger `beta`, above 0, is closer to "top". For "power", I is at least 1e-12.

    Differs from the source: the model was trained without dropout; masks act on its last representation only.
    """
    if batch not in BATCHES:
        raise SamplingError(f"bald: unknown batch = {batch!r}.", hint=f"Use one of {', '.join(BATCHES)}.")
    if not beta > 0:
        raise SamplingError(f"bald: beta must be above 0, but is {beta}.", hint="Use the default: beta = 1.0")
    (information,) = _under_masks(pool, samples, dropout, generator, _informations)
    information[~pool.sound] = np.nan
    picks = top_picks(_stochastic(information, batch, beta, generator), n, generator)
    return picks._replace(details=[f"mutual information {nats:.3f} nats" for nats in information[picks.positions]])


def mutual_information(logits: npt.NDArray[np.float32]) -> Floats:
    """Return the mutual information of prediction and mask in nats, (n,), of logits (n_labels, samples, n).

    >>> mutual_information(np.array([[[99, 5], [0, 5]], [[0, 5], [99, 5]]], np.float32)).round(3).tolist()
    [0.693, 0.0]
    """
    lowered = (logits - logits.max(axis=0)).astype(np.float64)
    p = np.exp(lowered)
    totals = p.sum(axis=0)
    p /= totals
    entropies = np.log(totals) - (p * lowered).sum(axis=0)
    mean = p.mean(axis=1)
    logs = np.log(mean, out=np.zeros_like(mean), where=mean > 0)
    information: Floats = np.maximum(-(mean * logs).sum(axis=0) - entropies.mean(axis=0), 0)
    return information


def _stochastic(information: Floats, batch: str, beta: float, generator: np.random.Generator) -> Floats:
    """Return the scores (n,) whose n highest are the batch."""
    if batch == "top":
        return information
    if batch == "power":
        information = np.log(np.maximum(information, SMALLEST_INFORMATION))
    scores: Floats = beta * information + generator.gumbel(size=len(information))
    return scores


@strategy(
    needs=["model"],
    substitute="random",
    cost="O(n samples n_labels + candidates n_picks)",
    source="Gupte et al. (2024), Revisiting Active Learning in the Era of Vision Foundation Models",
)
def drop_query(
    pool: Pool,
    n: int,
    generator: np.random.Generator,
    *,
    samples: int = 3,
    dropout: float = 0.75,
    candidates: int = 20_000,
) -> Picks:
    """Items whose predicted label changes under more than half of the dropout masks, one from each of n clusters.

    The item nearest to the centroid of each cluster is picked. If these are fewer than n (because fewer items change or
    are distinct), those with the most changes follow, the most uncertain first. The score is the fraction of masks that
    change the label; ties are in the order of cluster sizes.

    The whole pool is predicted under `samples` masks, each dropping a dimension of the last representation with
    probability `dropout`; at most `candidates` of the items that change, a uniform sample, are clustered by cosine.

    Differs from the source: a mask is the same for all items, and the case of too few changing items is defined.
    """
    (labels,) = _under_masks(pool, samples, dropout, generator, _labels)
    changes = (labels != pool.logits.argmax(axis=1)[:, None]).sum(axis=1).astype(np.float64)
    scores = uncertainty(pool)
    changes[~np.isfinite(scores)] = -np.inf
    central, sizes = _central_items(pool.vectors, np.flatnonzero(changes > samples / 2), n, candidates, generator)
    is_other = np.ones(len(pool), bool)
    is_other[central] = False
    others = np.flatnonzero(is_other)
    others = others[top(changes[others] + scores[others] / 2, n - len(central), generator)]
    positions = np.concatenate([central, others])
    reasons = [
        f"{change:.0f} of {samples} masks change its label" if change >= 0 else "its probabilities are not finite"
        for change in changes[positions]
    ]
    details = [f"{reason}; central to {size:,} such items" for reason, size in zip(reasons, sizes, strict=False)]
    details += reasons[len(central) :]
    order = np.argsort(-changes[positions], kind="stable")
    return Picks(positions[order], changes[positions[order]] / samples, [details[k] for k in order])


def _central_items(
    vectors: Vectors, changing: Positions, n: int, candidates: int, generator: np.random.Generator
) -> tuple[Positions, Positions]:
    """Return the item nearest to the centroid of each of at most n clusters, the largest first, and their sizes.

    Both are empty if there are at most n items: then all of them are queried.
    """
    if len(changing) <= n:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    among = drawn(changing, max(candidates, n), generator)
    clusters = spherical_kmeans(vectors.take(among), n, generator)
    by_cluster = np.lexsort([-clusters.cosines, clusters.labels])
    _, firsts, sizes = np.unique(clusters.labels[by_cluster], return_index=True, return_counts=True)
    largest = np.argsort(-sizes, kind="stable")
    return among[by_cluster[firsts[largest]]], sizes[largest]


@strategy(
    needs=["model", "training items"],
    substitute="random",
    cost="O(candidates anchors)",
    source="Margatina et al. (2021), Active Learning by Acquiring Contrastive Examples",
)
def contrastive(
    pool: Pool,
    n: int,
    generator: np.random.Generator,
    *,
    neighbours: int = 10,
    candidates: int = 50_000,
    anchors: int = 1_000,
) -> Picks:
    """Items with predictions unlike those of the nearest training items: mean of KL(p_neighbor || p_item) in nats.

    Similar texts with different predictions are near the decision boundary. Probabilities are at least 1e-7, so that
    every score is finite.

    `candidates` of the pool and `anchors` of the training items are drawn uniformly if there are more; each candidate
    is compared with the `neighbours` anchors with the highest cosine, or with all if there are fewer. Ties are broken
    arbitrarily; if the highest cosine is 0, the score means little.

    Differs from the source: neighbors are determined by the encoder's vectors, on samples of candidates and anchors.
    """
    assert pool.head is not None
    among = drawn(np.arange(len(pool)), max(candidates, n), generator)
    chosen = drawn(np.arange(len(pool.training)), max(anchors, 1), generator)
    neighbors, cosines = nearest(
        pool.vectors.take(among), pool.vectors.of(pool.training.tokens.take(chosen)), max(neighbours, 1)
    )
    anchor_p = _floored(Calibration(pool.head.temperature).probabilities(pool.training.logits[chosen]))
    negative_entropies = (anchor_p * np.log(anchor_p)).sum(axis=1)
    mean = sum(anchor_p[column] for column in neighbors.T) / neighbors.shape[1]
    cross_entropies = -(mean * np.log(_floored(pool.probabilities[among]))).sum(axis=1)
    scores = negative_entropies[neighbors].mean(axis=1) + cross_entropies
    scores[~pool.sound[among]] = -np.inf
    picks = top_picks(scores, n, generator)
    details = [f"cosine {cosine:z.2f} to the nearest training item" for cosine in cosines[picks.positions, 0]]
    return Picks(among[picks.positions], picks.scores, details)


def nearest(vectors: Vectors, anchors: Vectors, k: int) -> tuple[Positions, Matrix]:
    """Return the positions and cosines of the k anchors nearest to each of n vectors, (n, k), highest cosine first."""
    import torch  # imported late: slow, and not needed by commands that only inspect a workspace

    positions, cosines = torch.zeros((len(vectors), 0), dtype=torch.int64), torch.zeros((len(vectors), 0))
    for start in range(0, len(anchors), ANCHORS_AT_ONCE):
        rows = anchors.rows(np.arange(start, min(start + ANCHORS_AT_ONCE, len(anchors))))
        highest, indices = torch.from_numpy(vectors.products(rows)).topk(min(k, len(rows)), dim=1)
        positions, cosines = torch.cat([positions, indices + start], dim=1), torch.cat([cosines, highest], dim=1)
        cosines, best = cosines.topk(min(k, cosines.shape[1]), dim=1)
        positions = positions.gather(1, best)
    return positions.numpy(), cosines.numpy()


def _floored(probabilities: npt.NDArray[np.float32]) -> Floats:
    return np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY)


def _under_masks(
    pool: Pool, samples: int, dropout: float, generator: np.random.Generator, reduce: Callable[..., tuple[Any, ...]]
) -> tuple[npt.NDArray[Any], ...]:
    """Apply `reduce` to logits / temperature under dropout masks, float32 (n_labels, samples, m), slice by slice.

    Raises:
        SamplingError: An option is out of range.
    """
    if samples < 1 or not 0 <= dropout < 1:
        raise SamplingError(
            f"Invalid dropout masks: samples = {samples}, dropout = {dropout}.",
            hint="Set samples, the number of masks, to 1 or more, and dropout to a fraction from 0 to below 1.",
        )
    head, hidden = pool.head, pool.hidden
    assert head is not None
    assert hidden is not None
    masks = (generator.random((samples, hidden.width)) >= dropout) / (1 - dropout)
    directions = (head.weight[:, None] * masks.astype(np.float32)).reshape(-1, hidden.width)
    return hidden.reduced(directions, partial(reduce, head.bias, head.temperature))


def _informations(bias: npt.NDArray[np.float32], temperature: float, products: Matrix) -> tuple[Floats]:
    return (mutual_information(_dropped_logits(bias, temperature, products)),)


def _labels(bias: npt.NDArray[np.float32], temperature: float, products: Matrix) -> tuple[npt.NDArray[np.int32]]:
    """Return the most probable label under each mask, (m, samples)."""
    return (_dropped_logits(bias, temperature, products).argmax(axis=0).T.astype(np.int32),)


def _dropped_logits(bias: npt.NDArray[np.float32], temperature: float, products: Matrix) -> npt.NDArray[np.float32]:
    """Return logits / temperature, (n_labels, samples, m), from products (m, n_labels * samples)."""
    logits = np.ascontiguousarray(products.T).reshape(len(bias), products.shape[1] // len(bias), len(products))
    logits += bias[:, None, None]
    logits /= np.float32(temperature)
    return logits
