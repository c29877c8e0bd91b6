"""Why a strategy chose an item, in words: its own reason, the labelled item most like it, what the model says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tasks.sampling.strategy import Pool, Ranking

ITEMS_AT_ONCE = 500


def reasons(pool: Pool, ranking: Ranking, labels: Sequence[str], training_texts: Sequence[str]) -> list[str]:
    """One line for each item of a ranking.

    Args:
        labels: Names of the labels, by number.
        training_texts: Those of `pool.training`, in its order.
    """
    positions = pool.positions_of(ranking.item_ids)
    details = ranking.details or [f"score {score:.3f}" for score in ranking.scores]
    likes = _most_like(pool, positions, labels, training_texts)
    says = _model_says(pool, positions, labels)
    return ["; ".join(part for part in parts if part) for parts in zip(details, likes, says, strict=True)]


def _most_like(pool: Pool, positions: npt.NDArray[np.int64], labels: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The training item nearest to each item, with its label and the cosine; nothing where none is near at all."""
    training = pool.vectors.of(pool.training.tokens)
    said: list[str] = []
    for start in range(0, len(positions), ITEMS_AT_ONCE):
        part = positions[start : start + ITEMS_AT_ONCE]
        if not texts:
            said += [""] * len(part)
            continue
        cosines = training.products(pool.vectors.rows(part))
        for column, k in enumerate(cosines.argmax(axis=0)):
            label, cosine = labels[pool.training.labels[k]], cosines[k, column]
            near = f'closest training item: "{" ".join(texts[k].split())}" ({label}, cosine {cosine:.2f})'
            said.append(near if cosine > 0 else "")
    return said


def _model_says(pool: Pool, positions: npt.NDArray[np.int64], labels: Sequence[str]) -> list[str]:
    """The probability of the positive label; of the most probable one where no label is positive."""
    if not pool.probabilities.shape[1]:
        return [""] * len(positions)
    rows = pool.probabilities[positions]
    shown = rows.argmax(axis=1) if pool.positive is None else np.full(len(rows), pool.positive)
    return [f"model: {labels[k]} {row[k]:.2f}" for k, row in zip(shown, rows, strict=True)]
