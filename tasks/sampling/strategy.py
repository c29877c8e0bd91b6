"""What a sampling strategy is: the pool it sees, the ranking it returns, and the one registry of them all."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import SamplingError
from tasks.learning.tokens import Tokens, TokenSource
from tasks.learning.vectors import Vectors

Floats = npt.NDArray[np.float64]
Option = bool | int | float | str
"""The value of a strategy's option."""
Positions = npt.NDArray[np.int64]

NO_TEXTS = Tokens(np.zeros(0, np.uint16), np.zeros(1, np.int64))


@dataclass(frozen=True)
class Labelled:
    """m labelled items that strategies compare with.

    Attributes:
        tokens: Token ids of the m items.
        labels: Label numbers (m,).
        logits: Of the model, float32 (m, n_labels); no columns where there is none.
    """

    tokens: Tokens = NO_TEXTS
    labels: Positions = field(default_factory=lambda: np.zeros(0, np.int64))
    logits: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Head:
    """The last layer: logits are `hidden @ weight.T + bias`, probabilities the softmax of logits / temperature.

    Attributes:
        weight: float32 (n_labels, width).
        bias: float32 (n_labels,).
        temperature: Of the calibration.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    temperature: float = 1.0


@dataclass(frozen=True)
class Pool:
    """The n items that may be asked about, and what is known of them.

    Attributes:
        item_ids: String array (n,), ascending.
        vectors: Their texts in the encoder's space, rows of length 1 (or 0 without a known token); holds the tokens.
        token_counts: How often each token occurs in the training items, (n_tokens,).
        probabilities: float32 (n, n_labels); no columns where there is no model yet.
        logits: float32 (n, n_labels), what the probabilities come from; no columns where there is no model yet.
        hidden: The last representation before the model's head; None where there is no model yet.
        head: The model's last layer; None where there is no model yet.
        training: The training items.
        validation: The validation items.
        positive: Number of the label that is looked for; None where no label is.
        keywords: Words that hint at it, each as a text of its own.
        keyword_names: How they are called in details, as many; empty for numbers.
    """

    item_ids: pa.Array
    vectors: Vectors
    token_counts: Floats
    probabilities: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    hidden: Vectors | None = None
    head: Head | None = None
    training: Labelled = Labelled()
    validation: Labelled = Labelled()
    positive: int | None = None
    keywords: Tokens = NO_TEXTS
    keyword_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def tokens(self) -> TokenSource:
        """Token ids of the n items."""
        return self.vectors.tokens

    @property
    def sound(self) -> npt.NDArray[np.bool_]:
        """Whether the probabilities of each item are finite, (n,)."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))

    def positions_of(self, item_ids: Sequence[str]) -> Positions:
        """Where m different items of the pool stand in it, (m,)."""
        # The few are the table to look up in, not the pool: a tenth of the time over a million.
        number = pc.fill_null(pc.index_in(self.item_ids, pa.array(item_ids, pa.string())), -1).to_numpy()
        there = np.flatnonzero(number >= 0)
        return there[np.argsort(number[there])]

    def take(self, positions: Positions) -> Pool:
        """The part of the pool at `positions`, in that order."""
        vectors = self.vectors.take(positions)
        hidden = self.hidden and (vectors if self.hidden is self.vectors else self.hidden.take(positions))
        return dataclasses.replace(
            self,
            item_ids=self.item_ids.take(_as_arrow(positions)),
            vectors=vectors,
            probabilities=self.probabilities[positions],
            logits=self.logits[positions],
            hidden=hidden,
        )


def _as_arrow(positions: Positions) -> pa.Array:
    """Positions (n,) without a copy; `pa.array` would import pandas, where it is installed, to look for its types."""
    buffer = pa.py_buffer(np.ascontiguousarray(positions, np.int64))
    return pa.Array.from_buffers(pa.int64(), len(positions), [None, buffer])


class Picks(NamedTuple):
    """What a strategy chose: the one to ask first in front.

    Attributes:
        positions: In the pool, (n,), all different.
        scores: Higher = ask first, (n,), -inf for what could not be scored; never rising, but for adaptive strategies.
        details: Why each was chosen, in words, (n,); empty where the score says it.
    """

    positions: Positions
    scores: Floats
    details: Sequence[str] = ()


@dataclass(frozen=True)
class Ranking:
    """What a strategy proposes: item ids, the one to ask first in front, their scores (higher = ask first), and why."""

    item_ids: tuple[str, ...]
    scores: Floats
    details: tuple[str, ...] = ()


Select = Callable[..., Picks]
"""(pool, n, generator, *, options) -> n picks. Called with 0 <= n <= len(pool), and only where its needs are met."""


def _one_kind_of_outcome(pool: Pool) -> bool:
    if not len(pool.validation) or not pool.validation.logits.shape[1]:
        return True
    right = pool.validation.logits.argmax(axis=1) == pool.validation.labels
    return bool(right.all()) or not right.any()


def _opposite_logits(pool: Pool) -> bool:
    if pool.head is None or len(pool.head.weight) != 2:
        return False
    return bool(np.allclose(pool.head.weight[0], -pool.head.weight[1], atol=1e-4))


NEEDS: dict[str, tuple[Callable[[Pool], bool], str]] = {
    "model": (lambda pool: not pool.probabilities.shape[1], "a model, and there is none yet"),
    "training items": (lambda pool: not len(pool.training), "training items, and there are none yet"),
    "validation items": (lambda pool: not len(pool.validation), "validation items, and there are none"),
    "right and wrong validation items": (
        _one_kind_of_outcome,
        "validation items that the model gets right and others that it gets wrong, and there are not both",
    ),
    "logits that can all be low": (
        _opposite_logits,
        "logits that can all be low, and those of a linear head for two labels are each other's opposite",
    ),
    "positive label": (lambda pool: pool.positive is None, "a label marked positive in pal.toml, and there is none"),
    "keywords": (
        lambda pool: not len(pool.keywords),
        "[sampling] keywords in pal.toml, and there are none that the encoder knows",
    ),
}
"""What a strategy may need: whether a pool lacks it, and how that is said."""


@dataclass(frozen=True)
class Strategy:
    """A registered strategy.

    Attributes:
        name: As in pal.toml.
        summary: The first paragraph of its docstring, on one line.
        needs: What it cannot do without: keys of NEEDS.
        substitute: Who gets its share where that is missing; None for a strategy that needs nothing.
        unbiased: Its items are a fair sample of the pool, so it goes first and none of them is dropped.
        adaptive: Each pick changes the scores of the rest, so they may rise along its ranking.
        cost: In the pool size n.
        source: Where the method comes from.
        options: What can be set in pal.toml, with the defaults.
    """

    name: str
    summary: str
    needs: tuple[str, ...]
    substitute: str | None
    unbiased: bool
    adaptive: bool
    cost: str
    source: str
    options: Mapping[str, Option]
    select: Select

    def missing(self, pool: Pool) -> str | None:
        """What it needs and this pool lacks, in words; None where it can run."""
        return next((said for lacks, said in map(NEEDS.__getitem__, self.needs) if lacks(pool)), None)

    def propose(self, pool: Pool, n: int, generator: np.random.Generator, **options: Option) -> Ranking:
        """The n items to ask first; the order of the pool's rows does not matter.

        Raises:
            SamplingError: The pool has fewer than n items, or lacks what the strategy needs.
        """
        if n > len(pool):
            raise SamplingError(f"{len(pool)} available / {n} requested by {self.name}.", hint=fewer(len(pool)))
        if missing := self.missing(pool):
            raise SamplingError(
                f"{self.name} needs {missing}.", hint=f"use {runnable(self.name, pool)[0].name} for now"
            )
        if not n:
            return Ranking((), np.zeros(0))
        if not _ascending(pool.item_ids):
            pool = pool.take(pc.array_sort_indices(pool.item_ids).to_numpy().astype(np.int64))
        positions, scores, details = self.select(pool, n, generator, **options)
        return Ranking(tuple(pool.item_ids.take(_as_arrow(positions)).to_pylist()), scores, tuple(details))


REGISTRY: dict[str, Strategy] = {}


def strategy(
    *,
    needs: Sequence[str] = (),
    substitute: str | None = None,
    unbiased: bool = False,
    adaptive: bool = False,
    cost: str,
    source: str,
) -> Callable[[Select], Select]:
    """Register a function under its own name; its keyword-only parameters are its options.

    Args:
        needs: Keys of NEEDS.
        substitute: The strategy that stands in where one of them is missing.
    """
    assert all(need in NEEDS for need in needs)
    assert bool(needs) == bool(substitute)

    def register(select: Select) -> Select:
        name = select.__name__
        summary = " ".join(inspect.cleandoc(select.__doc__ or "").split("\n\n")[0].split())
        parameters = inspect.signature(select).parameters.values()
        options = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
        REGISTRY[name] = Strategy(
            name, summary, tuple(needs), substitute, unbiased, adaptive, cost, source, options, select
        )
        return select

    return register


def find_strategy(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        SamplingError: There is none.
    """
    if name not in REGISTRY:
        raise SamplingError(f"there is no sampling strategy {name!r}.", hint="see those there are: pal strategies")
    return REGISTRY[name]


def fewer(n: int) -> str:
    """What to type where only n items are available."""
    return f"ask for fewer: -n {n}; or add texts: pal import FILE" if n else "add texts: pal import FILE"


def runnable(name: str, pool: Pool) -> tuple[Strategy, str | None]:
    """The strategy, or where it cannot run on this pool its substitute (or that one's); and what was missing."""
    found = find_strategy(name)
    first_missing = missing = found.missing(pool)
    while missing and found.substitute:
        found = find_strategy(found.substitute)
        missing = found.missing(pool)
    return found, first_missing


def top(scores: npt.NDArray[Any], n: int, generator: np.random.Generator) -> Positions:
    """Positions of the n highest scores, the highest first; level ones in random order. What is not finite is last.

    >>> top(np.array([0.1, 0.9, np.nan, 0.5]), 3, np.random.default_rng(0)).tolist()
    [1, 3, 0]
    """
    if n == 0:
        return np.zeros(0, np.int64)
    finite = np.where(np.isfinite(scores), scores, -np.inf)
    cut = np.partition(finite, len(finite) - n)[len(finite) - n]
    above = np.flatnonzero(finite > cut)
    level = generator.choice(np.flatnonzero(finite == cut), n - len(above), replace=False)
    chosen = generator.permutation(np.concatenate([above, level]))
    ranked: Positions = chosen[np.argsort(-finite[chosen], kind="stable")]
    return ranked


def drawn(positions: Positions, at_most: int, generator: np.random.Generator) -> Positions:
    """The positions, or so many of them drawn uniformly where there are more, ascending."""
    if len(positions) <= at_most:
        return positions
    return np.sort(generator.choice(positions, max(at_most, 0), replace=False))


def top_picks(scores: npt.NDArray[Any], n: int, generator: np.random.Generator) -> Picks:
    """The n highest scores (n_pool,) as picks; what is not finite counts as -inf."""
    positions = top(scores, n, generator)
    found = scores[positions].astype(np.float64)
    return Picks(positions, np.where(np.isfinite(found), found, -np.inf))


def _ascending(item_ids: pa.Array) -> bool:
    return bool(pc.all(pc.less_equal(item_ids[:-1], item_ids[1:])).as_py()) if len(item_ids) > 1 else True
