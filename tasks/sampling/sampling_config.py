"""What pal.toml says about sampling: who takes part in a batch with how many, their options, words to start from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.sampling.strategy import Strategy

Option = bool | int | float | str
"""The value of a strategy's option."""

UNBIASED = ("random",)
"""The strategies whose items are a fair sample of the pool."""

Mix = Mapping[str, int | str]

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class SamplingConfig:
    """Who chooses the items of a training batch.

    Attributes:
        mix: Strategy -> number of items, or share of the batch ("80%"); other batch sizes keep the proportions.
        start: The same for training batches before there is a model; empty: half `keyword` and half `random` where
            there are keywords, else `random`.
        keywords: Words that hint at the positive label, for the strategy `keyword`.
        options: Strategy -> option -> value, in place of the defaults that `pal strategies` lists.
    """

    mix: dict[str, int | str] = field(default_factory=lambda: {"random": 10, "least_confidence": 80, "outlier": 10})
    start: dict[str, int | str] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()
    options: dict[str, dict[str, Option]] = field(default_factory=dict)

    @property
    def active(self) -> dict[str, float]:
        """Strategy -> weight in a batch with a model."""
        return weights(self.mix)

    @property
    def cold(self) -> dict[str, float]:
        """Strategy -> weight in a training batch without a model."""
        if self.start:
            return weights(self.start)
        return {"random": 50, "keyword": 50} if self.keywords else {"random": 100}

    def faults(self) -> list[str]:
        """What is wrong, one line each with its place."""
        if self == SamplingConfig():
            return []
        found = _mix_faults("mix", self.mix) + (_mix_faults("start", self.start) if self.start else [])
        found += [f"keywords: {word!r} is empty" for word in self.keywords if not word.strip()]
        strategies = _registry()
        for name, values in self.options.items():
            if name not in strategies:
                found.append(f"options.{name}: there is no such strategy{_nearest(name)}")
                continue
            for option, value in values.items():
                found += _option_faults(name, option, value)
        return found


def weights(mix: Mix) -> dict[str, float]:
    """Numbers and shares as weights.

    >>> weights({"random": "20%", "entropy": "80%"})
    {'random': 20.0, 'entropy': 80.0}
    """
    return {name: _share(value) if isinstance(value, str) else float(value) for name, value in mix.items()}


def _share(value: str) -> float:
    match = _SHARE.fullmatch(value.strip())
    return float(match[1]) if match else -1.0


def _registry() -> Mapping[str, Strategy]:
    """Every strategy by name: numpy and all that they compute with, imported only where settings are to be checked."""
    from tasks.sampling.catalogue import REGISTRY

    return REGISTRY


def _mix_faults(where: str, mix: Mix) -> list[str]:
    strategies = _registry()
    found = [f"{where}: no strategy {name!r}{_nearest(name)}" for name in mix if name not in strategies]
    shares = {name: value for name, value in mix.items() if isinstance(value, str)}
    found += [
        f'{where}: {name} = {value!r}; write a share as "80%"' for name, value in shares.items() if _share(value) < 0
    ]
    found += [
        f"{where}: {name} = {value}; numbers start at 0"
        for name, value in mix.items()
        if not isinstance(value, str) and value < 0
    ]
    if shares and len(shares) < len(mix):
        found.append(f"{where}: numbers and shares are mixed; give all strategies the one or the other")
    elif not found and shares and abs(sum(map(_share, shares.values())) - 100) > 0.01:
        found.append(f"{where}: the shares add up to {sum(map(_share, shares.values())):g}%, not 100%")
    elif not found and not sum(weights(mix).values()):
        found.append(f"{where}: no strategy has a number above 0")
    return found


def _option_faults(name: str, option: str, value: Option) -> list[str]:
    strategies = _registry()
    known = strategies[name].options
    if option not in known:
        choices = f"it has: {', '.join(known)}" if known else "it has none"
        return [f"options.{name}: no option {option!r}; {choices}"]
    default = known[option]
    fits = isinstance(value, (int, float) if isinstance(default, float) else type(default))
    if not fits or isinstance(value, bool) != isinstance(default, bool):
        return [f"options.{name}: {option} = {value!r}; write {_KINDS[type(default)]}, as the default {default!r} is"]
    if option == "score" and value not in strategies:
        return [f"options.{name}: no strategy {value!r}{_nearest(str(value))}"]
    if option == "score" and value == name:
        return [f"options.{name}: score = {value!r} is itself; name another"]
    if not isinstance(value, str) and not 0 <= value < math.inf:
        return [f"options.{name}: {option} = {value}; a number from 0 on"]
    if option in ("share", "dropout", "radius") and not isinstance(value, str) and value > 1:
        return [f"options.{name}: {option} = {value}; at most 1"]
    return []


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _registry(), n=1)
    return f"; did you mean {near[0]!r}?" if near else "; see those there are: pal strategies"
