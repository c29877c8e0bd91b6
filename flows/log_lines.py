"""Log lines of a command on stderr: plain text, or JSON if $PAL_LOG is `json`."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

ROOMS = ("flows", "tasks", "annotation", "storage")


def listen(*, debug: bool = False) -> None:
    """Show the log records of our packages on stderr; with `debug` also debug records and Prefect's log."""
    for package in ROOMS:
        logger = logging.getLogger(package)
        logger.setLevel(logging.DEBUG if debug or is_debugging() else logging.INFO)
        logger.propagate = False
        if not any(isinstance(handler, _Lines) for handler in logger.handlers):
            logger.addHandler(_Lines())


def is_debugging() -> bool:
    """Whether `pal --debug` was used."""
    return logging.getLogger(__name__).getEffectiveLevel() == logging.DEBUG


def say(line: str) -> None:
    """Show a line that is not a log record."""
    if as_json():
        print(json_line("INFO", __name__, line), file=sys.stderr, flush=True)
    else:
        print(f"  {line}", file=sys.stderr, flush=True)


def json_line(level: str, source: str, message: str) -> str:
    """Format a log line as JSON."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, "level": level, "logger": source, "message": message}, ensure_ascii=False)


def as_json() -> bool:
    """Whether $PAL_LOG requests log lines as JSON."""
    return os.environ.get("PAL_LOG") == "json"


def counted(n: int, noun: str) -> str:
    """Return a number with a noun in the singular or plural.

    >>> counted(1, "file"), counted(1200, "answer"), counted(2, "batch")
    ('1 file', '1,200 answers', '2 batches')
    """
    if n == 1:
        return f"{n:,} {noun}"
    return f"{n:,} {noun}{'es' if noun.endswith(('ch', 'sh', 's', 'x')) else 's'}"


class _Lines(logging.Handler):
    """Writes each record as one line to the current stderr, also if a file's name in it has line breaks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print `  warning: MESSAGE`, without the level below a warning; with PAL_LOG=json a JSON object."""
        if as_json():
            print(json_line(record.levelname, record.name, record.getMessage()), file=sys.stderr, flush=True)
            return
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(f"  {level}{' '.join(record.getMessage().splitlines())}", file=sys.stderr, flush=True)
