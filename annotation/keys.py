"""Reads keys: single key presses from a terminal, or one key per line from a pipe or file."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import signal
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator
from typing import TextIO

BURST_S = 0.03
"""An Enter this soon after a key belongs to it (the habit of typing `1` Enter) and is ignored."""
HABIT_S = 0.25
"""An Enter within this time, but after `BURST_S`, may be the same habit: it counts, and a note is shown."""
ESCAPE_S = 0.2
"""How long to wait for the rest of an escape sequence; on a slow line it must not be read as separate keys."""
LEAVE = "ctrl-d"
LINE_END = ("\r", "\n")
NAMED = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\t": "tab"}
ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (ESC begins terminal commands), marks that reorder a line, and lone surrogates."""


class LineKeys(Iterator[str]):
    """Keys from a stdin that is not a terminal: each line is one key, or a name such as `left`."""

    def __init__(self, stdin: TextIO) -> None:
        self._stdin = stdin

    def __next__(self) -> str:
        line = self.line()
        if line is None:
            raise StopIteration
        return (line.strip(" ") or " ") if line else "enter"

    def line(self) -> str | None:
        """The next line without its line end; None at the end of the file."""
        line = self._stdin.readline()
        return line.rstrip("\r\n") if line else None


def line_keys(stdin: TextIO) -> LineKeys:
    """Read keys from a pipe or file, one per line; an empty line is Enter, a line of spaces is the space key.

    >>> import io
    >>> list(line_keys(io.StringIO("1\\n\\n \\nu")))
    ['1', 'enter', ' ', 'u']
    """
    return LineKeys(stdin)


def terminal_keys(stdin: TextIO) -> Iterator[str]:
    """Read single keys from a terminal: a character, or a name such as `enter`, `backspace`, `left`, `escape`.

    The terminal is in cbreak mode, without echo, until the iterator ends, fails or is closed. Earlier input is
    discarded; Ctrl-C raises KeyboardInterrupt.
    """
    keys = _keys(stdin)
    next(keys)  # enter cbreak mode before the first question is shown
    return keys


def typed_line(keys: Iterator[str], write: Callable[[str], None]) -> str | None:
    """Read a line: the next line of `LineKeys`, or single keys up to Enter, edited with Backspace.

    Args:
        keys: From `terminal_keys` or `line_keys`.
        write: Echoes typed text, without a line break.

    Returns:
        The text as typed; empty after Escape; None if the keys end or `LEAVE` is typed.
    """
    if isinstance(keys, LineKeys):
        return keys.line()
    typed = ""
    for key in keys:
        if key == LEAVE:
            return None
        if key in ("enter", "escape"):
            return typed if key == "enter" else ""
        if key == "backspace" and typed:
            typed = typed[:-1]
            write("\b \b")
        elif len(key) == 1:
            typed += key
            write(plain(key))
    return None


def plain(text: str) -> str:
    """Replace everything in the text that a terminal would execute.

    >>> plain("a\\x1b[2Jb\\r\\nc\\u202e")
    'a␛[2Jb\\nc\ufffd'
    """
    picture = {"\t": " "} | {chr(code): chr(0x2400 + code) for code in range(32) if code != 9}
    return UNSAFE.sub(lambda match: picture.get(match[0], "\ufffd"), text.replace("\r\n", "\n"))


class _Source:
    """The characters of a terminal, which is in cbreak mode inside `with`."""

    def __init__(self, stdin: TextIO) -> None:
        self._fd = stdin.fileno()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._waiting: deque[str] = deque()
        self._before = termios.tcgetattr(self._fd)
        self._signals = threading.current_thread() is threading.main_thread()  # Python allows handlers only there
        self._wakeup: tuple[int, ...] = ()

    def __enter__(self) -> _Source:
        tty.setcbreak(self._fd)
        if self._signals:
            self._handler = signal.signal(signal.SIGCONT, self._continue) or signal.SIG_DFL
            # A Ctrl-C just before a blocking read would take effect at the next key; a byte in a pipe wakes the read.
            self._wakeup = os.pipe()
            os.set_blocking(self._wakeup[1], False)
            self._wakeup_before = signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._signals:
            signal.set_wakeup_fd(self._wakeup_before)
            for end in self._wakeup:
                os.close(end)
            signal.signal(signal.SIGCONT, self._handler)
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _continue(self, *_: object) -> None:
        """Restore cbreak mode after Ctrl-Z and `fg`: the shell has changed it."""
        with contextlib.suppress(termios.error):  # in the background after `bg`; `fg` sends the signal again
            tty.setcbreak(self._fd)

    def read(self) -> str:
        """The next character; empty at the end."""
        while not self._waiting:
            readable = select.select([self._fd, *self._wakeup[:1]], [], [])[0]
            if self._fd not in readable:
                os.read(self._wakeup[0], 1024)  # a signal arrived; its handler runs now
                continue
            data = os.read(self._fd, 1024)
            if not data:
                return ""
            self._waiting.extend(self._decode(data))
        return self._waiting.popleft()

    def ready(self, within_s: float) -> bool:
        """Whether a character is available, or arrives within that time."""
        return bool(self._waiting) or bool(select.select([self._fd], [], [], within_s)[0])


def _keys(stdin: TextIO) -> Iterator[str]:
    with _Source(stdin) as source:
        yield "ready"
        char = source.read()
        while char:
            read_at = time.monotonic()
            key = _name(char, source)
            yield key
            char = ""
            # Waits no longer than the next read would; an Enter that arrives here was typed before the next question.
            if len(key) == 1 and source.ready(max(0.0, read_at + BURST_S - time.monotonic())):
                char = source.read()
            if not char or char in LINE_END:
                char = source.read()


def _name(char: str, source: _Source) -> str:
    if char in NAMED:
        return NAMED[char]
    if char == "\x1b":
        return _escaped(source)
    return f"ctrl-{chr(ord(char) + 96)}" if ord(char) < 27 else char


def _escaped(source: _Source) -> str:
    """Read the rest of an escape sequence and return its key's name; all of it, so that no part is read as a key."""
    if not source.ready(ESCAPE_S):
        return "escape"
    kind = source.read()
    if kind not in ("[", "O"):
        return "that key"
    sequence = char = _next_soon(source)
    if kind == "[" and char == "[":  # F1 to F5 of the Linux console
        _next_soon(source)
    while kind == "[" and char and not "@" <= char <= "~":
        char = _next_soon(source)
        sequence += char
    return ARROWS.get(sequence, "that key")


def _next_soon(source: _Source) -> str:
    return source.read() if source.ready(ESCAPE_S) else ""
