"""Call the REST API of a Prefect server, without importing Prefect, which takes seconds."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

POOL = "pal"
"""The work pool of the deployments in prefect.yaml."""
COMMAND_TAG = "command"
"""The tag of the runs that commands execute themselves."""
AUTH_STRING = "PREFECT_SERVER_API_AUTH_STRING"
"""The environment variable with the password of a server, as `name:password`."""
JOB_TEMPLATE = {
    "job_configuration": {"labels": "{{ labels }}", "name": "{{ name }}", "stream_output": True},
    "variables": {
        "type": "object",
        "properties": {
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "name": {"type": "string"},
        },
    },
}
"""What a flow run may configure for its process: not `command`, `env` or `working_dir`, which could run any program."""
GOING_ON = ("PENDING", "RUNNING", "CANCELLING")


def answers(api: str, seconds: float = 0.3) -> bool:
    """Whether a server answers at an API URL within some seconds."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{api}/health", timeout=seconds) as answer:
        return bool(answer.status == 200)
    return False


def ask(api: str, path: str, body: object = None, method: str | None = None) -> Any:
    """Send a request (GET, or with a body POST, unless `method` is given) and return the parsed JSON of the response.

    If the database of the server is busy (503), the request is repeated for half a minute.

    Raises:
        urllib.error.HTTPError: The server refuses the request.
        OSError: The server does not answer.
    """
    data = None if body is None else json.dumps(body).encode()
    changes = data is not None or method not in (None, "GET")
    for pause_s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, None):
        try:
            token = _csrf_token(api) if changes else {}
            headers = {"Content-Type": "application/json", **_credentials(), **token}
            request = urllib.request.Request(api + path, data, headers, method=method)
            with urllib.request.urlopen(request, timeout=30) as answer:
                content = answer.read()
            return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            if error.code != 503 or pause_s is None:
                raise
            error.close()
            time.sleep(pause_s)
    raise AssertionError("unreachable")


def _credentials() -> dict[str, str]:
    """Return the header with the password or API key of the server, if the environment has one."""
    password = os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get(AUTH_STRING)
    if password:
        return {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"}
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _csrf_token(api: str) -> dict[str, str]:
    """Return the CSRF headers of a request that changes something, if the server requires them."""
    client = f"pal-{os.getpid()}"
    request = urllib.request.Request(f"{api}/csrf-token?client={client}", headers=_credentials())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            token = json.loads(answer.read())["token"]
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in (404, 422):  # the server does not use CSRF tokens
            raise
        return {}
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}


def make_pool(api: str) -> None:
    """Create the work pool if it does not exist, and prevent flow runs from choosing the program of the worker."""
    try:
        ask(api, "/work_pools/", {"name": POOL, "type": "process"})
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 409:  # it exists
            raise
    pool = ask(api, f"/work_pools/{POOL}")
    if pool["type"] != "process":  # a custom pool with its own template
        return
    if pool["base_job_template"] != JOB_TEMPLATE:
        ask(api, f"/work_pools/{POOL}", {"base_job_template": JOB_TEMPLATE}, "PATCH")


def worker_is_online(api: str, name: str) -> bool:
    """Whether the worker with this name is online."""
    workers = ask(api, f"/work_pools/{POOL}/workers/filter", {})
    return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in workers)


def has_active_schedule(api: str, name: str) -> bool:
    """Whether a deployment has an active schedule."""
    return any(schedule["active"] for schedule in ask(api, f"/deployments/name/{name}/{name}")["schedules"])


def start_run(api: str, name: str) -> None:
    """Start a run of a deployment now."""
    deployment = ask(api, f"/deployments/name/{name}/{name}")
    ask(api, f"/deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})


def name_nights(api: str, zone: tzinfo) -> None:
    """Name the scheduled nightly runs by their date, as a nightly run does itself when it starts."""
    filters = {
        "deployments": {"name": {"any_": ["nightly"]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    for run in ask(api, "/flow_runs/filter", filters):
        if run["auto_scheduled"]:
            name = f"nightly {datetime.fromisoformat(run['expected_start_time']).astimezone(zone):%Y-%m-%d}"
            if run["name"] != name:
                ask(api, f"/flow_runs/{run['id']}", {"name": name}, "PATCH")


def crash_left_runs(api: str, worker: str | None = None) -> list[tuple[str, str]]:
    """Mark the unfinished runs of a dead worker as crashed; return their names and flows.

    Otherwise they would keep the only slot of their deployment, and every later nightly run would be cancelled.

    Args:
        api: The API URL of the server.
        worker: Only runs of the worker with this name, since other workers of the server may be alive; None for all.
    """
    filters = {"work_pools": {"name": {"any_": [POOL]}}, "flow_runs": {"state": {"type": {"any_": list(GOING_ON)}}}}
    unfinished = ask(api, "/flow_runs/filter", {**filters, "limit": 200})
    crashed = [run for run in unfinished if worker in (None, run["labels"].get("prefect.worker.name"))]
    return crash_runs(api, crashed, "The worker of this run has ended.")


def crash_runs(api: str, runs: Iterable[Mapping[str, Any]], message: str) -> list[tuple[str, str]]:
    """Mark runs as crashed, whatever their state; return their names and flows."""
    crashed = []
    for run in runs:
        state = {"type": "CRASHED", "name": "Crashed", "message": message}
        ask(api, f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
        crashed.append((str(run["name"]), str(ask(api, f"/flows/{run['flow_id']}")["name"])))
    return crashed


def ui_of(api: str) -> str:
    """Return the URL of the UI of a server.

    >>> ui_of("http://127.0.0.1:4200/api")
    'http://127.0.0.1:4200/v2'
    """
    return f"{api.removesuffix('/api')}/v2"


def prefect_file() -> Path:
    """Return the path of prefect.yaml, which describes the deployments: of the checkout, else of the installation."""
    in_checkout = Path(__file__).resolve().parents[2] / "prefect.yaml"
    installed = Path(sysconfig.get_path("data"), "share", "pytorch-active-learning", "prefect.yaml")
    return in_checkout if in_checkout.is_file() else installed
