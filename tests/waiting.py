"""Waiting for what other processes do. How long says nothing: it only ends a test whose claim does not hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TypeVar

import pytest

Result = TypeVar("Result")
Server = TypeVar("Server", bound=HTTPServer)
PATIENCE_S = 300.0


def until(ready: Callable[[], Result | None]) -> Result:
    """The first result of `ready` that is true; fails where none ever is."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if result := ready():
            return result
        time.sleep(0.02)
    pytest.fail(f"not within {PATIENCE_S:.0f} s: {ready}")


class QuietHandler(BaseHTTPRequestHandler):
    """Prints nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """A server that answers in a thread of its own until the end of the block."""
    with server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
