"""Strategies that query the items about which the model is least certain, and the baseline `random`.

For two labels the four uncertainty scores give the same ranking; all are provided because they are well known.
Scores are 0 (certain) to 1 (uniform); an item whose probabilities are not finite has score -inf and comes last.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tasks.sampling.strategy import Floats, Picks, Pool, strategy, top_picks

_SETTLES = "Settles (2009), Active Learning Literature Survey"

Probabilities = npt.NDArray[np.float32]


@strategy(unbiased=True, cost="O(n)", source="uniform")
def random(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """A uniform sample of the pool, the only unbiased one."""
    return Picks(generator.choice(len(pool), n, replace=False), np.zeros(n), ["drawn at random"] * n)


@strategy(needs=["model"], substitute="random", cost="O(n)", source=_SETTLES)
def least_confidence(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Distance of the highest probability from 1: (1 - p1) * n_labels / (n_labels - 1)."""
    return _ranked(least_confidence_scores, pool, n, generator)


@strategy(
    needs=["model"], substitute="random", cost="O(n)", source="Scheffer et al. (2001), Active Hidden Markov Models"
)
def margin_confidence(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Closeness of the two highest probabilities: 1 - (p1 - p2)."""
    return _ranked(margin_confidence_scores, pool, n, generator)


@strategy(
    needs=["model"], substitute="random", cost="O(n)", source="Munro (2021), Human-in-the-Loop Machine Learning, ch. 3"
)
def ratio_confidence(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Ratio of the two highest probabilities: p2 / p1."""
    return _ranked(ratio_confidence_scores, pool, n, generator)


@strategy(needs=["model"], substitute="random", cost="O(n)", source=_SETTLES)
def entropy(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Entropy of the prediction relative to its maximum: -sum p log p / log n_labels."""
    return _ranked(entropy_scores, pool, n, generator)


def least_confidence_scores(probabilities: Probabilities) -> Floats:
    """Return the scores (n,) of probabilities (n, n_labels).

    >>> least_confidence_scores(np.array([[0.9, 0.1], [0.5, 0.5]], np.float32)).round(3).tolist()
    [0.2, 1.0]
    """
    n_labels = probabilities.shape[1]
    scores: Floats = (1 - probabilities.max(axis=1).astype(np.float64)) * n_labels / (n_labels - 1)
    return scores


def margin_confidence_scores(probabilities: Probabilities) -> Floats:
    """Return the scores (n,) of probabilities (n, n_labels)."""
    first, second = _two_largest(probabilities)
    return 1 - (first - second)


def ratio_confidence_scores(probabilities: Probabilities) -> Floats:
    """Return the scores (n,) of probabilities (n, n_labels)."""
    first, second = _two_largest(probabilities)
    return second / first


def entropy_scores(probabilities: Probabilities) -> Floats:
    """Return the scores (n,) of probabilities (n, n_labels); 0 log 0 is 0.

    >>> entropy_scores(np.array([[1.0, 0.0], [0.5, 0.5]], np.float32)).tolist()
    [0.0, 1.0]
    """
    wide = probabilities.astype(np.float64)
    logs = np.log(wide, out=np.zeros_like(wide), where=wide > 0)
    scores: Floats = np.abs((wide * logs).sum(axis=1)) / np.log(probabilities.shape[1])
    return scores


def _two_largest(probabilities: Probabilities) -> tuple[Floats, Floats]:
    largest = np.partition(probabilities, probabilities.shape[1] - 2, axis=1)[:, -2:].astype(np.float64)
    return largest[:, 1], largest[:, 0]


def uncertainty(pool: Pool) -> Floats:
    """Return the uncertainty of each item by least confidence, (n,); used by strategies that start with it."""
    return _of_sound_rows(least_confidence_scores, pool)


def _ranked(score: Callable[[Probabilities], Floats], pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    return top_picks(_of_sound_rows(score, pool), n, generator)


def _of_sound_rows(score: Callable[[Probabilities], Floats], pool: Pool) -> Floats:
    sound = pool.sound
    if sound.all():
        return score(pool.probabilities)
    scores = np.full(len(pool), -np.inf)
    scores[sound] = score(pool.probabilities[sound])
    return scores
