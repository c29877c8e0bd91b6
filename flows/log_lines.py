"""Log lines of a command on stderr: plain, or JSON where $PAL_LOG says so."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

ROOMS = ("flows", "tasks", "annotation", "storage")


def listen(*, debug: bool = False) -> None:
    """Show the log lines of our packages on stderr, once each; with `debug`, tracebacks and Prefect's log too."""
    for room in ROOMS:
        logger = logging.getLogger(room)
        logger.setLevel(logging.DEBUG if debug or is_debugging() else logging.INFO)
        logger.propagate = False
        if not any(isinstance(handler, _Lines) for handler in logger.handlers):
            logger.addHandler(_Lines())


def is_debugging() -> bool:
    """Whether `pal --debug` was typed."""
    return logging.getLogger(__name__).getEffectiveLevel() == logging.DEBUG


def say(line: str) -> None:
    """Show one line that is no log record."""
    if as_json():
        print(json_line("INFO", __name__, line), file=sys.stderr, flush=True)
    else:
        print(f"  {line}", file=sys.stderr, flush=True)


def json_line(level: str, source: str, message: str) -> str:
    """A log line as JSON, as $PAL_LOG=json asks for."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, "level": level, "logger": source, "message": message}, ensure_ascii=False)


def as_json() -> bool:
    """Whether log lines are to be JSON."""
    return os.environ.get("PAL_LOG") == "json"


def counted(n: int, noun: str) -> str:
    """A number of things, as people say it.

    >>> counted(1, "file"), counted(1200, "answer"), counted(2, "batch")
    ('1 file', '1,200 answers', '2 batches')
    """
    if n == 1:
        return f"{n:,} {noun}"
    return f"{n:,} {noun}{'es' if noun.endswith(('ch', 'sh', 's', 'x')) else 's'}"


class _Lines(logging.Handler):
    """One plain line a record, or one of JSON, to whatever stderr is now."""

    def emit(self, record: logging.LogRecord) -> None:
        if as_json():
            print(json_line(record.levelname, record.name, record.getMessage()), file=sys.stderr, flush=True)
            return
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(f"  {mark}{record.getMessage()}", file=sys.stderr, flush=True)
