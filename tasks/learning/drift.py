"""Whether new texts differ from older ones: how well a linear classifier tells them apart, and which words are new.

Source: Rabanser, Guennemann, Lipton (2019), Failing Loudly; the level by permutation, as of Lopez-Paz, Oquab (2017).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

N_PERMUTATIONS = 199


@dataclass(frozen=True)
class Drift:
    """How well older and new texts can be told apart.

    Attributes:
        auc: Area under the ROC curve of predictions for texts left out of the fit; 0.5 where they are alike.
        low: Lower end of its 95% interval.
        high: Upper end.
        p: Fraction of random divisions of the same texts that can be told apart as well or better.
        n_old: Older texts compared.
        n_new: New texts compared.
    """

    auc: float
    low: float
    high: float
    p: float
    n_old: int
    n_new: int

    def fires(self, rate: float, least_auc: float) -> bool:
        """Whether this is drift: significant, and strong enough to matter.

        Args:
            rate: Fraction of false alarms where nothing changed, at most; 1 / (N_PERMUTATIONS + 1) is the least.
            least_auc: What the interval of the AUC has to lie above.
        """
        return self.p <= rate and self.low > least_auc


def drift(
    old: Floats,
    new: Floats,
    generator: np.random.Generator,
    ridge: float = 1.0,
    n_permutations: int = N_PERMUTATIONS,
) -> Drift:
    """Compare two sets of texts.

    A ridge regression of which set a text is of, each text predicted by a fit without it, which one decomposition of
    the features gives for all texts and all permutations at once.

    Args:
        old: Features of older texts, (n, d).
        new: Features of new ones, (m, d).
        ridge: Regularization of features that have unit variance.
        n_permutations: Number of random divisions that p is from; p is 1 with none.

    Returns:
        The comparison; p has steps of 1 / (n_permutations + 1).
    """
    features = np.concatenate([old, new]).astype(np.float64)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-12)
    features = np.hstack([features, np.ones((len(features), 1))])
    is_new = np.arange(len(features)) >= len(old)
    orders = np.column_stack([is_new, *(generator.permutation(is_new) for _ in range(n_permutations))])
    penalty = ridge * len(features) / features.shape[1] * np.eye(features.shape[1])
    penalty[-1, -1] = 1e-9
    inverse = np.linalg.inv(features.T @ features + penalty)
    leverage = np.einsum("ij,jk,ik->i", features, inverse, features)[:, None]
    predicted = features @ (inverse @ (features.T @ orders.astype(np.float64)))
    held_out = (predicted - leverage * orders) / (1 - leverage)
    areas = np.array([_area(held_out[:, k], orders[:, k])[0] for k in range(orders.shape[1])])
    auc, error = _area(held_out[:, 0], is_new)
    p = float(np.mean(areas >= auc - 1e-12))
    return Drift(auc, max(0.0, auc - 1.96 * error), min(1.0, auc + 1.96 * error), p, len(old), len(new))


def _area(scores: Floats, truth: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Area under the ROC curve and its standard error. Source: DeLong, DeLong, Clarke-Pearson (1988)."""
    above = np.sort(scores[~truth]), np.sort(scores[truth])
    of_new = (np.searchsorted(above[0], above[1], "left") + np.searchsorted(above[0], above[1], "right")) / 2
    of_old = (np.searchsorted(above[1], above[0], "left") + np.searchsorted(above[1], above[0], "right")) / 2
    of_new, of_old = of_new / len(above[0]), 1 - of_old / len(above[1])
    variance = of_new.var(ddof=1) / len(of_new) + of_old.var(ddof=1) / len(of_old)
    return float(of_new.mean()), float(np.sqrt(variance))


LEAST_TEXTS = 5
"""Minimum number of older and new texts with a word for the word to be compared."""


@dataclass(frozen=True)
class NewWord:
    """A word that is more frequent in new texts than in older ones: the fraction of each that have it."""

    word: str
    old: float
    new: float


def new_words(old: Sequence[str], new: Sequence[str], rate: float) -> list[NewWord]:
    """The words that are significantly more frequent in the new texts, most significant first.

    Fisher's exact test, one-sided, of each word that at least `LEAST_TEXTS` texts have; Bonferroni over these.

    Args:
        rate: Probability that any word is named where nothing changed, at most.

    >>> new_words(["calm seas"] * 20, ["calm seas"] * 5 + ["rough seas"] * 15, 0.01)
    [NewWord(word='rough', old=0.0, new=0.75)]
    """
    of_old, of_new = (Counter(word for text in texts for word in _words(text)) for texts in (old, new))
    both = of_old + of_new
    compared = [word for word, n in both.items() if n >= LEAST_TEXTS]
    p = {word: _at_least(of_new[word], both[word], len(new), len(old)) for word in compared}
    significant = sorted((p[word], word) for word in compared if p[word] * len(compared) <= rate)
    return [NewWord(word, of_old[word] / len(old), of_new[word] / len(new)) for _, word in significant]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]\w+", text.casefold()))


def _at_least(k: int, n_with: int, n_new: int, n_old: int) -> float:
    """Probability that k or more of `n_with` texts drawn at random are new: the hypergeometric tail."""

    def ways(n: int, m: int) -> float:
        return lgamma(n + 1) - lgamma(m + 1) - lgamma(n - m + 1)

    whole = ways(n_new + n_old, n_with)
    counts = range(max(k, n_with - n_old), min(n_with, n_new) + 1)
    return min(1.0, sum(exp(ways(n_new, count) + ways(n_old, n_with - count) - whole) for count in counts))
