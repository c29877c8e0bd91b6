"""Strategies that put a new two-way layer on the model's hidden layer: right or wrong, known or new.

Both kinds of item weigh the same in that layer, so 0.5 is the even bet however rare one kind is. The layer is learned
on dense rows of the labelled items; of the pool only products with its weights are asked for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.learning.vectors import Matrix, Vectors
from tasks.sampling.logistic import Logistic, fit_logistic, sigmoid
from tasks.sampling.strategy import Floats, Picks, Pool, drawn, strategy, top

_MUNRO = "Munro (2021), Human-in-the-Loop Machine Learning, ch. 5"


@strategy(
    needs=["model", "right and wrong validation items"],
    substitute="least_confidence",
    cost="O(n + validation items x width)",
    source=_MUNRO,
)
def transfer_uncertainty(pool: Pool, n: int, generator: np.random.Generator) -> Picks:
    """Most likely wrong, as a new layer learned it from the validation items that the model gets right and wrong.

    The score is that layer's probability, 0 to 1, that the model's most probable label is not the item's.

    Differs from the source: all validation items are learned from, to the optimum and with L2, not 100 of each kind
    for 10 epochs; and its code sorts by how likely the model is right.
    """
    hidden, rows, wrong = _validated(pool)
    return _most_likely(fit_logistic(rows, wrong), hidden, n, generator, "likely wrong")


@strategy(
    needs=["model", "training items"],
    substitute="representative",
    cost="O(n + (training items + candidates) x width)",
    source=_MUNRO,
)
def transfer_representative(pool: Pool, n: int, generator: np.random.Generator, *, candidates: int = 2000) -> Picks:
    """Most like the pool and least like the training items, as a new layer learned to tell the two apart.

    The score is that layer's probability, 0 to 1, that the item is of the pool. The whole pool is scored.

    Args:
        candidates: Items, drawn uniformly, that stand for the pool where the layer is learned; at least 1.

    Differs from the source: both sides weigh the same, whatever their sizes.
    """
    hidden = _hidden(pool)
    among = drawn(np.arange(len(pool)), max(1, candidates), generator)
    known = _all_rows(hidden.of(pool.training.tokens))
    of_pool = np.arange(len(known) + len(among)) >= len(known)
    layer = fit_logistic(np.concatenate([known, hidden.rows(among)]), of_pool)
    return _most_likely(layer, hidden, n, generator, "of the pool rather than of training")


@strategy(
    needs=["model", "right and wrong validation items"],
    substitute="least_confidence",
    adaptive=True,
    cost="O(n + picks x (candidates + vocabulary x width))",
    source="Munro (2021), Human-in-the-Loop Machine Learning, ch. 5 (ATLAS)",
)
def atlas(pool: Pool, n: int, generator: np.random.Generator, *, step: int = 10, candidates: int = 10_000) -> Picks:
    """`transfer_uncertainty` that expects its picks to be learned: they join as 'will be right', and it learns anew.

    The score, 0 to 1, is the layer's probability of wrong x (1 - c^2), where c is the largest cosine, at least 0, of
    the text to those picked before: what is like a text that will be known will be known too. c counts after every
    pick, so near-copies are not both picked while anything else has a chance to be wrong; two texts without known
    tokens are copies.

    Args:
        step: After how many picks the layer is fitted again; at least 1.
        candidates: Items, the most likely wrong before the first pick, that it chooses among once the whole pool is
            scored; never fewer than n.

    Differs from the source: c, without which one pick among many wrong items of its kind changes next to nothing, and
    all of a step are near-copies; and, as in `transfer_uncertainty`, what is most likely wrong is picked.
    """
    hidden, rows, wrong = _validated(pool)
    at_first = fit_logistic(rows, wrong).logits(hidden)
    chosen = top(at_first, min(len(pool), max(n, candidates)), generator)
    same, logits = hidden is pool.vectors, at_first[chosen]
    vectors = pool.vectors.take(chosen).kept()
    hidden = vectors if same else hidden.take(chosen).kept()
    cosines, left = np.zeros(len(chosen)), np.arange(len(chosen))
    picks: list[int] = []
    scores: list[float] = []
    details: list[str] = []
    for k in range(n):
        if k and k % max(1, step) == 0:
            known = np.concatenate([rows, hidden.rows(np.array(picks))])
            logits = fit_logistic(known, np.append(wrong, np.zeros(k, np.bool_))).logits(hidden)
        now = np.where(np.isfinite(logits[left]), sigmoid(logits[left]) * (1 - cosines[left] ** 2), -np.inf)
        first = int(now.argmax())
        pick = int(left[first])
        picks.append(pick)
        scores.append(now[first])
        details.append(f"likely wrong: {sigmoid(logits[pick]):.0%}; cosine to the picks before it: {cosines[pick]:.2f}")
        left = np.delete(left, first)
        cosines = np.maximum(cosines, _cosines_to(vectors, pick))
    return Picks(chosen[picks], np.array(scores), details)


def _hidden(pool: Pool) -> Vectors:
    assert pool.hidden is not None  # there is a model
    return pool.hidden


def _all_rows(vectors: Vectors) -> Matrix:
    return vectors.rows(np.arange(len(vectors)))


def _validated(pool: Pool) -> tuple[Vectors, Matrix, npt.NDArray[np.bool_]]:
    """The pool's hidden layer; that of the m validation items, (m, width); and whether the model gets each wrong."""
    hidden = _hidden(pool)
    wrong = pool.validation.logits.argmax(axis=1) != pool.validation.labels
    return hidden, _all_rows(hidden.of(pool.validation.tokens)), wrong


def _most_likely(layer: Logistic, hidden: Vectors, n: int, generator: np.random.Generator, what: str) -> Picks:
    logits = layer.logits(hidden)
    positions = top(logits, n, generator)
    found = logits[positions]
    details = [f"{what}: {p:.0%}" if np.isfinite(p) else "its representation is not finite" for p in sigmoid(found)]
    return Picks(positions, np.where(np.isfinite(found), sigmoid(found), -np.inf), details)


def _cosines_to(vectors: Vectors, pick: int) -> Floats:
    """Of n texts to one of them, (n,), at least 0; texts without known tokens have cosine 1 to each other."""
    empty = vectors.squared_norms == 0
    products = empty if empty[pick] else vectors.products(vectors.rows(np.array([pick])))[:, 0]
    cosines: Floats = np.clip(products.astype(np.float64), 0, 1)
    return cosines
