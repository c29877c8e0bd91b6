"""Flow runs that commands execute in their own process: created from a deployment, with its slot, in no work queue.

Workers poll their work queues, so that no worker picks up such a run. Its labels identify the process that executes it,
so that a run whose process was killed can be marked as crashed; otherwise it would keep its deployment's only slot.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import time
import urllib.error
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from pydantic_core import to_jsonable_python

from flows.log_lines import ROOMS, is_debugging, say
from flows.server import prefect_api
from flows.server.prefect_api import AUTH_STRING, COMMAND_TAG, GOING_ON, answers, ask
from flows.server.processes import born_at, found_up, is_running, is_same
from storage.errors import ServiceError
from tasks.project import Project

if TYPE_CHECKING:
    from flows.run import Run

P = ParamSpec("P")
T = TypeVar("T")

POLL_S = 1.0
LEVELS = ("PREFECT_LOGGING_LEVEL", "PREFECT_LOGGING_INTERNAL_LEVEL")
HOST, PID, BORN = "pal.host", "pal.pid", "pal.born"
"""The labels of a run that identify the process that executes it."""


def run_deployment(
    api: str, project: Project, body: Callable[Concatenate[Run, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a flow body as a flow run of its deployment, in this process, and return its result.

    If the deployment allows only one run at a time, this waits until other runs have ended.

    Args:
        api: The API URL of the Prefect server.
        project: The project.
        body: A flow body, called with a `Run` and the other arguments.

    Raises:
        ServiceError: The server cannot be reached, or the run was canceled in the UI while it waited.
        Exception: Any error of the body.
    """
    from flows.run import flow_name

    set_up_prefect()
    from flows.server import deployments

    name = flow_name(body)
    parameters = dict(inspect.signature(body).bind(None, *args, **kwargs).arguments)
    del parameters[next(iter(parameters))]
    try:
        crash_killed_commands(api)
        deployment = _deployment(api, name, lambda: deployments.create_deployment(api, name, project))
        run_id = _create_run(api, deployment, {"workspace": str(project.workspace.root), **parameters})
    except OSError as error:
        raise ServiceError(f"The Prefect server at {api} cannot be used: {error}.", hint="Try again.") from error
    say(f"Prefect run: {prefect_api.ui_of(api)}/runs/flow-run/{run_id}")
    try:
        try:
            _take_slot(api, name, run_id)
        except OSError as error:
            raise ServiceError(
                f"The Prefect server at {api} cannot be reached: {error}.", hint="Run the command again."
            ) from error
        return deployments.execute(api, project, body, run_id, parameters)
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the next command marks it as crashed
            _set_state(api, run_id, "CANCELLED", "Cancelled", "Interrupted at the keyboard.", force=True)
        raise


def set_up_prefect() -> None:
    """Set the environment variables that Prefect reads on import: no telemetry, its own log only with `--debug`."""
    levels = {name: "INFO" if is_debugging() else "CRITICAL" for name in LEVELS}
    password = {"PREFECT_API_AUTH_STRING": os.environ[AUTH_STRING]} if os.environ.get(AUTH_STRING) else {}
    for variable, value in {**SETTINGS, **levels, **password}.items():
        os.environ.setdefault(variable, value)


def crash_killed_commands(api: str) -> list[tuple[str, str]]:
    """Mark runs as crashed whose command was killed on this machine; return their names and flows."""
    states = [*GOING_ON, "SCHEDULED"]
    filters = {"flow_runs": {"tags": {"all_": [COMMAND_TAG]}, "state": {"type": {"any_": states}}}, "limit": 200}
    here = socket.gethostname()
    killed = [
        run
        for run in ask(api, "/flow_runs/filter", filters)
        if run["labels"].get(HOST) == here and not is_same(int(run["labels"][PID]), float(run["labels"].get(BORN, 0)))
    ]
    return prefect_api.crash_runs(api, killed, "The command that executed it was killed.")


def _deployment(api: str, name: str, create: Callable[[], object]) -> dict[str, Any]:
    """Read a deployment; create it if it does not exist."""
    try:
        return _read_deployment(api, name)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
    prefect_api.make_pool(api)
    create()
    return _read_deployment(api, name)


def _read_deployment(api: str, name: str) -> dict[str, Any]:
    deployment: dict[str, Any] = ask(api, f"/deployments/name/{name}/{name}")
    return deployment


def _create_run(api: str, deployment: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    pid = os.getpid()
    run = {
        "name": deployment["name"],
        "flow_id": deployment["flow_id"],
        "deployment_id": deployment["id"],
        "parameters": to_jsonable_python(parameters),
        "state": {"type": "SCHEDULED"},
        "tags": [COMMAND_TAG],
        "labels": {HOST: socket.gethostname(), PID: pid, BORN: born_at(pid)},
    }
    return str(ask(api, "/flow_runs/", run)["id"])


def _take_slot(api: str, name: str, run_id: str) -> None:
    """Set a run to PENDING, which takes a slot of its deployment; wait, with a message, until a slot is free."""
    is_waiting = False
    while _set_state(api, run_id, "PENDING")["status"] != "ACCEPT":
        # Prefect itself would retry after 30 s, or with CANCEL_NEW never.
        _set_state(api, run_id, "SCHEDULED", "AwaitingConcurrencySlot", force=True)
        if not is_waiting:
            say(f"Waiting for another {name} run to end (Ctrl-C cancels this one).")
            is_waiting = True
        _wait_for_slot(api, name, run_id)


def _wait_for_slot(api: str, name: str, run_id: str) -> None:
    while True:
        time.sleep(POLL_S)
        crash_killed_commands(api)
        if ask(api, f"/flow_runs/{run_id}")["state"]["type"] == "CANCELLED":
            raise ServiceError(f"The {name} run was canceled while it waited.", hint="Run the command again.")
        limit = _read_deployment(api, name)["global_concurrency_limit"]
        if limit is None or limit["active_slots"] < limit["limit"]:
            return


def _set_state(
    api: str, run_id: str, kind: str, name: str | None = None, message: str | None = None, *, force: bool = False
) -> dict[str, Any]:
    state = {"type": kind, "name": name or kind.capitalize(), "message": message}
    answer: dict[str, Any] = ask(api, f"/flow_runs/{run_id}/set_state", {"state": state, "force": force})
    return answer


SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(ROOMS),
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""The same as `[tool.prefect]` in pyproject.toml, which applies only if Prefect is started in that directory."""


def running_server(project: Project) -> str | None:
    """Return the API URL of the server to use: $PREFECT_API_URL, or that of the workspace's `pal up`; None without one.

    Raises:
        ServiceError: No server answers at $PREFECT_API_URL.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        if not answers(url, seconds=5.0):
            raise ServiceError(
                f"No Prefect server answers at PREFECT_API_URL={url}.",
                hint="Start the server (prefect server start) or run without one (unset PREFECT_API_URL).",
            )
        return url
    up = found_up(project)
    return up.api if up and is_running(project, up) and answers(up.api) else None
