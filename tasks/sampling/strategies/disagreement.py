"""Strategies that ask where predictions disagree: under dropout, or between an item and labelled ones like it."""

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

    High where each mask is sure and they contradict each other, so that a label would tell which of them is right.
    The whole pool is scored. The best of a pool are often alike; noise drawn for each item spreads the batch.

    `samples` masks are drawn, each leaving out a dimension of the last representation with probability `dropout`, and
    are the same for all items. `batch` is how n items come of that information I, and gives the score ranked by:
    "top" I itself; "power" beta log I + Gumbel noise, which draws items in proportion to I ** beta; "softmax"
    beta I + Gumbel noise, in proportion to exp(beta I), which at beta = 1 is nearly uniform, as I is below
    log n_labels. A larger `beta`, above 0, is closer to "top". To "power", I below 1e-12 is 1e-12.

    Differs from the source: the model was trained without dropout; masks act on its last representation only.
    """
    if batch not in BATCHES:
        raise SamplingError(
            f"batch = {batch!r} is no way for bald to choose a batch.", hint=f"choose one of {', '.join(BATCHES)}"
        )
    if not beta > 0:
        raise SamplingError(f"beta = {beta} in bald, and it must be above 0.", hint="beta = 1.0 is the default")
    (information,) = _under_masks(pool, samples, dropout, generator, _informations)
    information[~pool.sound] = np.nan
    picks = top_picks(_stochastic(information, batch, beta, generator), n, generator)
    return picks._replace(details=[f"mutual information {found:.3f} nats" for found in information[picks.positions]])


def mutual_information(logits: npt.NDArray[np.float32]) -> Floats:
    """Of prediction and mask, in nats, for logits (n_labels, samples, n): (n,), 0 to log n_labels.

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
    found: Floats = np.maximum(-(mean * logs).sum(axis=0) - entropies.mean(axis=0), 0)
    return found


def _stochastic(information: Floats, batch: str, beta: float, generator: np.random.Generator) -> Floats:
    """The scores whose largest n are the batch, (n,)."""
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
    """Items whose predicted label changes under more than half of some dropout masks, one from each cluster of them.

    It is the one nearest the centroid of each of n clusters. Where that gives fewer than n (fewer items change or are
    different) those with the most changes follow, the most uncertain first. The score is the share of masks that
    change the label; of equal ones the larger cluster is first.

    The whole pool is seen under `samples` masks, each leaving out a dimension of the last representation with
    probability `dropout`; at most `candidates` of the items that change, drawn uniformly, are clustered by cosine.

    Differs from the source: a mask is the same for all items, and where too few items change the rest is defined.
    """
    (labels,) = _under_masks(pool, samples, dropout, generator, _labels)
    changes = (labels != pool.logits.argmax(axis=1)[:, None]).sum(axis=1).astype(np.float64)
    unsure = uncertainty(pool)
    changes[~np.isfinite(unsure)] = -np.inf
    central, sizes = _centres(pool.vectors, np.flatnonzero(changes > samples / 2), n, candidates, generator)
    left = np.ones(len(pool), bool)
    left[central] = False
    others = np.flatnonzero(left)
    others = others[top(changes[others] + unsure[others] / 2, n - len(central), generator)]
    positions = np.concatenate([central, others])
    said = [
        f"{change:.0f} of {samples} masks change its label" if change >= 0 else "its probabilities are not finite"
        for change in changes[positions]
    ]
    details = [f"{before}; central to {size:,} such items" for before, size in zip(said, sizes, strict=False)]
    details += said[len(central) :]
    order = np.argsort(-changes[positions], kind="stable")
    return Picks(positions[order], changes[positions[order]] / samples, [details[k] for k in order])


def _centres(
    vectors: Vectors, changing: Positions, n: int, candidates: int, generator: np.random.Generator
) -> tuple[Positions, Positions]:
    """The item nearest the centroid of each of at most n clusters, the largest first, and their sizes.

    None where there are no more than n items: all of them are asked then.
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
    """Items predicted unlike the training items nearest to them: mean of KL(p_neighbour || p_item) in nats.

    Near in text, far in prediction: there the decision boundary passes. Probabilities below 1e-7 count as 1e-7, so
    that no score is infinite.

    `candidates` of the pool, and `anchors` of the training items where there are more, are drawn uniformly; each
    candidate is compared with the `neighbours` anchors of highest cosine, all of them where there are fewer. Of
    anchors at the same cosine any may be taken; where the nearest has cosine 0, the score says little.

    Differs from the source: neighbours are found by the encoder's vectors, on candidates and anchors drawn.
    """
    assert pool.head is not None
    among = drawn(np.arange(len(pool)), max(candidates, n), generator)
    chosen = drawn(np.arange(len(pool.training)), max(anchors, 1), generator)
    near, cosines = nearest(
        pool.vectors.take(among), pool.vectors.of(pool.training.tokens.take(chosen)), max(neighbours, 1)
    )
    known = _floored(Calibration(pool.head.temperature).probabilities(pool.training.logits[chosen]))
    negative_entropies = (known * np.log(known)).sum(axis=1)
    mean = sum(known[column] for column in near.T) / near.shape[1]
    scores = negative_entropies[near].mean(axis=1) - (mean * np.log(_floored(pool.probabilities[among]))).sum(axis=1)
    scores[~pool.sound[among]] = -np.inf
    picks = top_picks(scores, n, generator)
    details = [f"cosine {cosine:z.2f} to the nearest training item" for cosine in cosines[picks.positions, 0]]
    return Picks(among[picks.positions], picks.scores, details)


def nearest(vectors: Vectors, anchors: Vectors, k: int) -> tuple[Positions, Matrix]:
    """The k anchors of highest cosine to each of n vectors, the highest first: their positions and cosines, (n, k)."""
    import torch  # commands that only look at a workspace need not pay for it

    positions, cosines = torch.zeros((len(vectors), 0), dtype=torch.int64), torch.zeros((len(vectors), 0))
    for start in range(0, len(anchors), ANCHORS_AT_ONCE):
        rows = anchors.rows(np.arange(start, min(start + ANCHORS_AT_ONCE, len(anchors))))
        found, which = torch.from_numpy(vectors.products(rows)).topk(min(k, len(rows)), dim=1)
        positions, cosines = torch.cat([positions, which + start], dim=1), torch.cat([cosines, found], dim=1)
        cosines, best = cosines.topk(min(k, cosines.shape[1]), dim=1)
        positions = positions.gather(1, best)
    return positions.numpy(), cosines.numpy()


def _floored(probabilities: npt.NDArray[np.float32]) -> Floats:
    return np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY)


def _under_masks(
    pool: Pool, samples: int, dropout: float, generator: np.random.Generator, reduce: Callable[..., tuple[Any, ...]]
) -> tuple[npt.NDArray[Any], ...]:
    """What `reduce` makes of the logits / temperature under each of the masks: float32 (n_labels, samples, m).

    Raises:
        SamplingError: There is no mask to draw.
    """
    if samples < 1 or not 0 <= dropout < 1:
        raise SamplingError(
            f"samples = {samples} and dropout = {dropout} make no dropout masks.",
            hint="samples is a number of masks, 1 or more; dropout a fraction from 0 to below 1",
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
    """The most probable label under each mask, (m, samples)."""
    return (_dropped_logits(bias, temperature, products).argmax(axis=0).T.astype(np.int32),)


def _dropped_logits(bias: npt.NDArray[np.float32], temperature: float, products: Matrix) -> npt.NDArray[np.float32]:
    """Logits / temperature, (n_labels, samples, m), from products (m, n_labels * samples)."""
    logits = np.ascontiguousarray(products.T).reshape(len(bias), products.shape[1] // len(bias), len(products))
    logits += bias[:, None, None]
    logits /= np.float32(temperature)
    return logits
