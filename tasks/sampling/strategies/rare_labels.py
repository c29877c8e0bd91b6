"""Strategies for rare labels: similar to labeled items, similar to keywords, or the same number for each label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from storage.errors import SamplingError
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import SLICE_TEXTS, Matrix, Vectors
from tasks.sampling.strategies.clusters import plus_plus
from tasks.sampling.strategies.coverage import highest_cosines
from tasks.sampling.strategy import Floats, Picks, Pool, Positions, find_strategy, runnable, strategy, top, top_picks

ANCHORS_AT_ONCE = 20

Mask = npt.NDArray[np.bool_]


@strategy(
    needs=["model", "positive label"], substitute="keyword", cost="O(n)", source="van de Schoot et al. (2021), ASReview"
)
def max_positive(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """The highest probability of the positive label: finds positives fastest, but trains a worse model.

    Use it if the items themselves are the goal and not the model, since it queries what the model already knows.
    """
    return top_picks(np.where(pool.sound, pool.probabilities[:, pool.positive or 0], -np.inf), n, generator)


@strategy(
    needs=["keywords"],
    substitute="random",
    cost="O(n x keywords)",
    source="Ein-Dor et al. (2020), Active Learning for BERT",
)
def keyword(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """The highest cosine of the item with a keyword, + 1 if it contains one: all tokens of the keyword in sequence.

    Scores are -1 to 2. An item without known tokens has score -inf; a keyword without any is ignored. Keywords are
    numbered from 1, in the order of the setting.

    Differs from the source: the source samples texts that match a query; here these come first, then similar ones.
    """
    usable = np.flatnonzero(pool.keywords.lengths > 0)
    runs = _texts(pool.keywords.take(usable))
    words = pool.vectors.of(pool.keywords.take(usable))
    contains = np.zeros(len(pool), np.bool_)
    for ids in runs:
        contains |= pool.tokens.contain(ids)
    scores = highest_cosines(pool.vectors, words) + contains
    picks = top_picks(np.where((pool.vectors.squared_norms > 0) & (len(words) > 0), scores, -np.inf), n, generator)
    if not len(words):
        return picks
    texts = pool.vectors.take(picks.positions)
    cosines = np.concatenate([texts.products(words.rows(np.array([k]))) for k in range(len(words))], axis=1)
    contained = np.stack([texts.tokens.contain(ids) for ids in runs], axis=1)
    nearest = (cosines + 3 * contained).argmax(axis=1)
    names = pool.keyword_names or [f"keyword {k + 1}" for k in range(len(pool.keywords))]
    details = [
        f"contains {names[usable[k]]}" if run[k] else f"cosine {cosine[k]:.2f} with {names[usable[k]]}"
        for k, run, cosine in zip(nearest, contained, cosines, strict=True)
    ]
    return Picks(picks.positions, picks.scores, details)


@strategy(
    needs=["training items"],
    substitute="random",
    adaptive=True,
    cost="O(n x anchors), then that of the other strategy on `size` items",
    source="Lesci and Vlachos (2024), AnchorAL",
)
def anchor(
    pool: Pool,
    n: int,
    generator: np.random.Generator,
    *,
    anchors: int = 10,
    neighbours: int = 50,
    size: int = 1_000,
    score: str = "least_confidence",
) -> Picks:
    """Another strategy on the part of the pool that is most similar to a few training items of each label.

    Anchors are drawn from the training items of each label by k-means++ on their vectors. Each anchor retrieves the
    pool items with the highest cosine; the similarity of an item is its mean cosine with the anchors that retrieved it.
    The other strategy, or its substitute if a need is not met, runs on the most similar items and determines the
    scores.

    Args:
        anchors: Anchors per label; fewer if a label has fewer distinct training items.
        neighbours: Pool items that each anchor retrieves.
        size: Size of the part of the pool, at least n; if fewer items are retrieved, those with the highest cosines
            are added up to n.
        score: Name of the other strategy, which runs with its default options.

    Differs from the source: neighbors are exact, not approximate.

    Raises:
        SamplingError: `score` is this strategy or is unknown.
    """
    _refuse_itself("anchor", score)
    usable = np.flatnonzero(pool.vectors.of(pool.training.tokens).squared_norms > 0)
    directions = np.concatenate(
        [
            _anchors(pool, usable[pool.training.labels[usable] == label], max(anchors, 1), generator)
            for label in np.unique(pool.training.labels[usable])
        ]
        or [np.zeros((1, pool.vectors.width), np.float32)]
    )
    votes, totals, best = _retrieved(pool.vectors, directions, min(max(neighbours, 1), len(pool)), generator)
    retrieved = np.flatnonzero(votes)
    similarity = totals[retrieved] / votes[retrieved]
    part = retrieved[top(similarity, min(len(retrieved), max(size, n, 1)), generator)]
    if len(part) < n:
        others = np.where(votes > 0, -np.inf, best)
        part = np.concatenate([part, top(others, n - len(part), generator)])
    picks = _run(score, pool, np.sort(part), n, generator)
    details = picks.details or [
        f"similar to {votes[position]} of {len(directions)} anchors, highest cosine {best[position]:.2f}"
        for position in picks.positions
    ]
    return Picks(picks.positions, picks.scores, details)


@strategy(
    needs=["model"],
    substitute="random",
    adaptive=True,
    cost="O(n) and that of the other strategy",
    source="Munro (2021), Human-in-the-Loop Machine Learning, ch. 4",
)
def per_label(pool: Pool, n: int, generator: np.random.Generator, *, score: str = "least_confidence") -> Picks:
    """Another strategy on the items of each predicted label: the same number of each, the rarest label first.

    If a label is predicted for too few items, the others fill its share. Every prefix of the ranking is as balanced as
    the whole; scores are those of the other strategy within the label. Items whose probabilities are not finite come
    last, in random order, with score -inf.

    Args:
        score: Name of the other strategy, which runs with its default options.

    Raises:
        SamplingError: `score` is this strategy or is unknown.
    """
    _refuse_itself("per_label", score)
    n_labels = pool.probabilities.shape[1]
    sound = pool.sound
    predicted = np.full(len(pool), n_labels)
    predicted[sound] = pool.probabilities[sound].argmax(axis=1)
    counts = np.bincount(predicted, minlength=n_labels + 1)[:n_labels]
    rarest_first = np.argsort(counts, kind="stable")
    ranked: list[tuple[int, int, int, float, str]] = []
    for turn, (label, number) in enumerate(zip(rarest_first, even_shares(counts[rarest_first], n), strict=True)):
        if number:
            picks = _run(score, pool, np.flatnonzero(predicted == label), int(number), generator)
            reason = f"predicted as label {label + 1} of {n_labels}, as are {counts[label]:,} items"
            details = picks.details or [reason] * len(picks.positions)
            rows = zip(picks.positions, picks.scores, details, strict=True)
            ranked += [(rank, turn, int(k), float(value), detail) for rank, (k, value, detail) in enumerate(rows)]
    rest = generator.permutation(np.flatnonzero(~sound))[: n - len(ranked)]
    ordered = sorted(ranked) + [(n, n_labels, int(k), -np.inf, "its probabilities are not finite") for k in rest]
    return Picks(
        np.array([row[2] for row in ordered], np.int64),
        np.array([row[3] for row in ordered]),
        [row[4] for row in ordered],
    )


def even_shares(counts: Positions, n: int) -> list[int]:
    """Divide n items among labels with at most `counts` (n_labels,) items, ascending; the first get the remainder.

    >>> even_shares(np.array([1, 40, 50]), 12)
    [1, 6, 5]
    """
    shares: list[int] = []
    for label, count in enumerate(counts):
        shares.append(min(int(count), -(-(n - sum(shares)) // (len(counts) - label))))
    return shares


def _texts(tokens: Tokens) -> Sequence[npt.NDArray[np.uint16]]:
    """Return the token ids of each text."""
    return np.split(tokens.ids, tokens.offsets[1:-1]) if len(tokens) else []


def _anchors(pool: Pool, members: Positions, anchors: int, generator: np.random.Generator) -> Matrix:
    """Return the vectors of some of the training items at `members`, (at most anchors, width)."""
    vectors = pool.vectors.of(pool.training.tokens.take(members))
    return vectors.rows(plus_plus(vectors, anchors, generator))


def _retrieved(
    vectors: Vectors, directions: Matrix, k: int, generator: np.random.Generator
) -> tuple[Positions, Floats, Floats]:
    """Return for n texts how many anchors retrieve each, the sum of these cosines, and the highest of all, (n,)."""
    votes, totals, best = np.zeros(len(vectors), np.int64), np.zeros(len(vectors)), np.full(len(vectors), -np.inf)
    for start in range(0, len(directions), ANCHORS_AT_ONCE):
        cosines = vectors.products(directions[start : start + ANCHORS_AT_ONCE])
        best = np.maximum(best, cosines.max(axis=1))
        for column in cosines.T:
            part = column[:SLICE_TEXTS]  # the k-th highest of a part is at most the k-th highest of all
            floor = np.partition(part, len(part) - k)[len(part) - k] if k <= len(part) else -np.inf
            hits = np.flatnonzero(column >= floor)
            nearest = hits[top(column[hits], k, generator)]
            votes[nearest] += 1
            totals[nearest] += column[nearest]
    return votes, totals, best


def _run(name: str, pool: Pool, part: Positions, n: int, generator: np.random.Generator) -> Picks:
    """Return n picks of another strategy, or of its substitute, from the items at `part`, as positions in the pool."""
    subset = pool.take(part)
    used, missing = runnable(name, subset)
    positions, scores, details = used.select(subset, n, generator)
    if missing:
        details = [f"by {used.name}: {name} needs {missing}"] * n
    return Picks(part[positions], scores, details)


def _refuse_itself(name: str, score: str) -> None:
    if score == name:
        hint = 'Name another strategy: score = "least_confidence"'
        raise SamplingError(f"{name}: the option score must not be {name} itself.", hint=hint)
    find_strategy(score)
