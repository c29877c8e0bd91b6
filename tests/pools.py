"""Pools for the tests of sampling strategies: every array in them refuses to be written to."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.learning.tokens import Tokens
from tasks.learning.vectors import TokenVectors, unit
from tasks.sampling.strategy import Head, Labelled, Pool, Ranking, find_strategy
from tasks.scale.shards import ShardedVectors

NOT_LABELLED = Labelled()
Number = TypeVar("Number", bound=np.generic)


def protected(array: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The array, which from now on refuses to be written to."""
    array.flags.writeable = False
    return array


def tokens_of(texts: Sequence[Sequence[int]]) -> Tokens:
    """Texts given as token ids."""
    ids = np.array([token for text in texts for token in text], np.uint16)
    return Tokens(protected(ids), protected(np.cumsum([0, *map(len, texts)]).astype(np.int64)))


def one_token_each(start: int, stop: int) -> Tokens:
    """Texts of the one token start, start + 1, ... stop - 1: under a table their vectors are its rows."""
    return tokens_of([[k] for k in range(start, stop)])


def pool_of_texts(
    texts: Sequence[Sequence[int]],
    probabilities: npt.ArrayLike | None = None,
    *,
    n_tokens: int = 40,
    counts: npt.ArrayLike | None = None,
    table: npt.ArrayLike | None = None,
    training: Labelled = NOT_LABELLED,
    validation: Labelled = NOT_LABELLED,
    **more: Any,
) -> Pool:
    """A pool of texts given as token ids, named item-0000 on; token vectors are one-hot without a `table`.

    With probabilities there is a model: its logits are their logarithms, and its head fits nothing in particular.
    """
    tokens = tokens_of(texts)
    rows = None if table is None else np.array(table, np.float32)
    vectors = TokenVectors(tokens, n_tokens if rows is None else len(rows), rows)
    p = np.zeros((len(texts), 0), np.float32) if probabilities is None else np.array(probabilities, np.float32)
    p = p.reshape(len(texts), -1) if len(texts) else p.reshape(0, p.shape[-1] if p.ndim > 1 else 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(p)
    if probabilities is not None and "head" not in more:
        head = np.random.default_rng(7).standard_normal((p.shape[1], vectors.width)).astype(np.float32)
        more |= {"head": Head(protected(head), protected(np.zeros(p.shape[1], np.float32)))}
    if probabilities is not None:
        more = {"hidden": vectors, **more}
    if counts is None:
        counts = np.bincount(training.tokens.ids, minlength=vectors.n_tokens)
    return Pool(
        pa.array([f"item-{k:04d}" for k in range(len(texts))], pa.string()),
        vectors,
        protected(np.array(counts, np.float64)),
        protected(p),
        protected(logits),
        training=training,
        validation=validation,
        **more,
    )


def pool_of_vectors(
    rows: npt.ArrayLike,
    *,
    weight: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    temperature: float = 1.0,
    training: npt.ArrayLike = (),
    training_labels: Sequence[int] = (),
    validation: npt.ArrayLike = (),
    validation_labels: Sequence[int] = (),
    positive: int | None = None,
    keywords: npt.ArrayLike = (),
) -> Pool:
    """A pool whose items lie at `rows` (n, d), scaled to length 1, one token each; likewise the labelled items.

    Args:
        weight: With it there is a model of head (n_labels, d): logits and probabilities of all items follow from it.
        keywords: Vectors (m, d) of keywords.
    """
    given = [np.array(part, np.float64) for part in (rows, training, validation, keywords)]
    width = given[0].shape[1]
    table = unit(np.concatenate([part.reshape(-1, width) for part in given]).astype(np.float32))
    ends = np.cumsum([0, *(len(part) for part in given)])
    pool, train, valid, words = (one_token_each(*pair) for pair in itertools.pairwise(ends))
    vectors = TokenVectors(pool, len(table), table)

    def logits_of(tokens: Tokens) -> npt.NDArray[np.float32]:
        return vectors.of(tokens).products(head.weight) + head.bias

    if weight is not None:
        w = np.array(weight, np.float32)
        b = np.zeros(len(w), np.float32) if bias is None else np.array(bias, np.float32)
        head = Head(protected(w), protected(b), temperature)
        logits = logits_of(pool)
        exponents = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
        probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    else:
        logits = probabilities = np.zeros((len(pool), 0), np.float32)
    labelled = [
        Labelled(
            part,
            protected(np.array(labels, np.int64)),
            protected(logits_of(part)) if weight is not None else np.zeros((len(part), 0), np.float32),
        )
        for part, labels in ((train, training_labels), (valid, validation_labels))
    ]
    return Pool(
        pa.array([f"item-{k:04d}" for k in range(len(pool))], pa.string()),
        vectors,
        protected(np.bincount(train.ids, minlength=len(table)).astype(np.float64)),
        protected(probabilities),
        protected(logits),
        hidden=vectors if weight is not None else None,
        head=head if weight is not None else None,
        training=labelled[0],
        validation=labelled[1],
        positive=positive,
        keywords=words,
    )


def random_pool(n: int, seed: int = 0, n_labels: int = 2, n_training: int = 12, n_validation: int = 9) -> Pool:
    """A pool on which every strategy can run: items of 0 to 6 tokens under random token vectors of size 8, a model."""
    generator = np.random.default_rng(seed)

    def texts(m: int) -> list[list[int]]:
        return [generator.integers(0, 40, generator.integers(0, 7)).tolist() for _ in range(m)]

    table = generator.standard_normal((40, 8)).astype(np.float32)
    head = Head(
        protected(2 * generator.standard_normal((n_labels, 8)).astype(np.float32)),
        protected(np.zeros(n_labels, np.float32)),
    )
    whole = TokenVectors(tokens_of([]), 40, table)

    def labelled(m: int) -> Labelled:
        tokens = tokens_of(texts(m))
        logits = whole.of(tokens).products(head.weight)
        labels = logits.argmax(axis=1).astype(np.int64) if m else np.zeros(0, np.int64)
        labels[::3] = (labels[::3] + 1) % n_labels  # what the model gets wrong
        return Labelled(tokens, protected(labels), protected(logits))

    pool_texts = texts(n)
    logits = whole.of(tokens_of(pool_texts)).products(head.weight)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True)) if n else logits
    return pool_of_texts(
        pool_texts,
        (exponents / exponents.sum(axis=1, keepdims=True)).reshape(n, n_labels),
        table=table,
        training=labelled(n_training),
        validation=labelled(n_validation),
        positive=0,
        keywords=tokens_of([[1, 2], [3]]),
        head=head,
    )


def in_shards(pool: Pool, bounds: Sequence[int]) -> Pool:
    """The same pool with its texts in shards, from each of the bounds to the next; what is asked of them is pickled."""
    shards = [pool.vectors.slice(start, stop) for start, stop in itertools.pairwise(bounds)]

    def ask(function: Callable[..., Any], arguments: Sequence[tuple[int, tuple[Any, ...]]]) -> list[Any]:
        sent, asked = pickle.loads(pickle.dumps((function, arguments)))
        return [pickle.loads(pickle.dumps(sent(shards[shard], *each))) for shard, each in asked]

    here = pool.vectors.of(NOT_LABELLED.tokens)
    vectors = ShardedVectors(ask, [len(shard) for shard in shards], here)
    return dataclasses.replace(pool, vectors=vectors, hidden=vectors if pool.hidden is not None else None)


def propose(name: str, pool: Pool, n: int, seed: int = 0, **options: Any) -> Ranking:
    """What a strategy would ask about."""
    return find_strategy(name).propose(pool, n, np.random.default_rng(seed), **options)


def positions(ranking: Ranking) -> list[int]:
    """Where the items of a ranking stand in the pools of this module."""
    return [int(item_id[-4:]) for item_id in ranking.item_ids]


def angles(*degrees: float) -> npt.NDArray[np.float64]:
    """Unit vectors in the plane."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)
