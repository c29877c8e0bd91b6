"""Strategies that ask what leaves every output of the model quieter than the validation items do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.sampling.strategies.uncertainty import uncertainty
from tasks.sampling.strategy import Floats, Picks, Pool, strategy, top

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
