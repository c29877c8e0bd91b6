"""Standard output and error on a terminal: nothing in a text, a name or a file name is obeyed as a control sequence."""

from __future__ import annotations

import io
from typing import TextIO

from annotation.keys import plain


class Screen(io.TextIOWrapper):
    """A terminal on which control characters are shown, not obeyed.

    Attributes:
        terminal: The terminal as it is, for what uses colors and positions on purpose.
    """

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal
        super().__init__(terminal.buffer, terminal.encoding, terminal.errors, write_through=True)

    def write(self, text: str) -> int:
        """Write `plain(text)`."""
        return super().write(plain(text))


def terminal_of(stream: TextIO) -> TextIO:
    """The terminal behind a `Screen`; any other stream as it is."""
    return stream.terminal if isinstance(stream, Screen) else stream
