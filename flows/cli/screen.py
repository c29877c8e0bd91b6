"""Standard output and error on a terminal: control sequences in texts and names are shown, not executed."""

from __future__ import annotations

import io
from typing import TextIO

from annotation.keys import plain


class Screen(io.TextIOWrapper):
    """A terminal that shows control characters instead of executing them.

    Attributes:
        terminal: The terminal itself, for output with intended colors and positions.
    """

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal
        super().__init__(terminal.buffer, terminal.encoding, terminal.errors, write_through=True)

    def write(self, text: str) -> int:
        """Write `plain(text)`."""
        return super().write(plain(text))


def terminal_of(stream: TextIO) -> TextIO:
    """The terminal behind a `Screen`; other streams are returned unchanged."""
    return stream.terminal if isinstance(stream, Screen) else stream
