"""The wording of every error and log line: `python tests/messages.py > tests/messages.txt` writes it down anew.

What is put into a message stands as `{}`, so that only another wording is another line. Tests of behavior assert the
class of an error and its values; how it is said is here, once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("annotation", "flows", "storage", "tasks")
LEVELS = {"debug", "info", "warning", "error", "exception"}


def messages() -> list[str]:
    """Each message as `module: kind: text`, with the hint of an error after it."""
    paths = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return [line for path in paths for line in sorted(set(_messages_of(path)))]


def _messages_of(path: Path) -> Iterator[str]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        kind = _kind(node.func)
        text = _text(node.args[0]) if kind and node.args else ""
        if text:
            hint = "".join(_text(word.value) for word in node.keywords if word.arg == "hint")
            yield f"{module}: {kind}: {text}{f' Hint: {hint}' if hint else ''}"


def _kind(function: ast.expr) -> str:
    """The class of an error or the level of a log line; empty for any other call."""
    if isinstance(function, ast.Name) and function.id.endswith("Error"):
        return function.id
    logs = isinstance(function, ast.Attribute) and "log" in ast.unparse(function.value).lower()
    return function.attr if logs and isinstance(function, ast.Attribute) and function.attr in LEVELS else ""


def _text(node: ast.expr) -> str:
    """What a literal says, on one line; empty for what is none."""
    if isinstance(node, ast.Constant):
        return str(node.value).replace("\n", "\\n") if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return f"{_text(node.left) or '{}'}{_text(node.right) or '{}'}".replace("{}{}", "")
    if isinstance(node, ast.IfExp):
        return " | ".join(filter(None, (_text(node.body), _text(node.orelse))))
    return ""


if __name__ == "__main__":
    print("\n".join(messages()))
