"""One batch from several strategies: each item once, every strategy that proposed it credited, and why in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.errors import SamplingError
from storage.records import Proposal, Share
from tasks.learning.tokens import Tokens
from tasks.sampling.catalogue import find_strategy
from tasks.sampling.strategy import Option, Pool, Ranking, fewer, runnable

NEAR_DUPLICATE = 0.8
"""Texts that share at least this part of their distinct tokens (intersection / union) are near-duplicates."""

MOST_ASKED = 4
"""A strategy is asked for its number; where too few of them are new, for more, up to so many times its number."""

Options = Mapping[str, Mapping[str, Option]]


@dataclass(frozen=True)
class Mixed:
    """A batch to be.

    Attributes:
        item_ids: In the order they will be shown.
        proposals: Every proposal that led to one of them.
        shares: What became of each strategy's number.
    """

    item_ids: tuple[str, ...]
    proposals: tuple[Proposal, ...]
    shares: tuple[Share, ...]


def scaled_mix(mix: Mapping[str, float], n: int) -> dict[str, int]:
    """The mix in the same proportions for n items; the largest remainders get what rounding leaves.

    >>> scaled_mix({"random": 10, "least_confidence": 80, "outlier": 10}, 25)
    {'random': 3, 'least_confidence': 20, 'outlier': 2}
    """
    total = sum(mix.values())
    exact = {name: number * n / total for name, number in mix.items()}
    whole = {name: int(share) for name, share in exact.items()}
    rest = sorted(mix, key=lambda name: whole[name] - exact[name])[: n - sum(whole.values())]
    return {name: number + (name in rest) for name, number in whole.items()}


def mix_strategies(pool: Pool, mix: Mapping[str, int], seed: int, options: Options | None = None) -> Mixed:
    """A batch of exactly `sum(mix.values())` different items of the pool.

    A strategy fills its number with the best of its ranking that no other took before and that is no near-duplicate
    of one taken; only where its best have too few others are near-duplicates taken. Unbiased ones go first and drop
    nothing, so that theirs stay a fair sample. Everyone who ranked an item within its number is credited, with score
    and rank. Where a strategy cannot run, its substitute gets its number.

    Args:
        mix: Strategy -> number of items.
        seed: Each strategy draws from a generator of its own, so that one does not change what another finds.
        options: Strategy -> option -> value, in place of the defaults.

    Raises:
        SamplingError: The pool has fewer items, or a strategy is unknown.
    """
    total = sum(mix.values())
    if total > len(pool):
        raise SamplingError(f"{len(pool)} available / {total} requested.", hint=fewer(len(pool)))
    shares = [_share(name, number, pool, options or {}) for name, number in mix.items() if number]
    numbers: dict[str, int] = {}
    for share in shares:
        numbers[share.ran] = numbers.get(share.ran, 0) + share.n
    batch = _Batch(pool)
    for name in sorted(numbers, key=lambda name: not find_strategy(name).unbiased):
        batch.fill(name, numbers[name], seed, (options or {}).get(name, {}))
    shuffled = np.random.default_rng([seed, total]).permutation(np.array(list(batch.taken), dtype=object))
    return Mixed(tuple(shuffled.tolist()), tuple(p for p in batch.proposals if p.item_id in batch.taken), tuple(shares))


def _share(name: str, n: int, pool: Pool, options: Options) -> Share:
    ran, missing = runnable(name, pool)
    used = {**ran.options, **options.get(ran.name, {})}
    return Share(name, n, ran.name, missing, used)


class _Batch:
    """The items taken so far, and who proposed them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.taken: dict[str, frozenset[int]] = {}
        self.proposals: list[Proposal] = []

    def fill(self, name: str, number: int, seed: int, options: Mapping[str, Option]) -> None:
        """Add `number` items by a strategy; near-duplicates only where there are too few others among its best."""
        found = find_strategy(name)
        asked, most = number, min(len(self.pool), MOST_ASKED * number + len(self.taken))
        while True:
            ranking = found.propose(self.pool, asked, np.random.default_rng([seed, *name.encode()]), **options)
            texts = dict(zip(ranking.item_ids, _distinct_tokens(self.pool, ranking.item_ids), strict=True))
            chosen = self._fresh(texts, number, near_duplicates=found.unbiased)
            if len(chosen) == number or asked == most:
                break
            asked = min(most, 2 * asked)
        left = {item_id: tokens for item_id, tokens in texts.items() if item_id not in chosen}
        chosen |= self._fresh(left, number - len(chosen), near_duplicates=True)
        self.taken |= chosen
        own = {*ranking.item_ids[:number], *chosen}
        self.proposals += [
            Proposal(item_id, name, float(score) if np.isfinite(score) else None, rank)
            for rank, (item_id, score) in enumerate(zip(ranking.item_ids, ranking.scores, strict=True), start=1)
            if item_id in own
        ]

    def _fresh(
        self, texts: Mapping[str, frozenset[int]], number: int, *, near_duplicates: bool
    ) -> dict[str, frozenset[int]]:
        """The first `number` that are not taken, and like none taken unless that is allowed."""
        fresh: dict[str, frozenset[int]] = {}
        before = list(self.taken.values())
        for item_id, tokens in texts.items():
            if len(fresh) == number:
                break
            if item_id not in self.taken and (near_duplicates or not _like_any(tokens, before)):
                fresh[item_id] = tokens
                before.append(tokens)
        return fresh


def _distinct_tokens(pool: Pool, item_ids: Sequence[str]) -> list[frozenset[int]]:
    """The distinct tokens of each item; none in a pool without its texts."""
    if isinstance(pool.tokens, Tokens) and not len(pool.tokens.ids):
        return [frozenset()] * len(item_ids)
    chosen = pool.tokens.take(pool.positions_of(item_ids))
    return [
        frozenset(chosen.ids[start:stop].tolist())
        for start, stop in zip(chosen.offsets[:-1], chosen.offsets[1:], strict=True)
    ]


def _like_any(tokens: frozenset[int], others: Sequence[frozenset[int]]) -> bool:
    """Whether the text is a near-duplicate of one of the others; one without tokens is like none."""
    return any(len(tokens & other) >= NEAR_DUPLICATE * len(tokens | other) for other in others if tokens)


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
