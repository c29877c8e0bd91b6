"""The wording of every message: `python tests/messages.py > tests/messages.txt` writes it down anew.

Messages are errors with their hints, log lines, lines that commands print, faults of pal.toml, and reasons why a figure
has no value. What is put into a message stands as `{}`, so that only another wording is another line. Tests of behavior
assert the class of an error and its values; how it is said is here, once.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("annotation", "flows", "storage", "tasks")
LEVELS = {"debug", "info", "warning", "error", "exception"}
PRINTS = {"print", "say", "echo", "tell"}

Names = Mapping[str, Sequence[ast.expr]]
"""What a function, or its module, assigns to each name."""


def messages() -> list[str]:
    """Each message as `module: kind: text`, with the hint of an error after it."""
    paths = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return [line for path in paths for line in sorted(set(_messages_of(path)))]


def _messages_of(path: Path) -> Iterator[str]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node, names in _within(tree, _assigned(tree.body)):
        if isinstance(node, ast.Call):
            for kind, text in _said(node, names):
                yield f"{module}: {kind}: {text}"
        elif isinstance(node, ast.FunctionDef) and "fault" in node.name:
            for text in _sentences(node.body[1:] if ast.get_docstring(node) else node.body):
                yield f"{module}: fault: {text}"
        elif isinstance(node, ast.AnnAssign) and "FAULTS" in ast.unparse(node.target):  # rows of (pattern, what, hint)
            for row in ast.walk(node):
                if isinstance(row, ast.Tuple) and isinstance(row.elts[0], ast.Constant | ast.JoinedStr):
                    yield f"{module}: fault: {' Hint: '.join(_text(cell, names) for cell in row.elts[1:])}"


def _within(node: ast.AST, names: Names) -> Iterator[tuple[ast.AST, Names]]:
    """Each node with the names that can be meant there."""
    for child in ast.iter_child_nodes(node):
        inner = names
        if isinstance(child, ast.FunctionDef):
            inner = {**names, **_assigned(list(ast.walk(child)))}
        yield child, inner
        yield from _within(child, inner)


def _assigned(nodes: Sequence[ast.AST]) -> Names:
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def _said(call: ast.Call, names: Names) -> Iterator[tuple[str, str]]:
    """The kinds and texts of the messages of a call."""
    kind = _kind(call.func)
    if ast.unparse(call.func) == "call.show":  # a value for --json, then lines
        texts = (_text(line, names) for given in call.args[1:] for line in _lines(given, names))
        yield from (("print", text) for text in texts if _has_words(text))
    keywords = {word.arg: _text(word.value, names) for word in call.keywords if word.arg in ("hint", "reason")}
    if kind == "print":
        text = " ".join(filter(_has_words, (_text(given, names) for given in call.args)))
    else:
        text = _text(call.args[0], names) if kind and call.args else ""
    if _has_words(text):
        yield kind, f"{text} Hint: {keywords['hint']}" if keywords.get("hint") else text
    if keywords.get("reason"):
        yield "reason", keywords["reason"]


def _lines(node: ast.expr, names: Names) -> Iterator[ast.expr]:
    """The expressions of the lines in an argument: itself, or the elements of lists that are unpacked there."""
    lists = ast.Starred | ast.List | ast.BoolOp | ast.IfExp | ast.ListComp | ast.GeneratorExp
    values = names.get(node.id, ()) if isinstance(node, ast.Name) else ()
    parts = [value for value in values if isinstance(value, lists)]
    if isinstance(node, lists):
        parts = [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
    for part in parts:
        yield from _lines(part, names)
    if not parts:
        yield node


def _kind(function: ast.expr) -> str:
    """The class of an error, the level of a log line, or `print`; empty for any other call."""
    name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
    if name.lstrip("_") in PRINTS:
        return "print"
    if isinstance(function, ast.Name) and name.endswith("Error"):
        return name
    logs = isinstance(function, ast.Attribute) and "log" in ast.unparse(function.value).lower()
    return name if logs and name in LEVELS else ""


def _text(node: ast.expr, names: Names) -> str:
    """What a literal, or a name of one, says, on one line; empty for what is none."""
    if isinstance(node, ast.Constant):
        return str(node.value).replace("\n", "\\n") if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, {}) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return f"{_text(node.left, names) or '{}'}{_text(node.right, names) or '{}'}".replace("{}{}", "")
    if isinstance(node, ast.IfExp):
        return " | ".join(filter(None, (_text(node.body, names), _text(node.orelse, names))))
    if isinstance(node, ast.Name):
        return " | ".join(filter(None, (_text(value, {}) for value in names.get(node.id, ()))))
    return ""


def _has_words(text: str) -> bool:
    return re.search("[A-Za-z]{2}", text.replace("\\n", "")) is not None


def _sentences(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The texts of more than one word in the body of a function."""
    nodes: list[ast.AST] = list(body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Constant | ast.JoinedStr):
            text = _text(node, {})
            if _has_words(text) and " " in text.replace("{}", "").strip():
                yield text
        else:
            nodes += ast.iter_child_nodes(node)


if __name__ == "__main__":
    print("\n".join(messages()))
