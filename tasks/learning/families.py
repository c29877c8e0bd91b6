"""Feature families of texts: token vectors, words, characters, sentence vectors; and how much each of them counts.

No family is best everywhere: vectors win on short texts with few labels, words on questions and abstracts, characters
where the tokenizer does not cover the language, sentence vectors on short English texts. A `Mix` says how much each
counts; `choose_mix` finds it from the labeled items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.learning.encoders import FRAGMENTS_WITHOUT_WORDS, Encoder, WordPieces, fragments_per_letter
from tasks.learning.ngrams import (
    ORDERS,
    ORDERS_WITHOUT_SPACES,
    Terms,
    count_terms,
    document_frequencies,
    inverse_document_frequencies,
    is_without_spaces,
    stream_of,
    weighted,
)
from tasks.learning.sentences import directions_of
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import TokenVectors, unit

Family = Literal["vectors", "flat_vectors", "words", "characters", "sentences"]
Mix = Mapping[Family, float]
"""How much each family counts; the fractions add up to 1, and a family without any is left out."""

Floats = npt.NDArray[np.float32]
Kernel = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

VECTORS: tuple[Family, ...] = ("vectors", "flat_vectors")

MOST_TO_CHOOSE_BY = 800
"""Labeled items that choose the mix; of more, so many are drawn."""

RIDGE = 0.1
USUAL_MIX: Mix = {"vectors": 0.5, "words": 0.25, "characters": 0.25}
"""On nine sets with one to four rare items among 100 it ranks them as well as any other mix, or better."""

CHARACTERS_ALONE: Mix = {"characters": 1.0}
"""The mix where the tokenizer finds no words: whatever else a few labeled items prefer is chance."""

FEWEST_TO_CHOOSE_BY = 5
"""Items beside those of the most frequent label; fewer choose nothing, and the usual mix is taken."""

STANDARD_ERRORS = 1.0
"""Mixes that are worse than the best by no more than this are averaged with it."""

LEAST_ERROR = 0.5
"""Of an average precision, per item beside those of the most frequent label: few that all rank high say little."""


def _candidates() -> tuple[Mix, ...]:
    parts: list[tuple[int, ...]] = [  # vectors, flat vectors, words, characters, sentences
        *[(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)],
        *[(1, 0, 1, 0), (0, 1, 1, 0), (1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)],
        *[(3, 0, 1, 0), (1, 0, 3, 0), (3, 0, 0, 1), (1, 0, 0, 3), (0, 1, 3, 0), (0, 1, 0, 3)],
        *[(0, 0, 1, 3), (0, 0, 3, 1), (1, 0, 1, 1), (0, 1, 1, 1), (3, 0, 1, 1), (1, 0, 3, 1), (1, 0, 1, 3)],
        *[(0, 1, 3, 1), (0, 1, 1, 3), (0, 3, 1, 1)],
        *[(10, 0, 1, 1), (1, 0, 1, 10), (1, 0, 10, 1)],
        *[(0, 0, 0, 0, 1), (0, 0, 1, 0, 1), (0, 0, 0, 1, 1), (0, 0, 1, 1, 1), (1, 0, 0, 0, 1), (0, 1, 0, 0, 1)],
        *[(0, 0, 1, 0, 3), (0, 0, 0, 1, 3), (1, 0, 0, 0, 3), (0, 0, 1, 1, 4), (1, 0, 1, 0, 2), (0, 1, 1, 0, 2)],
        *[(1, 0, 0, 1, 2), (0, 1, 0, 1, 2), (1, 0, 1, 1, 3), (0, 1, 1, 1, 3), (0, 0, 1, 1, 10)],
    ]
    names: tuple[Family, ...] = ("vectors", "flat_vectors", "words", "characters", "sentences")
    return tuple({name: n / sum(part) for name, n in zip(names, part, strict=False) if n} for part in parts)


CANDIDATES = _candidates()


@dataclass(frozen=True)
class Vocabulary:
    """What the labeled items say of the features.

    Attributes:
        centres: Family of vectors -> mean direction of the texts in it, (d,).
        idf: Lexical family -> inverse document frequency of each bucket, (N_BUCKETS,); 0 for one that no item has.
        orders: Lexical family -> lengths of its n-grams.
    """

    centres: Mapping[Family, Floats]
    idf: Mapping[Family, Floats]
    orders: Mapping[Family, tuple[int, ...]]


@dataclass(frozen=True)
class Design:
    """n labeled texts in every family; each text has length 1 in each.

    Attributes:
        rows: Family -> dense (n, d) or sparse (n, N_BUCKETS).
        unseen: Lexical family -> by how much longer a text would be if the n-grams that only it has were unknown, as
            they are when it is held out, (n,).
        usual: The mix where the labels are too few to choose one, or where the tokenizer finds no words.
    """

    rows: Mapping[Family, Any]
    unseen: Mapping[Family, npt.NDArray[np.float64]]
    usual: Mix = field(default_factory=lambda: USUAL_MIX)

    def take(self, positions: npt.NDArray[np.int64]) -> Design:
        """The texts at `positions`."""
        unseen = {name: factors[positions] for name, factors in self.unseen.items()}
        return Design({name: rows[positions] for name, rows in self.rows.items()}, unseen, self.usual)

    def kernels(self) -> dict[Family, Kernel]:
        """Cosines (n, n) of the texts in each family."""
        return {name: _products(rows) for name, rows in self.rows.items()}


def directions(table: Floats, tokens: Tokens) -> Floats:
    """Mean token vector of each text, scaled to length 1, (n, d)."""
    return TokenVectors(tokens, len(table), table).rows(np.arange(len(tokens)))


def design(encoder: Encoder, tokens: Tokens) -> tuple[Design, Vocabulary]:
    """Labeled texts in every family for which there is something to compute from.

    N-grams that no labeled item has are left out of a text's length: their weights would be 0. Counting them made
    texts with few known words look alike; on seven sets of texts they cost up to .05 of average precision.

    Args:
        encoder: One with token vectors.
        tokens: The texts, with their characters and sentence vectors where those may be read.
    """
    table, pieces = encoder.vectors(), encoder.pieces()
    assert table is not None
    vectors: dict[Family, Floats] = {
        "vectors": directions(table, tokens),
        "flat_vectors": directions(unit(table), tokens),
    }
    if tokens.sentences is not None:
        vectors["sentences"] = directions_of(tokens.sentences)
    centres = {name: each.mean(axis=0) for name, each in vectors.items()}
    rows: dict[Family, Any] = {name: unit(each - centres[name]) for name, each in vectors.items()}
    unseen: dict[Family, npt.NDArray[np.float64]] = {}
    idf: dict[Family, Floats] = {}
    usual, orders = _usual(encoder, tokens)
    for name in orders:
        terms = count_terms(stream_of(name, tokens, pieces), orders[name])
        idf[name] = inverse_document_frequencies(terms)
        rows[name] = weighted(terms, idf[name]).matrix()
        unseen[name] = _unseen_factors(terms, idf[name])
    return Design(rows, unseen, usual), Vocabulary(centres, idf, orders)


def _usual(encoder: Encoder, tokens: Tokens) -> tuple[Mix, dict[Family, tuple[int, ...]]]:
    """The usual mix, and the lengths of the n-grams of each lexical family that can be read."""
    orders: dict[Family, tuple[int, ...]] = {"words": ORDERS["words"]}
    if tokens.characters is None:
        return {"vectors": 2 / 3, "words": 1 / 3}, orders
    if finds_words(encoder, tokens):
        return USUAL_MIX, orders | {"characters": ORDERS["characters"]}
    if is_without_spaces(tokens.characters):
        return CHARACTERS_ALONE, orders | {"characters": ORDERS_WITHOUT_SPACES}
    return CHARACTERS_ALONE, orders | {"characters": ORDERS["characters"]}


def finds_words(encoder: Encoder, tokens: Tokens) -> bool:
    """Whether an encoder's tokens are more than letters of texts that come with their characters."""
    if not isinstance(encoder, WordPieces) or tokens.characters is None:
        return True
    codes, counts = np.unique(tokens.characters.ids, return_counts=True)
    n_letters = sum(n for code, n in zip(codes.tolist(), counts.tolist(), strict=True) if chr(code).isalnum())
    return fragments_per_letter(encoder, n_letters, tokens) < FRAGMENTS_WITHOUT_WORDS


def _unseen_factors(terms: Terms, idf: Floats) -> npt.NDArray[np.float64]:
    squares = np.square(terms.counts * idf[terms.buckets], dtype=np.float64)
    shared = np.where(document_frequencies(terms)[terms.buckets] > 1, squares, 0)
    text = np.repeat(np.arange(len(terms)), np.diff(terms.offsets))
    whole, known = np.bincount(text, squares, len(terms)), np.bincount(text, shared, len(terms))
    return np.sqrt(np.where(known > 0, whole, 1) / np.where(known > 0, known, 1))


def _products(rows: Any) -> Kernel:
    product = rows @ rows.T
    return np.asarray(product.todense() if hasattr(product, "todense") else product, np.float64)


def mixed(kernels: Mapping[Family, Kernel], mix: Mix, factors: Mapping[Family, Any] | None = None) -> Kernel:
    """Sum of the kernels, weighted by a mix; the rows of each multiplied by its factors, where it has any."""
    parts = []
    for name, weight in mix.items():
        factor = (factors or {}).get(name)
        parts.append(weight * (kernels[name] if factor is None else factor[:, None] * kernels[name]))
    return np.asarray(sum(parts))


def choose_mix(texts: Design, labels: Labels, weights: npt.NDArray[np.float64]) -> Mix:
    """How much each family counts, by the labeled items themselves.

    Each candidate is judged by the leave-one-out average precision (mean over the labels) of a ridge regression, which
    costs one matrix inverse. Candidates that are worse than the best by no more than one standard error of the paired
    difference are averaged with it: with few labels many are, so that chance decides little. Where tokens are mere
    letters, characters alone are the mix.

    Args:
        texts: The labeled texts.
        labels: Their label numbers, (n,).
        weights: Their weights in the loss, (n,).

    Source: the leave-one-out residual of a linear smoother is residual / (1 - leverage), e.g. Hastie, Tibshirani and
    Friedman (2009), The Elements of Statistical Learning, section 7.10.
    """
    if texts.usual == CHARACTERS_ALONE or few_to_choose_by(labels):
        return texts.usual
    kernels = texts.kernels()
    candidates = [mix for mix in CANDIDATES if set(mix) <= set(kernels)]
    names = np.unique(labels)
    targets = (labels[:, None] == names).astype(np.float64)
    shares = _shares(labels)
    predicted = [
        left_one_out(mixed(kernels, mix), mixed(kernels, mix, texts.unseen), targets, weights) for mix in candidates
    ]
    precisions = np.stack([_own_precisions(predictions, targets) for predictions in predicted])
    scores = precisions @ shares
    best = int(scores.argmax())
    least = LEAST_ERROR / (len(labels) - np.bincount(labels).max())
    errors = np.hypot(np.sqrt(np.square((precisions[best] - precisions) * shares).sum(axis=1)), least)
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


def few_to_choose_by(labels: Labels) -> bool:
    """Whether the labels (n,) are too one-sided to choose anything by."""
    return bool(len(labels) - np.bincount(labels).max() < FEWEST_TO_CHOOSE_BY)


def left_one_out(kernel: Kernel, held_out: Kernel, targets: Kernel, weights: npt.NDArray[np.float64]) -> Kernel:
    """Predictions (n, k) of a weighted kernel ridge regression for each item, fitted to all others.

    Args:
        kernel: (n, n).
        held_out: The same, each row as it is when that item is held out.
        targets: (n, k).
        weights: (n,).
    """
    root = np.sqrt(weights)
    smoother = (kernel + 1) * root[:, None] * root
    smoother[np.diag_indices(len(smoother))] += RIDGE
    inverse = np.linalg.inv(smoother)
    solved = inverse @ (root[:, None] * targets)
    rows = (held_out + 1) * root
    np.fill_diagonal(rows, 0)
    own = np.einsum("ij,ji->i", rows, inverse) / np.diag(inverse)
    return np.asarray(rows @ solved - own[:, None] * solved)


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
