"""`pal up` for tests: a real server and worker for a workspace, on a free port, asked by REST."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import PATIENCE_S

from flows.server.prefect_api import ask

ROOT = Path(__file__).parents[1]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Live:
    """A server that is up.

    Attributes:
        log: What `pal up` printed.
        pid: Of `pal up`.
    """

    api: str
    ui: str
    environment: dict[str, str]
    workspace: Path
    log: Path
    pid: int

    def ask(self, path: str, body: Any = None) -> Any:
        """GET, or POST where there is a body."""
        return ask(self.api, path, body)

    def deployment(self, name: str) -> dict[str, Any]:
        """One deployment, by its name."""
        found: dict[str, Any] = self.ask(f"/deployments/name/{name}/{name}")
        return found

    def start(self, name: str, parameters: Mapping[str, Any] | None = None, at: str | None = None) -> str:
        """Have a deployment run, at a time that may be past; returns the id of the flow run."""
        body = {
            "parameters": dict(parameters or {}),
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": at} if at else {}},
        }
        run = self.ask(f"/deployments/{self.deployment(name)['id']}/create_flow_run", body)
        return str(run["id"])

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The flow runs of a deployment, the newest first."""
        body = {"deployments": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC", "limit": 100}
        found: list[dict[str, Any]] = self.ask("/flow_runs/filter", body)
        return found

    def run(self, run_id: str) -> dict[str, Any]:
        """One flow run."""
        found: dict[str, Any] = self.ask(f"/flow_runs/{run_id}")
        return found

    def ended(self, run_id: str) -> str:
        """The state in which a flow run ended, once it has."""
        return str(wait_for(f"run {run_id} to end", lambda: in_the_end(self.run(run_id))))

    def messages(self, run_id: str) -> str:
        """What a flow run logged so far."""
        logs = self.ask("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200})
        return "\n".join(each["message"] for each in logs)

    def artifacts(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a flow run, by key."""
        body = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        return {each["key"]: each for each in self.ask("/artifacts/filter", body)}


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


def pal(live: Live, *arguments: str) -> str:
    """What a `pal` command prints, which must go well."""
    command = [sys.executable, "-m", "flows.cli.main", *arguments, "--workspace", str(live.workspace)]
    ran = subprocess.run(
        command, env=live.environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@contextmanager
def brought_up(workspace: Path, folder: Path, **more: str) -> Iterator[Live]:
    """`pal up` for a workspace, until the end of the block; its output is in `folder`.

    Args:
        more: Into its environment.
    """
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PAL_"))}
    environment, log = {**kept, **more}, folder / f"up-{port}.log"
    command = [sys.executable, "-m", "flows.cli.main", "up", "--workspace", str(workspace), "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output)
    live = Live(f"http://127.0.0.1:{port}/api", f"http://127.0.0.1:{port}/v2", environment, workspace, log, process.pid)
    try:
        wait_for("everything to be up", lambda: process.poll() is not None or "stop  " in log.read_text("utf-8"))
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield live
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
