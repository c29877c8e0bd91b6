"""`pal up` for tests: a real server and worker for a workspace, on a free port, asked by REST."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Live:
    """A server that is up.

    Attributes:
        log: What `pal up` printed.
    """

    api: str
    ui: str
    environment: dict[str, str]
    workspace: Path
    log: Path

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the server."""
        request = urllib.request.Request(
            self.api + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def deployment(self, name: str) -> dict[str, Any]:
        """One deployment, by its name."""
        found: dict[str, Any] = self.call("GET", f"/deployments/name/{name}/{name}")
        return found

    def start(self, name: str, parameters: Mapping[str, Any] | None = None, at: str | None = None) -> str:
        """Have a deployment run, at a time that may be past; returns the id of the flow run."""
        body = {
            "parameters": dict(parameters or {}),
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": at} if at else {}},
        }
        run = self.call("POST", f"/deployments/{self.deployment(name)['id']}/create_flow_run", body)
        return str(run["id"])

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The flow runs of a deployment, the newest first."""
        body = {"deployments": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC", "limit": 100}
        found: list[dict[str, Any]] = self.call("POST", "/flow_runs/filter", body)
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        """One flow run."""
        found: dict[str, Any] = self.call("GET", f"/flow_runs/{run_id}")
        return found

    def ended(self, run_id: str) -> str:
        """The state in which a flow run ended, once it has."""
        return str(wait_for(f"run {run_id} to end", lambda: in_the_end(self.run(run_id))))

    def messages(self, run_id: str) -> str:
        """What a flow run logged so far."""
        logs = self.call("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200})
        return "\n".join(each["message"] for each in logs)

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a flow run, by key."""
        body = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        return {each["key"]: each for each in self.call("POST", "/artifacts/filter", body)}


def in_the_end(run: Mapping[str, Any]) -> str | None:
    """The state of a flow run that has ended."""
    kind = str(run["state"]["type"])
    return kind if kind in ENDED else None


def wait_for(what: str, found: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """The first result that is true; the server may not be up yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if result := found():
                return result
        except OSError:
            pass  # not up yet, or busy
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds} s for {what}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def brought_up(workspace: Path, folder: Path, **more: str) -> Iterator[Live]:
    """`pal up` for a workspace, until the end of the block.

    Args:
        folder: Where its output goes.
        more: Into its environment.
    """
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PAL_"))},
        **more,
    }
    log = folder / "up.log"
    command = [sys.executable, "-m", "flows.cli", "up", "--workspace", str(workspace), "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output)
    live = Live(f"http://127.0.0.1:{port}/api", f"http://127.0.0.1:{port}/v2", environment, workspace, log)
    try:
        wait_for("a worker", lambda: process.poll() is not None or _worker_is_online(live))
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield live
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _worker_is_online(live: Live) -> bool:
    workers = live.call("POST", "/work_pools/pal/workers/filter", {})
    return any(worker["status"] == "ONLINE" for worker in workers)
