"""Sampling strategies: the pool they select from, the ranking they return, and the registry."""

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
    """m labeled items that strategies compare with.

    Attributes:
        tokens: Token ids of the m items.
        labels: Label numbers (m,).
        logits: Logits of the model, float32 (m, n_labels); no columns without a model.
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
        temperature: The temperature of the calibration.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    temperature: float = 1.0


@dataclass(frozen=True)
class Pool:
    """The n items that may be queried, with predictions and the labeled items.

    Attributes:
        item_ids: String array (n,), ascending.
        vectors: Texts in the encoder's space, rows of length 1 (or 0 without a known token); contains the tokens.
        token_counts: Number of occurrences of each token in the training items, (n_tokens,).
        probabilities: float32 (n, n_labels); no columns without a model.
        logits: The logits of the probabilities, float32 (n, n_labels); no columns without a model.
        hidden: The last representation before the model's head; None without a model.
        head: The last layer of the model; None without a model.
        training: The training items.
        validation: The validation items.
        positive: Number of the positive label; None without one.
        keywords: Keywords for the positive label, each as a text.
        keyword_names: The names of the keywords in details; if empty, numbers are used.
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
        """Return the positions of m different items in the pool, (m,)."""
        # Looking up the pool in the m items takes a tenth of the time of the reverse, for a million items.
        numbers = pc.fill_null(pc.index_in(self.item_ids, pa.array(item_ids, pa.string())), -1).to_numpy()
        positions = np.flatnonzero(numbers >= 0)
        return positions[np.argsort(numbers[positions])]

    def take(self, positions: Positions) -> Pool:
        """Return the part of the pool at `positions`, in that order."""
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
    """Convert positions (n,) without a copy and, unlike `pa.array`, without importing pandas where it is installed."""
    buffer = pa.py_buffer(np.ascontiguousarray(positions, np.int64))
    return pa.Array.from_buffers(pa.int64(), len(positions), [None, buffer])


class Picks(NamedTuple):
    """The items that a strategy selected, the first to query in front.

    Attributes:
        positions: Positions in the pool, (n,), all different.
        scores: Higher = query first, (n,); -inf for items without a score; descending except for adaptive strategies.
        details: Why each item was selected, (n,); empty if the score suffices.
    """

    positions: Positions
    scores: Floats
    details: Sequence[str] = ()


@dataclass(frozen=True)
class Ranking:
    """The items that a strategy proposes, the first to query in front.

    Attributes:
        item_ids: n item ids.
        scores: As in `Picks`.
        details: As in `Picks`.
    """

    item_ids: tuple[str, ...]
    scores: Floats
    details: tuple[str, ...] = ()


Select = Callable[..., Picks]
"""(pool, n, generator, *, options) -> n picks. Called with 0 <= n <= len(pool), and only if its needs are met."""


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
    "model": (lambda pool: not pool.probabilities.shape[1], "a model, but there is none yet"),
    "training items": (lambda pool: not len(pool.training), "training items, but there are none yet"),
    "validation items": (lambda pool: not len(pool.validation), "validation items, but there are none"),
    "right and wrong validation items": (
        _one_kind_of_outcome,
        "validation items that the model gets right and others that it gets wrong, but there are not both",
    ),
    "logits that can all be low": (
        _opposite_logits,
        "logits that can all be low, but those of a linear head for two labels are opposite to each other",
    ),
    "positive label": (lambda pool: pool.positive is None, "a label marked positive in pal.toml, but there is none"),
    "keywords": (
        lambda pool: not len(pool.keywords),
        "[sampling] keywords in pal.toml, but there are none that the encoder knows",
    ),
}
"""What strategies may need: a function that tests whether a pool lacks it, and its description for messages."""


@dataclass(frozen=True)
class Strategy:
    """A registered strategy.

    Attributes:
        name: The name in pal.toml.
        summary: The first paragraph of its docstring, on one line.
        needs: Its requirements: keys of NEEDS.
        substitute: The strategy that takes its place if a need is not met; None for a strategy without needs.
        unbiased: Its items are a fair sample of the pool, so it runs first and none of its items is skipped.
        adaptive: Each pick changes the scores of the others, so scores may rise along its ranking.
        cost: The cost in terms of the pool size n.
        source: The publication of the method.
        options: The options in pal.toml with their defaults.
        select: The function.
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
        """Describe the first need that this pool does not meet; None if the strategy can run."""
        return next((description for lacks, description in map(NEEDS.__getitem__, self.needs) if lacks(pool)), None)

    def propose(self, pool: Pool, n: int, generator: np.random.Generator, **options: Option) -> Ranking:
        """Return the n items to query first; the order of the rows of the pool does not matter.

        Raises:
            SamplingError: The pool has fewer than n items, or does not meet the needs of the strategy.
        """
        if n > len(pool):
            message = f"Only {len(pool)} items are available, but {n} were requested by {self.name}."
            raise SamplingError(message, hint=fewer(len(pool)))
        if missing := self.missing(pool):
            hint = f"Use {runnable(self.name, pool)[0].name} for now."
            raise SamplingError(f"Strategy {self.name} needs {missing}.", hint=hint)
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
    """Register a function as a strategy, under its name; its keyword-only parameters are the options.

    The arguments are described in `Strategy`.
    """
    assert all(need in NEEDS for need in needs)
    assert bool(needs) == bool(substitute)

    def register(select: Select) -> Select:
        name = select.__name__
        summary = " ".join(inspect.cleandoc(select.__doc__ or "").split("\n\n")[0].split())
        parameters = inspect.signature(select).parameters.values()
        options = {
            parameter.name: parameter.default for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY
        }
        REGISTRY[name] = Strategy(
            name, summary, tuple(needs), substitute, unbiased, adaptive, cost, source, options, select
        )
        return select

    return register


def find_strategy(name: str) -> Strategy:
    """Return the strategy with this name.

    Raises:
        SamplingError: There is no such strategy.
    """
    if name not in REGISTRY:
        raise SamplingError(f"Unknown sampling strategy {name!r}.", hint="List the strategies: pal strategies")
    return REGISTRY[name]


def fewer(n: int) -> str:
    """Return the hint for the case that only n items are available."""
    return f"Request fewer (-n {n}) or add texts: pal import FILE" if n else "Add texts: pal import FILE"


def runnable(name: str, pool: Pool) -> tuple[Strategy, str | None]:
    """Return the strategy, or the first substitute that can run on this pool, and the need that was not met."""
    candidate = find_strategy(name)
    first_missing = missing = candidate.missing(pool)
    while missing and candidate.substitute:
        candidate = find_strategy(candidate.substitute)
        missing = candidate.missing(pool)
    return candidate, first_missing


def top(scores: npt.NDArray[Any], n: int, generator: np.random.Generator) -> Positions:
    """Return the positions of the n highest scores, highest first; ties in random order, non-finite scores last.

    >>> top(np.array([0.1, 0.9, np.nan, 0.5]), 3, np.random.default_rng(0)).tolist()
    [1, 3, 0]
    """
    if n == 0:
        return np.zeros(0, np.int64)
    finite = np.where(np.isfinite(scores), scores, -np.inf)
    cut = np.partition(finite, len(finite) - n)[len(finite) - n]
    above = np.flatnonzero(finite > cut)
    tied = generator.choice(np.flatnonzero(finite == cut), n - len(above), replace=False)
    chosen = generator.permutation(np.concatenate([above, tied]))
    ranked: Positions = chosen[np.argsort(-finite[chosen], kind="stable")]
    return ranked


def drawn(positions: Positions, at_most: int, generator: np.random.Generator) -> Positions:
    """Return the positions, or if there are more than `at_most`, a uniform sample of this size, ascending."""
    if len(positions) <= at_most:
        return positions
    return np.sort(generator.choice(positions, max(at_most, 0), replace=False))


def top_picks(scores: npt.NDArray[Any], n: int, generator: np.random.Generator) -> Picks:
    """Return the items with the n highest of the scores (n_pool,); scores that are not finite become -inf."""
    positions = top(scores, n, generator)
    highest = scores[positions].astype(np.float64)
    return Picks(positions, np.where(np.isfinite(highest), highest, -np.inf))


def _ascending(item_ids: pa.Array) -> bool:
    return bool(pc.all(pc.less_equal(item_ids[:-1], item_ids[1:])).as_py()) if len(item_ids) > 1 else True
