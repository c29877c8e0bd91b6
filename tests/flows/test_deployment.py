"""On a real server and worker: deploying makes a scheduled nightly run, and a triggered one does its work."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotation.headlines import synthetic_headlines
from flows.config import open_project
from flows.engine import SETTINGS
from flows.presets import DISASTER, config_text
from storage.batches import open_batches
from storage.items import add_items, stage
from tasks.plan import Minimums

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if result := found():
                return result
        except OSError:
            pass  # the server is not up yet
        time.sleep(0.5)
    raise AssertionError(f"waited {PATIENCE_S} s for {what}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with 300 items and nothing else."""
    root = tmp_path / "w"
    root.mkdir()
    (root / "pal.toml").write_text(config_text(DISASTER, Minimums(20, 0, 20)), encoding="utf-8")
    project = open_project(root)
    table = synthetic_headlines(300).select(["item_id", "text"])
    rows = table.add_column(0, "row", [list(range(300))]).append_column("published_at", [[None] * 300])
    with project.workspace.scratch() as scratch:
        stage([rows.combine_chunks()], scratch / "staged.parquet")
        add_items(project.workspace.store(), scratch / "staged.parquet", "test")
    return root


@pytest.fixture
def server(tmp_path: Path, workspace: Path) -> Iterator[dict[str, str]]:
    """The environment of commands that talk to a server of our own on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        **SETTINGS,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_CLI_PROMPT": "false",
        "PAL_WORKSPACE": str(workspace),
        "PYTHONPATH": str(ROOT),
    }
    (tmp_path / "prefect").mkdir()
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
        try:
            wait_for("the server", lambda: call(environment, "GET", "/health"))
            yield environment
        finally:
            stop(process)


def call(environment: dict[str, str], method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        environment["PREFECT_API_URL"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def prefect(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "prefect", *arguments]
    ran = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_deploying_schedules_the_nightly_run_and_a_worker_carries_a_triggered_one_out(
    server: dict[str, str], workspace: Path, tmp_path: Path
) -> None:
    prefect(server, "work-pool", "create", "pal", "--type", "process", "--set-as-default")
    prefect(server, "deploy", "--all")
    prefect(server, "deploy", "--all")
    deployments = call(server, "POST", "/deployments/filter", {})
    assert {each["name"] for each in deployments} == {
        "import-items",
        "next-batch",
        "ingest",
        "adjudicate",
        "review",
        "nightly",
    }

    def scheduled() -> Any:
        runs = call(server, "POST", "/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}})
        return [run for run in runs if run["auto_scheduled"]]

    nightly = next(each for each in deployments if each["name"] == "nightly")
    assert wait_for("a scheduled run", scheduled)[0]["deployment_id"] == nightly["id"]

    run = call(server, "POST", f"/deployments/{nightly['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})

    def ended() -> Any:
        state = call(server, "GET", f"/flow_runs/{run['id']}")["state"]["type"]
        return state if state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    def told() -> bool:  # the run's process sends log lines some seconds late
        logs = call(server, "POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}})
        return any("published batch" in each["message"] for each in logs)

    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "pal", "--limit", "1"]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, env=server, cwd=ROOT, stdout=log, stderr=log)
        try:
            assert wait_for("the run to end", ended) == "COMPLETED", (tmp_path / "worker.log").read_text()
            assert wait_for("our log lines in the run's log", told)
        finally:
            stop(worker)
    (progress,) = open_batches(open_project(workspace).workspace.store())
    assert (workspace / "batches" / progress.batch.batch_id / "manifest.json").is_file()
