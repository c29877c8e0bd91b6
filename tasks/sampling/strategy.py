"""What a sampling strategy is: the pool it sees, the ranking it returns, and the one registry of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import SamplingError
from tasks.learning.tokens import Tokens

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """The n items that may be asked about, and what is known of them.

    Attributes:
        item_ids: String array (n,), ascending.
        tokens: Token ids of the n items.
        probabilities: float32 (n, n_labels); no columns where there is no model yet.
        token_counts: How often each token occurs in the training items, (n_tokens,).
    """

    item_ids: pa.Array
    tokens: Tokens
    probabilities: npt.NDArray[np.float32]
    token_counts: Floats

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True)
class Ranking:
    """What a strategy proposes: item ids, the one to ask first in front, and their scores (higher = ask first)."""

    item_ids: tuple[str, ...]
    scores: Floats


Select = Callable[[Pool, int, np.random.Generator], tuple[Positions, Floats]]
"""(pool, n, generator) -> positions (n,) in the pool, best first, and their scores (n,)."""


@dataclass(frozen=True)
class Strategy:
    """A registered strategy.

    Attributes:
        name: As in pal.toml.
        summary: The first line of its docstring.
        needs: What it cannot do without: `model`, or nothing.
        unbiased: Its items are a fair sample of the pool, so it goes first and is never topped up.
        cost: In the pool size n.
        source: Where the method comes from.
    """

    name: str
    summary: str
    needs: frozenset[str]
    unbiased: bool
    cost: str
    source: str
    select: Select

    def propose(self, pool: Pool, n: int, generator: np.random.Generator) -> Ranking:
        """The n items to ask first.

        Raises:
            SamplingError: The pool has fewer than n items, or the strategy needs a model and there is none.
        """
        if n > len(pool):
            raise SamplingError(
                f"{len(pool)} available / {n} requested by {self.name}.",
                hint=f"ask for fewer: pal next -n {len(pool)}; or add texts: pal import FILE",
            )
        if "model" in self.needs and not pool.probabilities.shape[1]:
            raise SamplingError(f"{self.name} needs a model, and there is none yet.", hint="use random for now")
        positions, scores = self.select(pool, n, generator)
        return Ranking(tuple(pool.item_ids.take(pa.array(positions)).to_pylist()), scores)


REGISTRY: dict[str, Strategy] = {}


def strategy(*, needs: str = "", unbiased: bool = False, cost: str, source: str) -> Callable[[Select], Select]:
    """Register a function under its own name."""

    def register(select: Select) -> Select:
        summary = (select.__doc__ or "").strip().splitlines()[0]
        name = select.__name__
        REGISTRY[name] = Strategy(name, summary, frozenset(needs.split()), unbiased, cost, source, select)
        return select

    return register


def top(scores: Floats, n: int, generator: np.random.Generator) -> Positions:
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
