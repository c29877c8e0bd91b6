"""Combine several strategies into one batch without repeated items, and explain why each item was selected.

Importing this module registers all strategies.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import tasks.sampling.strategies.clusters  # importing a family registers its strategies
import tasks.sampling.strategies.coverage
import tasks.sampling.strategies.disagreement
import tasks.sampling.strategies.model_change
import tasks.sampling.strategies.outliers
import tasks.sampling.strategies.rare_labels
import tasks.sampling.strategies.uncertainty  # noqa: F401
from storage.errors import SamplingError
from storage.records import Proposal, Share
from tasks.learning.tokens import Tokens
from tasks.sampling.strategy import REGISTRY as REGISTRY
from tasks.sampling.strategy import Option, Pool, Ranking, Strategy, fewer, runnable
from tasks.sampling.strategy import find_strategy as find_strategy

NEAR_DUPLICATE = 0.8
"""Texts that share at least this fraction of their distinct tokens (intersection / union) are near-duplicates."""

MAX_REQUEST = 4
"""If too few of a strategy's proposals are new, it is asked for more, up to this many times its number of items."""

Options = Mapping[str, Mapping[str, Option]]


@dataclass(frozen=True)
class Mixed:
    """The selected items of a batch.

    Attributes:
        item_ids: The items, in the order they will be shown.
        proposals: Every proposal of one of them.
        shares: The number of items of each strategy, and the strategy that actually ran.
    """

    item_ids: tuple[str, ...]
    proposals: tuple[Proposal, ...]
    shares: tuple[Share, ...]


def scaled_mix(mix: Mapping[str, float], n: int) -> dict[str, int]:
    """Scale a mix to n items; the strategies with the largest remainders get the items that rounding leaves.

    >>> scaled_mix({"random": 10, "least_confidence": 80, "outlier": 10}, 25)
    {'random': 3, 'least_confidence': 20, 'outlier': 2}
    """
    total = sum(mix.values())
    exact = {name: number * n / total for name, number in mix.items()}
    rounded = {name: int(number) for name, number in exact.items()}
    largest = sorted(mix, key=lambda name: rounded[name] - exact[name])[: n - sum(rounded.values())]
    return {name: number + (name in largest) for name, number in rounded.items()}


def mix_strategies(pool: Pool, mix: Mapping[str, int], seed: int, options: Options | None = None) -> Mixed:
    """Select exactly `sum(mix.values())` different items of the pool.

    Each strategy adds the best items of its ranking that are not in the batch yet and are not near-duplicates of items
    in it; near-duplicates are added only if there are too few others. Unbiased strategies come first and skip nothing,
    so that their items stay a fair sample. Every strategy that ranked an item within its number of items is credited
    with it, with score and rank. If a strategy cannot run, its substitute takes its place.

    Args:
        pool: The items to select from.
        mix: Strategy -> number of items.
        seed: Random seed. Each strategy has its own generator, so that strategies do not affect each other's draws.
        options: Strategy -> option -> value, for values other than the defaults.

    Raises:
        SamplingError: The pool has too few items, or a strategy is unknown.
    """
    total = sum(mix.values())
    if total > len(pool):
        raise SamplingError(f"Only {len(pool)} items are available, but {total} were requested.", hint=fewer(len(pool)))
    shares = [_share(name, number, pool, options or {}) for name, number in mix.items() if number]
    numbers: dict[str, int] = {}
    for share in shares:
        numbers[share.ran] = numbers.get(share.ran, 0) + share.n
    batch = _Batch(pool)
    for name in sorted(numbers, key=lambda name: not find_strategy(name).unbiased):
        batch.fill(name, numbers[name], seed, (options or {}).get(name, {}))
    shuffled = np.random.default_rng([seed, total]).permutation(np.array(list(batch.tokens), dtype=object))
    proposals = tuple(proposal for proposal in batch.proposals if proposal.item_id in batch.tokens)
    return Mixed(tuple(shuffled.tolist()), proposals, tuple(shares))


def _share(name: str, n: int, pool: Pool, options: Options) -> Share:
    ran, missing = runnable(name, pool)
    used = {**ran.options, **options.get(ran.name, {})}
    return Share(name, n, ran.name, missing, used)


class _Batch:
    """The items selected so far with their distinct tokens, and the proposals of all strategies."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.tokens: dict[str, frozenset[int]] = {}
        self.proposals: list[Proposal] = []

    def fill(self, name: str, number: int, seed: int, options: Mapping[str, Option]) -> None:
        """Add `number` items of a strategy; near-duplicates only if there are too few others among its best."""
        strategy = find_strategy(name)
        requested, maximum = number, min(len(self.pool), MAX_REQUEST * number + len(self.tokens))
        while True:
            ranking = strategy.propose(self.pool, requested, np.random.default_rng([seed, *name.encode()]), **options)
            texts = dict(zip(ranking.item_ids, _distinct_tokens(self.pool, ranking.item_ids), strict=True))
            chosen = self._new_items(texts, number, near_duplicates=strategy.unbiased)
            if len(chosen) == number or requested == maximum:
                break
            requested = min(maximum, 2 * requested)
        others = {item_id: tokens for item_id, tokens in texts.items() if item_id not in chosen}
        chosen |= self._new_items(others, number - len(chosen), near_duplicates=True)
        self.tokens |= chosen
        credited = {*ranking.item_ids[:number], *chosen}
        self.proposals += [
            Proposal(item_id, name, float(score) if np.isfinite(score) else None, rank)
            for rank, (item_id, score) in enumerate(zip(ranking.item_ids, ranking.scores, strict=True), start=1)
            if item_id in credited
        ]

    def _new_items(
        self, texts: Mapping[str, frozenset[int]], number: int, *, near_duplicates: bool
    ) -> dict[str, frozenset[int]]:
        """Return the first `number` items that are not in the batch yet and, unless allowed, not near-duplicates."""
        new_items: dict[str, frozenset[int]] = {}
        selected = list(self.tokens.values())
        for item_id, tokens in texts.items():
            if len(new_items) == number:
                break
            if item_id not in self.tokens and (near_duplicates or not _is_near_duplicate(tokens, selected)):
                new_items[item_id] = tokens
                selected.append(tokens)
        return new_items


def _distinct_tokens(pool: Pool, item_ids: Sequence[str]) -> list[frozenset[int]]:
    """Return the distinct tokens of each item; empty sets for a pool without texts."""
    if isinstance(pool.tokens, Tokens) and not len(pool.tokens.ids):
        return [frozenset()] * len(item_ids)
    chosen = pool.tokens.take(pool.positions_of(item_ids))
    return [
        frozenset(chosen.ids[start:stop].tolist())
        for start, stop in zip(chosen.offsets[:-1], chosen.offsets[1:], strict=True)
    ]


def _is_near_duplicate(tokens: frozenset[int], others: Sequence[frozenset[int]]) -> bool:
    """Whether a text is a near-duplicate of one of the others; a text without tokens is not."""
    return any(len(tokens & other) >= NEAR_DUPLICATE * len(tokens | other) for other in others if tokens)


ITEMS_AT_ONCE = 500


def reasons(pool: Pool, ranking: Ranking, labels: Sequence[str], training_texts: Sequence[str]) -> list[str]:
    """Explain each item of a ranking in one line.

    Args:
        pool: The pool of the ranking.
        ranking: The m items.
        labels: Names of the labels, by number.
        training_texts: The texts of `pool.training`, in the same order.

    Returns:
        m lines: the details of the strategy, the closest training item, the prediction of the model.
    """
    positions = pool.positions_of(ranking.item_ids)
    details = ranking.details or [f"score {score:.3f}" for score in ranking.scores]
    closest = _closest_training_items(pool, positions, labels, training_texts)
    predictions = _predictions(pool, positions, labels)
    return ["; ".join(part for part in parts if part) for parts in zip(details, closest, predictions, strict=True)]


def _closest_training_items(
    pool: Pool, positions: npt.NDArray[np.int64], labels: Sequence[str], texts: Sequence[str]
) -> list[str]:
    """Describe the training item closest to each item, with label and cosine; "" if no cosine is above 0."""
    training = pool.vectors.of(pool.training.tokens)
    descriptions: list[str] = []
    for start in range(0, len(positions), ITEMS_AT_ONCE):
        part = positions[start : start + ITEMS_AT_ONCE]
        if not texts:
            descriptions += [""] * len(part)
            continue
        cosines = training.products(pool.vectors.rows(part))
        for column, k in enumerate(cosines.argmax(axis=0)):
            label, cosine = labels[pool.training.labels[k]], cosines[k, column]
            closest = f'closest training item: "{" ".join(texts[k].split())}" ({label}, cosine {cosine:.2f})'
            descriptions.append(closest if cosine > 0 else "")
    return descriptions


def _predictions(pool: Pool, positions: npt.NDArray[np.int64], labels: Sequence[str]) -> list[str]:
    """Describe the probability of the positive label, or without one of the most probable label."""
    if not pool.probabilities.shape[1]:
        return [""] * len(positions)
    rows = pool.probabilities[positions]
    numbers = rows.argmax(axis=1) if pool.positive is None else np.full(len(rows), pool.positive)
    return [f"model: {labels[k]} {row[k]:.2f}" for k, row in zip(numbers, rows, strict=True)]


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies, sorted."""
    return tuple(sorted(REGISTRY))


def all_strategies() -> tuple[Strategy, ...]:
    """Return all strategies, sorted by name."""
    return tuple(REGISTRY[name] for name in sorted(REGISTRY))


def as_table(strategies: Sequence[Strategy]) -> list[dict[str, Any]]:
    """Return one object per strategy, for JSON output."""
    return [
        {
            "name": strategy.name,
            "summary": strategy.summary,
            "needs": list(strategy.needs),
            "substitute": strategy.substitute,
            "cost": strategy.cost,
            "source": strategy.source,
            "unbiased": strategy.unbiased,
            "options": dict(strategy.options),
        }
        for strategy in strategies
    ]


def as_text(strategies: Sequence[Strategy]) -> str:
    """Return the list for the terminal, two lines per strategy."""
    return "\n".join(
        f"{strategy.name:<25}{strategy.summary}\n{'':<25}needs {_needs(strategy)} | {strategy.cost} | {strategy.source}"
        for strategy in strategies
    )


def as_markdown(strategies: Sequence[Strategy]) -> str:
    """Return the page docs/strategies.md."""
    return "\n".join([_HEADER, *map(_section, strategies)])


def _section(strategy: Strategy) -> str:
    options = ", ".join(f"`{name} = {json.dumps(value)}`" for name, value in strategy.options.items())
    paragraphs = [_paragraph(text) for text in inspect.cleandoc(strategy.select.__doc__ or "").split("\n\n")[1:]]
    lines = [f"## {strategy.name}", "", strategy.summary, "", *(line for text in paragraphs for line in (text, ""))]
    lines += [f"- needs: {_needs(strategy)}"]
    lines += [f"- substitute if that is missing: `{strategy.substitute}`"] if strategy.substitute else []
    lines += [f"- options: {options}"] if options else []
    return "\n".join([*lines, f"- cost: {strategy.cost}", f"- source: {strategy.source}", ""])


def _paragraph(text: str) -> str:
    """Convert a paragraph of a docstring to Markdown; arguments and errors become lists."""
    head, _, rest = text.partition("\n")
    if head not in ("Args:", "Raises:"):
        return text
    entries = re.sub(r"^    (\w+): ", r"- `\1`: ", rest, flags=re.MULTILINE)
    return f"{'Options' if head == 'Args:' else 'Errors'}:\n\n" + re.sub(r"^ {8}", "  ", entries, flags=re.MULTILINE)


def _needs(strategy: Strategy) -> str:
    return ", ".join(strategy.needs) or "nothing"


_HEADER = """# Sampling strategies

Written by `pal strategies --markdown`; n is the size of the pool. In pal.toml:

```toml
[sampling]
mix = { random = "10%", least_confidence = "80%", outlier = "10%" }   # or numbers, scaled to the batch size
start = { random = 50, typical_cluster = 50 }   # training batches before there is a model
keywords = ["flood", "earthquake"]              # for the strategy keyword

[sampling.options.anchor]
score = "entropy"
```

If a strategy cannot run, its substitute selects its items, and the manifest of the batch names the reason. A text that
shares 80% of its distinct tokens with one that is already in the batch is skipped. Each strategy considers the whole
pool, unless it has an option `candidates`. For two labels the four uncertainty scores give the same ranking.
"""
