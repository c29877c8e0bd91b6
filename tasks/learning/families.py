"""Feature families of texts: token vectors, words, characters; what they need of the pool, and how they are combined.

No family is best everywhere: vectors win on short texts with few labels, words on questions and abstracts, characters
where the tokenizer does not cover the language. A `Mix` says how much each counts; `choose_mix` finds it from the
labeled items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.learning.ngrams import (
    CHARACTER_ORDERS,
    WORD_ORDERS,
    count_terms,
    inverse_document_frequencies,
    weighted,
)
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import TokenVectors, unit

Family = Literal["vectors", "flat_vectors", "words", "characters"]
Mix = Mapping[Family, float]
"""How much each family counts; the fractions add up to 1, and a family without any is left out."""

Floats = npt.NDArray[np.float32]
Kernel = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

VECTORS: tuple[Family, ...] = ("vectors", "flat_vectors")

MOST_TO_CHOOSE_BY = 800
"""Labeled items that choose the mix; of more, so many are drawn."""

RIDGE = 0.1
STANDARD_ERRORS = 1.0
"""Mixes that are worse by less than this many standard errors are averaged with the best."""


def _candidates() -> tuple[Mix, ...]:
    parts: list[tuple[int, int, int, int]] = [  # vectors, flat vectors, words, characters
        *[(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)],
        *[(1, 0, 1, 0), (0, 1, 1, 0), (1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)],
        *[(3, 0, 1, 0), (1, 0, 3, 0), (3, 0, 0, 1), (1, 0, 0, 3), (0, 1, 3, 0), (0, 1, 0, 3)],
        *[(0, 0, 1, 3), (0, 0, 3, 1), (1, 0, 1, 1), (0, 1, 1, 1), (3, 0, 1, 1), (1, 0, 3, 1), (1, 0, 1, 3)],
        *[(0, 1, 3, 1), (0, 1, 1, 3), (0, 3, 1, 1)],
        *[(10, 0, 1, 1), (1, 0, 1, 10), (1, 0, 10, 1)],
    ]
    names: tuple[Family, ...] = ("vectors", "flat_vectors", "words", "characters")
    return tuple({name: n / sum(part) for name, n in zip(names, part, strict=True) if n} for part in parts)


CANDIDATES = _candidates()


@dataclass(frozen=True)
class PoolStatistics:
    """What the families need to know of the texts as a whole.

    Attributes:
        centre: Mean direction of the texts' vectors, (d,).
        flat_centre: The same where all token vectors have length 1, (d,).
        word_idf: Inverse document frequency of each bucket, (N_BUCKETS,).
        character_idf: The same for characters; None where the characters were not given.
    """

    centre: Floats
    flat_centre: Floats
    word_idf: Floats
    character_idf: Floats | None


def pool_statistics(table: Floats, tokens: Tokens) -> PoolStatistics:
    """Statistics of the texts of a pool, or of a sample of it.

    Args:
        table: Token vectors (n_tokens, d).
        tokens: The texts, with their characters where models may read those.
    """
    characters = None
    if tokens.characters is not None:
        characters = inverse_document_frequencies(count_terms(tokens.characters, CHARACTER_ORDERS))
    return PoolStatistics(
        directions(table, tokens).mean(axis=0),
        directions(unit(table), tokens).mean(axis=0),
        inverse_document_frequencies(count_terms(tokens, WORD_ORDERS)),
        characters,
    )


def directions(table: Floats, tokens: Tokens) -> Floats:
    """Mean token vector of each text, scaled to length 1, (n, d)."""
    return TokenVectors(tokens, len(table), table).rows(np.arange(len(tokens)))


@dataclass(frozen=True)
class Design:
    """n texts in every family; each text has length 1 in each.

    Attributes:
        rows: Family -> dense (n, d) or sparse (n, N_BUCKETS).
    """

    rows: Mapping[Family, Any]

    def take(self, positions: npt.NDArray[np.int64]) -> Design:
        """The texts at `positions`."""
        return Design({name: rows[positions] for name, rows in self.rows.items()})

    def kernels(self, other: Design) -> dict[Family, Kernel]:
        """Cosines (n, m) of these texts with others in each family."""
        return {name: _products(rows, other.rows[name]) for name, rows in self.rows.items()}


def design(table: Floats, statistics: PoolStatistics, tokens: Tokens) -> Design:
    """Texts in every family for which there is something to compute from."""
    rows: dict[Family, Any] = {
        "vectors": unit(directions(table, tokens) - statistics.centre),
        "flat_vectors": unit(directions(unit(table), tokens) - statistics.flat_centre),
        "words": weighted(count_terms(tokens, WORD_ORDERS), statistics.word_idf).matrix(),
    }
    if tokens.characters is not None and statistics.character_idf is not None:
        terms = count_terms(tokens.characters, CHARACTER_ORDERS)
        rows["characters"] = weighted(terms, statistics.character_idf).matrix()
    return Design(rows)


def _products(left: Any, right: Any) -> Kernel:
    product = left @ right.T
    return np.asarray(product.todense() if hasattr(product, "todense") else product, np.float64)


def mixed(kernels: Mapping[Family, Kernel], mix: Mix) -> Kernel:
    """Sum of the kernels, weighted by a mix."""
    return np.asarray(sum(weight * kernels[name] for name, weight in mix.items()))


def choose_mix(kernels: Mapping[Family, Kernel], labels: Labels, weights: npt.NDArray[np.float64]) -> Mix:
    """How much each family counts, by the labeled items themselves.

    Each candidate is judged by the leave-one-out average precision (mean over the labels) of a ridge regression, which
    costs one matrix inverse. Candidates that are not worse than the best by more than one standard error of the paired
    difference are averaged: with few labels many are, so that chance decides little.

    Args:
        kernels: Family -> cosines (n, n) of the labeled texts.
        labels: Their label numbers, (n,).
        weights: Their weights in the loss, (n,).

    Source: the leave-one-out residual of a linear smoother is residual / (1 - leverage), e.g. Hastie, Tibshirani and
    Friedman (2009), The Elements of Statistical Learning, section 7.10.
    """
    candidates = [mix for mix in CANDIDATES if set(mix) <= set(kernels)]
    names = np.unique(labels)
    targets = (labels[:, None] == names).astype(np.float64)
    shares = _shares(labels)
    precisions = np.stack(
        [_own_precisions(left_one_out(mixed(kernels, mix), targets, weights), targets) for mix in candidates]
    )
    scores = precisions @ shares
    best = int(scores.argmax())
    errors = np.sqrt(np.square((precisions[best] - precisions) * shares).sum(axis=1))
    is_level = scores[best] - scores <= STANDARD_ERRORS * errors
    level = [mix for mix, chosen in zip(candidates, is_level, strict=True) if chosen]
    # A text is looked up in one table of vectors: of the two kinds, the one of the best candidate that has any counts.
    kind = next((name for k in np.argsort(-scores, kind="stable") for name in VECTORS if name in candidates[k]), None)
    level = [mix for mix in level if not set(mix) & (set(VECTORS) - {kind})] or [candidates[best]]
    return {
        name: sum(mix.get(name, 0.0) for mix in level) / len(level)
        for name in kernels
        if any(name in mix for mix in level)
    }


def left_one_out(kernel: Kernel, targets: Kernel, weights: npt.NDArray[np.float64]) -> Kernel:
    """Predictions (n, k) of a weighted kernel ridge regression for each item, fitted to all others.

    Args:
        kernel: (n, n).
        targets: (n, k).
        weights: (n,).
    """
    root = np.sqrt(weights)
    smoother = (kernel + 1) * root[:, None] * root
    smoother[np.diag_indices(len(smoother))] += RIDGE
    inverse = np.linalg.inv(smoother)
    residuals = (inverse @ (root[:, None] * targets)) / np.diag(inverse)[:, None]
    return np.asarray(targets - residuals / root[:, None])


def mean_precision(predicted: Kernel, labels: Labels, than: Kernel) -> tuple[float, float]:
    """By how much one prediction (n, n_labels) has a higher average precision than another, and the standard error.

    The mean over the labels that at least two items have.
    """
    names = np.unique(labels)
    targets = labels[:, None] == names
    better = _own_precisions(predicted[:, names], targets) - _own_precisions(than[:, names], targets)
    better *= _shares(labels)
    return float(better.sum()), float(np.sqrt(np.square(better).sum()))


def _shares(labels: Labels) -> npt.NDArray[np.float64]:
    """Share of each item in a mean over the labels, (n,); 0 for a label's only item, of which nothing can be known."""
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(np.where(counts > 1, 1 / counts, 0)[numbers] / max(1, np.count_nonzero(counts > 1)))


def _own_precisions(predicted: Kernel, targets: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Precision of each item's own label among the items ranked at least as high for it, (n,)."""
    precisions = np.zeros(len(predicted))
    for scores, own in zip(predicted.T, targets.T > 0, strict=True):
        order = np.argsort(-scores, kind="stable")
        hits = own[order]
        precisions[order[hits]] = (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits]
    return precisions
