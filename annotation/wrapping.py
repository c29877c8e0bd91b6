"""Text in the columns of a terminal: broken between words, and cut where it has no room."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` columns, broken between words, each continued under its own start.

    Only a word that is longer than a line is broken; a no-break space does not end a word. No width: as it is.

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
                current, piece = indent, piece.lstrip().removeprefix("· ")
            current, is_empty = current + piece, False
            while _columns(current) > width:
                lines.append(cut(current, width, end=""))
                current = indent + current[len(lines[-1]) :]
        lines.append(current)
    return "\n".join(lines)


def in_a_row(keys: Iterable[str]) -> str:
    """Keys with their meanings, none of which is broken between two lines."""
    return " · ".join(key.replace(" ", "\u00a0") for key in keys)


def _columns(text: str) -> int:
    """How wide a terminal shows a text."""
    text = re.sub(r"\x1b\[\d*m", "", text)
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text if not unicodedata.combining(char))


def cut(text: str, width: int, end: str = "…") -> str:
    """The beginning of a text that has room in so many columns."""
    if _columns(text) <= width:
        return text
    end_at = len(text)
    while end_at > 1 and _columns(text[:end_at] + end) > width:
        end_at -= max(1, (_columns(text[:end_at]) - width) // 2)
    return text[:end_at] + end
