"""The catalogue of strategies; importing this module registers all of them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from typing import Any

import tasks.sampling.strategies.clusters  # importing a family registers its strategies
import tasks.sampling.strategies.coverage
import tasks.sampling.strategies.disagreement
import tasks.sampling.strategies.model_change
import tasks.sampling.strategies.outliers
import tasks.sampling.strategies.rare_labels
import tasks.sampling.strategies.uncertainty  # noqa: F401
from tasks.sampling.strategy import REGISTRY as REGISTRY
from tasks.sampling.strategy import Strategy
from tasks.sampling.strategy import find_strategy as find_strategy


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
