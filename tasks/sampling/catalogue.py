"""Every strategy there is: importing this registers them all."""

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
    """The names of all strategies, sorted."""
    return tuple(sorted(REGISTRY))


def all_strategies() -> tuple[Strategy, ...]:
    """All strategies, by name."""
    return tuple(REGISTRY[name] for name in sorted(REGISTRY))


def as_table(strategies: Sequence[Strategy]) -> list[dict[str, Any]]:
    """One object for each strategy, for programs."""
    return [
        {
            "name": each.name,
            "summary": each.summary,
            "needs": list(each.needs),
            "substitute": each.substitute,
            "cost": each.cost,
            "source": each.source,
            "unbiased": each.unbiased,
            "options": dict(each.options),
        }
        for each in strategies
    ]


def as_text(strategies: Sequence[Strategy]) -> str:
    """For people at a terminal."""
    return "\n".join(
        f"{each.name:<25}{each.summary}\n{'':<25}needs {_needs(each)} | {each.cost} | {each.source}"
        for each in strategies
    )


def as_markdown(strategies: Sequence[Strategy]) -> str:
    """The page docs/strategies.md."""
    return "\n".join([_HEADER, *map(_section, strategies)])


def _section(each: Strategy) -> str:
    options = ", ".join(f"`{name} = {json.dumps(value)}`" for name, value in each.options.items())
    paragraphs = [_paragraph(text) for text in inspect.cleandoc(each.select.__doc__ or "").split("\n\n")[1:]]
    lines = [f"## {each.name}", "", each.summary, "", *(line for text in paragraphs for line in (text, ""))]
    lines += [f"- needs: {_needs(each)}"]
    lines += [f"- in its place where that is missing: `{each.substitute}`"] if each.substitute else []
    lines += [f"- options: {options}"] if options else []
    return "\n".join([*lines, f"- cost: {each.cost}", f"- source: {each.source}", ""])


def _paragraph(text: str) -> str:
    """A docstring's paragraph as Markdown: the list of arguments, or of errors, as a list."""
    head, _, rest = text.partition("\n")
    if head not in ("Args:", "Raises:"):
        return text
    entries = re.sub(r"^    (\w+): ", r"- `\1`: ", rest, flags=re.MULTILINE)
    return f"{'Options' if head == 'Args:' else 'Errors'}:\n\n" + re.sub(r"^ {8}", "  ", entries, flags=re.MULTILINE)


def _needs(each: Strategy) -> str:
    return ", ".join(each.needs) or "nothing"


_HEADER = """# Sampling strategies

Written by `pal strategies --markdown`; n is the size of the pool. In pal.toml:

```toml
[sampling]
mix = { random = "10%", least_confidence = "80%", outlier = "10%" }   # or numbers; other sizes in proportion
start = { random = 50, typical_cluster = 50 }   # training batches before there is a model
keywords = ["flood", "earthquake"]              # for the strategy keyword

[sampling.options.anchor]
score = "entropy"
```

A strategy that cannot run now gives its number to the substitute named here, and the batch's manifest says so. A text
that shares 80 % of its distinct tokens with one in the batch already is passed over. Each strategy looks at the whole
pool, but where an option `candidates` says how many it looks at. For two labels the four uncertainty scores rank alike.
"""
