"""Wraps and truncates text to the columns of a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def wrapped(text: str, width: int) -> str:
    """Wrap the text between words to at most `width` columns, keeping the indentation of each line.

    Only words longer than a line are broken; a no-break space does not end a word. With width 0 nothing is changed.

    >>> print(wrapped("  one two three four", 11))
      one two
      three
      four
    """
    if not width:
        return text
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip(" "))][: width // 2]
        current, is_empty = indent, True
        for piece in re.findall(r"[^\S\u00a0]*[\S\u00a0]+", line[len(indent) :]):
            if not is_empty and _columns(current + piece) > width:
                lines.append(current)
                current, piece = indent, piece.lstrip()
            current, is_empty = current + piece, False
            while _columns(current) > width:
                lines.append(cut(current, width, end=""))
                current = indent + current[len(lines[-1]) :]
        lines.append(current)
    return "\n".join(lines)


def in_a_row(keys: Iterable[str]) -> str:
    """Join keys with their meanings such that none is broken between two lines."""
    return "\u00a0· ".join(key.replace(" ", "\u00a0") for key in keys)


def _columns(text: str) -> int:
    """The width of a text in a terminal."""
    text = re.sub(r"\x1b\[\d*m", "", text)
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text if not unicodedata.combining(char))


def cut(text: str, width: int, end: str = "…") -> str:
    """Truncate a text to `width` columns."""
    if _columns(text) <= width:
        return text
    end_at = len(text)
    while end_at > 1 and _columns(text[:end_at] + end) > width:
        end_at -= max(1, (_columns(text[:end_at]) - width) // 2)
    return text[:end_at] + end
