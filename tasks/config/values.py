"""Values of pal.toml: written as TOML, and what may stand there in words, from the JSON schema of the settings."""

from __future__ import annotations

import json
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
