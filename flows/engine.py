"""How flows run: with a Prefect server that is there, else with a temporary one; quiet, without telemetry."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.config import open_project
from flows.server.prefect_api import answers
from flows.server.up_state import found_up
from storage.errors import ServiceError
from tasks.project import Project

ROOMS = ("flows", "tasks", "annotation", "storage")
DEFAULT_SERVER = "http://127.0.0.1:4200/api"
SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(ROOMS),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""The same as `[tool.prefect]` in pyproject.toml, which only counts where Prefect is started beside that file."""


def begin(workspace: str) -> Project:
    """The start of every flow: the project, and log lines from `INFO` on."""
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)
    return open_project(Path(workspace))


def run(name: str, project: Project, **parameters: Any) -> Any:
    """Run the flow `flows.<name>.<name>` on a project, telling what it does on stderr; returns what it returns.

    The module is imported only here: Prefect takes seconds. With $PAL_DEBUG Prefect's own log lines are shown too.
    """
    debug = bool(os.environ.get("PAL_DEBUG"))
    for variable, value in {**SETTINGS, "PREFECT_LOGGING_LEVEL": "INFO" if debug else "CRITICAL"}.items():
        os.environ.setdefault(variable, value)
    listen()
    if "prefect" not in sys.modules:
        _choose_server(project)
    from importlib import import_module

    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    flow: Callable[..., Any] = getattr(import_module(f"flows.{name}"), name)
    # The heartbeat tells a server that a run on another machine is alive; ending it costs a second a run.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return flow(workspace=str(project.workspace.root), **parameters)


def listen() -> None:
    """Show the log lines of our rooms on stderr, once each."""
    for room in ROOMS:
        logger = logging.getLogger(room)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        if not any(isinstance(handler, _Lines) for handler in logger.handlers):
            logger.addHandler(_Lines())


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
    """The API of the server to use: $PREFECT_API_URL, that of the workspace's `pal up`, or one on Prefect's own port.

    Raises:
        ServiceError: Nothing answers at $PREFECT_API_URL.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        if not answers(url, seconds=5.0):
            raise ServiceError(
                f"no Prefect server answers at PREFECT_API_URL={url}.",
                hint="start it: prefect server start; or do without: unset PREFECT_API_URL",
            )
        return url
    up = found_up(project)
    return next((api for api in (up.api if up else None, DEFAULT_SERVER) if api and answers(api)), None)


def _choose_server(project: Project) -> None:
    """Use a server that is there; say which."""
    if server := running_server(project):
        os.environ["PREFECT_API_URL"] = server
        said = f"Prefect server: {server}"
    else:
        said = "starting a temporary Prefect server (15 s; none with `pal up` in another terminal)"
        home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
        home.mkdir(parents=True, exist_ok=True)  # its first server start fails without
    if as_json():
        print(json_line("INFO", __name__, said), file=sys.stderr, flush=True)
    else:
        print(f"  {said}", file=sys.stderr, flush=True)
