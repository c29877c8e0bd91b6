"""One batch from several strategies: each item asked once, every strategy that proposed it credited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import tasks.sampling.outlier
import tasks.sampling.uncertainty  # noqa: F401  (importing a family registers its strategies)
from storage.errors import SamplingError
from storage.records import Proposal
from tasks.sampling.strategy import REGISTRY, Pool, Strategy


@dataclass(frozen=True)
class Mixed:
    """A batch to be: item ids in the order they will be shown, and every proposal that led to one of them."""

    item_ids: tuple[str, ...]
    proposals: tuple[Proposal, ...]


def strategy_names() -> tuple[str, ...]:
    """Every registered strategy."""
    return tuple(REGISTRY)


def find_strategy(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        SamplingError: There is none.
    """
    if name not in REGISTRY:
        raise SamplingError(f"there is no sampling strategy {name!r}.", hint=f"choose from: {', '.join(REGISTRY)}")
    return REGISTRY[name]


def scaled_mix(mix: Mapping[str, int], n: int) -> dict[str, int]:
    """The mix in the same proportions for n items; the largest remainders get what rounding leaves.

    >>> scaled_mix({"random": 10, "least_confidence": 80, "outlier": 10}, 25)
    {'random': 3, 'least_confidence': 20, 'outlier': 2}
    """
    total = sum(mix.values())
    exact = {name: number * n / total for name, number in mix.items()}
    whole = {name: int(share) for name, share in exact.items()}
    rest = sorted(mix, key=lambda name: whole[name] - exact[name])[: n - sum(whole.values())]
    return {name: number + (name in rest) for name, number in whole.items()}


def mix_strategies(pool: Pool, mix: Mapping[str, int], seed: int) -> Mixed:
    """A batch of exactly `sum(mix.values())` different items of the pool.

    A strategy fills its number with the best of its ranking that no other took before; unbiased ones go first, so
    that theirs stay a fair sample. Everyone who ranked an item within its number is credited, with score and rank.

    Args:
        mix: Strategy -> number of items.
        seed: Each strategy draws from a generator of its own, so that one does not change what another finds.

    Raises:
        SamplingError: The pool has fewer items, or a strategy is unknown or cannot run.
    """
    total = sum(mix.values())
    if total > len(pool):
        raise SamplingError(
            f"{len(pool)} available / {total} requested.",
            hint=f"ask for fewer: pal next -n {len(pool)}; or add texts: pal import FILE",
        )
    strategies = {name: find_strategy(name) for name in mix if mix[name]}
    order = sorted(strategies, key=lambda name: not strategies[name].unbiased)
    taken: dict[str, None] = {}
    proposals: list[Proposal] = []
    for name in order:
        generator = np.random.default_rng([seed, *name.encode()])
        ranking = strategies[name].propose(pool, min(len(pool), total), generator)
        fresh = [item_id for item_id in ranking.item_ids if item_id not in taken][: mix[name]]
        taken.update(dict.fromkeys(fresh))
        own = set(ranking.item_ids[: mix[name]]) | set(fresh)
        proposals += [
            Proposal(item_id, name, float(score), rank)
            for rank, (item_id, score) in enumerate(zip(ranking.item_ids, ranking.scores, strict=True), start=1)
            if item_id in own
        ]
    shuffled = np.random.default_rng([seed, total]).permutation(np.array(list(taken), dtype=object))
    return Mixed(tuple(shuffled.tolist()), tuple(p for p in proposals if p.item_id in taken))
