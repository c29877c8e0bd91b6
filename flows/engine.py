"""What every command needs before a run: Prefect's settings, the server to use, and log lines on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

from flows.server.prefect_api import answers
from flows.server.up_state import found_up
from storage.errors import ServiceError
from tasks.project import Project

ROOMS = ("flows", "tasks", "annotation", "storage")
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(ROOMS),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""The same as `[tool.prefect]` in pyproject.toml, which only counts where Prefect is started beside that file."""


def listen() -> None:
    """Show the log lines of our rooms on stderr, once each."""
    for room in ROOMS:
        logger = logging.getLogger(room)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        if not any(isinstance(handler, _Lines) for handler in logger.handlers):
            logger.addHandler(_Lines())


def say(message: str) -> None:
    """One line on stderr; JSON where $PAL_LOG says so."""
    line = json_line("INFO", __name__, message) if as_json() else message
    print(line, file=sys.stderr, flush=True)


def json_line(level: str, source: str, message: str) -> str:
    """A log line as JSON, as $PAL_LOG=json asks for."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, "level": level, "logger": source, "message": message}, ensure_ascii=False)


class _Lines(logging.Handler):
    """One plain line a record, or one of JSON, to whatever stderr is now."""

    def emit(self, record: logging.LogRecord) -> None:
        if as_json():
            print(json_line(record.levelname, record.name, record.getMessage()), file=sys.stderr, flush=True)
            return
        mark = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(f"  {mark}{record.getMessage()}", file=sys.stderr, flush=True)


def as_json() -> bool:
    """Whether log lines are to be JSON."""
    return os.environ.get("PAL_LOG") == "json"


def running_server(project: Project) -> str | None:
    """The API of the server to use: $PREFECT_API_URL, else that of this workspace's `pal up`; None without either.

    Raises:
        ServiceError: Nothing answers at $PREFECT_API_URL.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        if not answers(url, seconds=5.0):
            raise ServiceError(
                f"No Prefect server answers at PREFECT_API_URL={url}.",
                hint="Start it (prefect server start), or run without one: unset PREFECT_API_URL.",
            )
        return url
    up = found_up(project)
    return up.api if up and answers(up.api) else None
