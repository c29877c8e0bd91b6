"""Which Prefect server commands use, and the settings that every one of ours gets."""

from __future__ import annotations

import os

from flows.log_lines import ROOMS
from flows.server.prefect_api import answers
from flows.server.up_state import found_up, is_running
from storage.errors import ServiceError
from tasks.project import Project

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(ROOMS),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""The same as `[tool.prefect]` in pyproject.toml, which only counts where Prefect is started beside that file."""


def running_server(project: Project) -> str | None:
    """The API of the server to use: $PREFECT_API_URL, or that of the workspace's `pal up`; None where none is up.

    Raises:
        ServiceError: Nothing answers at $PREFECT_API_URL.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        if not answers(url, seconds=5.0):
            raise ServiceError(
                f"No Prefect server answers at PREFECT_API_URL={url}.",
                hint="start it: prefect server start; or do without: unset PREFECT_API_URL",
            )
        return url
    up = found_up(project)
    return up.api if up and is_running(up) and answers(up.api) else None
