"""The numbers of a message: what a test holds it to, however it is worded."""

from __future__ import annotations

import re


def figures(text: str) -> list[str]:
    """The numbers in a text, as they are written there."""
    return re.findall(r"(?<![\w.])-?\d+(?:[.,]\d+)*", text)
