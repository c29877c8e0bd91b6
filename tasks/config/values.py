"""Values of pal.toml and options of strategies: written as TOML, explained in words, checked without numpy."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

Node = Mapping[str, Any]
"""A part of a JSON schema."""


def as_toml(value: object, depth: int = 3) -> str:
    """A value as pal.toml has it.

    Args:
        depth: Levels of lists and tables that are written out; what is deeper is `...`.

    >>> as_toml(True), as_toml(("a", 'say "b"')), as_toml({"random": 10, "x y": "5%"}), as_toml([[]], depth=1)
    ('true', '["a", "say \\\\"b\\\\""]', '{ random = 10, "x y" = "5%" }', '[...]')
    """
    if isinstance(value, Mapping | list | tuple) and value and not depth:
        return "..."
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(name)} = {as_toml(element, depth - 1)}" for name, element in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(element, depth - 1) for element in value)}]"
    if isinstance(value, str):  # DEL is the one character that JSON leaves and TOML refuses
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool | float) else str(value)


def _key(name: str) -> str:
    return name if name and all(char.isascii() and (char.isalnum() or char in "_-") for char in name) else as_toml(name)


def in_words(node: Node) -> str:
    """What may stand where a part of the schema describes it.

    >>> in_words({"type": "integer", "minimum": 1, "maximum": 9}), in_words({"enum": ["ap", "auc", "f1"]})
    ('a whole number from 1 to 9', '"ap", "auc" or "f1"')
    >>> in_words({"type": "array", "items": {"type": "string"}, "examples": [["csv"]]})
    'a list, such as ["csv"]'
    """
    if "anyOf" in node:
        return _either(in_words(option) for option in node["anyOf"])
    if "enum" in node:
        return _either(map(as_toml, node["enum"]))
    if "properties" in node:
        return "a table"
    example = f", such as {as_toml(node['examples'][0])}" if node.get("examples") else ""
    return f"{_KINDS[node['type']]}{_bounds(node)}{example}"


_KINDS = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text in quotes",
    "array": "a list",
    "object": "a table",
}


def _bounds(node: Node) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if low is not None:
        return f", at least {low:g}"
    return f" above {node['exclusiveMinimum']:g}" if "exclusiveMinimum" in node else ""


def _either(choices: Iterable[str]) -> str:
    *first, last = dict.fromkeys(choices)
    return f"{', '.join(first)} or {last}" if first else last


def find_node(schema: Node, location: Sequence[str | int]) -> tuple[Node, list[str | int]]:
    """The part of a schema that describes the value at a location, and how much of the location leads to it."""
    node, path = schema, []
    for step in location:
        if isinstance(step, int):
            inner = node.get("items")
        else:
            inner = node.get("properties", {}).get(step, node.get("additionalProperties"))
        if not isinstance(inner, Mapping):
            break
        path.append(step)
        reference = inner.get("$ref", "").rpartition("/")[2]
        node = {**schema["$defs"][reference], **inner} if reference else inner
    return node, path


def suggest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known: the nearest one, or all.

    >>> suggest("epohcs", ["epochs", "seed"]), suggest("x", ["epochs", "seed"])
    ('; did you mean "epochs"?', '; choose from: epochs, seed.')
    """
    names = list(names)
    near = get_close_matches(name, names, n=1)
    return f'; did you mean "{near[0]}"?' if near else f"; choose from: {', '.join(names)}."


STRATEGY_OPTIONS: dict[str, dict[str, bool | int | float | str]] = {
    "adaptive_representative": {"candidates": 10000},
    "anchor": {"anchors": 10, "neighbours": 50, "size": 1000, "score": "least_confidence"},
    "atlas": {"step": 10, "candidates": 10000},
    "badge": {"candidates": 100000},
    "bald": {"samples": 10, "dropout": 0.5, "batch": "power", "beta": 1.0},
    "cluster": {"per_cluster": 5},
    "clustered_uncertainty": {"share": 0.1, "per_cluster": 5},
    "contrastive": {"neighbours": 10, "candidates": 50000, "anchors": 1000},
    "core_set": {"anchors": 1000},
    "drop_query": {"samples": 3, "dropout": 0.75, "candidates": 20000},
    "entropy": {},
    "high_uncertainty_cluster": {"clusters": 20},
    "keyword": {},
    "least_confidence": {},
    "margin_confidence": {},
    "max_positive": {},
    "model_outlier": {},
    "outlier": {},
    "per_label": {"score": "least_confidence"},
    "probability_cover": {"radius": 0.55, "candidates": 10000},
    "random": {},
    "ratio_confidence": {},
    "representative": {},
    "representative_cluster": {"clusters": 20},
    "transfer_representative": {"candidates": 2000},
    "transfer_uncertainty": {},
    "typical_cluster": {"max_clusters": 200, "neighbours": 20, "candidates": 20000},
    "uncertain_model_outlier": {"share": 0.1},
}
"""Strategy -> option -> default."""


Option = bool | int | float | str
"""The value of a strategy's option."""
Mix = Mapping[str, int | str]

_PERCENTAGE = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_OPTION_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def weights(mix: Mix) -> dict[str, float]:
    """Numbers and percentages as weights.

    >>> weights({"random": "20%", "entropy": "80%"})
    {'random': 20.0, 'entropy': 80.0}
    """
    return {name: _percentage(value) if isinstance(value, str) else float(value) for name, value in mix.items()}


def mix_faults(mix: Mix) -> list[str]:
    """Everything that is wrong with a mix of strategies; empty when it can be used."""
    faults = [_unknown_strategy(name) for name in mix if name not in STRATEGY_OPTIONS]
    percentages = {name: value for name, value in mix.items() if isinstance(value, str)}
    faults += [
        f'{name} = {as_toml(value)}: write a percentage as "80%".'
        for name, value in percentages.items()
        if _percentage(value) < 0
    ]
    faults += [
        f"{name} = {value}: write a whole number, at least 0."
        for name, value in mix.items()
        if not isinstance(value, str) and value < 0
    ]
    if percentages and len(percentages) < len(mix):
        faults.append("numbers and percentages are mixed; write the same kind for all strategies.")
    elif not faults and percentages and abs(sum(map(_percentage, percentages.values())) - 100) > 0.01:
        faults.append(f"the percentages add up to {sum(map(_percentage, percentages.values())):g}%, not 100%.")
    elif not faults and not sum(weights(mix).values()):
        faults.append("give at least one strategy a number above 0.")
    return faults


def option_faults(options: Mapping[str, Mapping[str, Option]]) -> list[str]:
    """Everything that is wrong with options of strategies; empty when they can be used."""
    faults = []
    for name, values in options.items():
        if name not in STRATEGY_OPTIONS:
            faults.append(_unknown_strategy(name))
            continue
        faults += [fault for option, value in values.items() if (fault := _option_fault(name, option, value))]
    return faults


def _percentage(value: str) -> float:
    match = _PERCENTAGE.fullmatch(value.strip())
    return float(match[1]) if match else -1.0


def _unknown_strategy(name: str) -> str:
    return f'there is no strategy "{name}"{suggest(name, STRATEGY_OPTIONS)}'


def _option_fault(name: str, option: str, value: Option) -> str:
    """What is wrong with an option of a strategy; empty when it can be used."""
    options = STRATEGY_OPTIONS[name]
    if option not in options:
        return f'{name}: there is no option "{option}"{suggest(option, options) if options else "; it has none."}'
    default, setting = options[option], f"{name}.{option} = {as_toml(value)}"
    fits = isinstance(value, (int, float) if isinstance(default, float) else type(default))
    if not fits or isinstance(value, bool) != isinstance(default, bool):
        return f"{setting}: write {_OPTION_KINDS[type(default)]}, such as {as_toml(default)}."
    if option == "score" and value not in STRATEGY_OPTIONS:
        return f"{setting}: {_unknown_strategy(str(value))}"
    if option == "score" and value == name:
        return f"{setting}: name another strategy."
    if not isinstance(value, str) and not 0 <= value < math.inf:
        return f"{setting}: write a number, at least 0."
    if option in ("share", "dropout", "radius") and not isinstance(value, str) and value > 1:
        return f"{setting}: write a number from 0 to 1."
    return ""
