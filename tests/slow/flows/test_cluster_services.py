"""The services of cluster.compose.yaml, started by hand with its commands, environment and health checks."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import Live, brought_up, free_port, pal, wait_for
from projects import pal_toml
from servers import S3, Postgres
from waiting import PATIENCE_S

from flows.server.prefect_api import answers, ask, make_pool
from tasks.config.settings import Config, MinimumsConfig, TaskConfig
from tasks.config.template import DISASTER, config_text
from tasks.project import Project, open_project

DEPLOY = Path(__file__).parents[3] / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "cluster.compose.yaml").read_text(encoding="utf-8"))["services"]
SECRETS = {"PAL_DATABASE_PASSWORD": "secret-word", "PAL_STORAGE_KEY": "pal-key", "PAL_STORAGE_SECRET": "secret-word"}
HERE = f"pal on {socket.gethostname()}"


def here(text: str, names: Mapping[str, str]) -> str:
    """A value of the compose file, with what its hosts and ports are here."""
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: SECRETS[found[1]], text)
    return re.sub(rf"\b({'|'.join(map(re.escape, names))})\b", lambda found: names[found[0]], text)


def environment(service: str, names: Mapping[str, str]) -> dict[str, str]:
    """Of a service, and nothing else that is Prefect's or pal's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PAL_", "AWS_"))}
    own = {name: here(value, names) for name, value in SERVICES[service].get("environment", {}).items()}
    return {**kept, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **own}


def command(words: list[str], names: Mapping[str, str]) -> list[str]:
    """A command of the compose file, with the programs of this environment."""
    program, *rest = (here(word, names) for word in words)
    return [str(Path(sys.executable).with_name(program)), *rest]


def well(service: str, names: Mapping[str, str]) -> bool:
    """What its health check says."""
    kind, *words = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    ran = subprocess.run(command(words, names), env=environment(service, names), capture_output=True, check=False)
    return ran.returncode == 0


@contextmanager
def started(service: str, names: Mapping[str, str], folder: Path) -> Iterator[None]:
    """A service until the end of the block, well from the beginning of it on; its output is in `folder`."""
    assert not well(service, names)
    more = {"PREFECT_HOME": str(folder / service)}
    Path(more["PREFECT_HOME"]).mkdir()
    with (folder / f"{service}.log").open("wb") as log:
        process = subprocess.Popen(
            command(SERVICES[service]["command"], names),
            env={**environment(service, names), **more},
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        wait_for(f"{service} to be well", lambda: process.poll() is not None or well(service, names))
        assert process.poll() is None, (folder / f"{service}.log").read_text(encoding="utf-8")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("cluster") / "w"
    root.mkdir()
    (root / "pal.toml").write_text(
        pal_toml(60, 0, 30),
        encoding="utf-8",
    )
    return open_project(root)


@pytest.fixture(scope="module")
def live(postgres: Postgres, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Prefect's server on PostgreSQL with a run of each of two workers left going on, and then `pal up`."""
    folder, port = tmp_path_factory.mktemp("services"), str(free_port())
    postgres.create("prefect")
    names = {"postgres": postgres.host, "5432": str(postgres.port), "4200": port}
    with ExitStack() as stack:
        stack.enter_context(started("server", names, folder))
        api = here(SERVICES["pal"]["environment"]["PREFECT_API_URL"], {"server:4200": f"127.0.0.1:{port}"})
        assert answers(api, 5.0)
        leave_runs(api, HERE, "pal on another machine")
        up = stack.enter_context(brought_up(project.workspace.root, folder, PREFECT_API_URL=api))
        yield replace(up, api=api)


def leave_runs(api: str, *workers: str) -> None:
    """What a worker that was killed leaves: a run of its that goes on for ever."""
    make_pool(api)
    flow = ask(api, "/flows/", {"name": "ingest"})["id"]
    deployment = ask(api, "/deployments/", {"name": "left", "flow_id": flow, "work_pool_name": "pal"})["id"]
    for worker in workers:
        body = {"name": worker, "labels": {"prefect.worker.name": worker}, "state": {"type": "PENDING"}}
        run = ask(api, f"/deployments/{deployment}/create_flow_run", body)["id"]
        ask(api, f"/flow_runs/{run}/set_state", {"state": {"type": "RUNNING"}})


def test_the_server_keeps_its_runs_in_postgresql_and_a_command_runs_its_flow_there(
    live: Live, postgres: Postgres, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.csv"
    texts.write_text("text\nfloods cut off town\ncricket today\n", encoding="utf-8")
    assert re.search(r"\b2\b", pal(live, "import", str(texts)))
    sql = "SELECT flow.name, flow_run.state_type FROM flow_run JOIN flow ON flow.id = flow_run.flow_id ORDER BY 1"
    rows = postgres.run("psql", "--no-align", "--tuples-only", "-c", sql, postgres.url("prefect")).splitlines()
    assert "import-items|COMPLETED" in rows


def test_pal_up_marks_the_runs_that_its_own_worker_left_and_no_other(live: Live) -> None:
    left: list[dict[str, Any]] = live.ask("/flow_runs/filter", {"deployments": {"name": {"any_": ["left"]}}})
    assert {run["name"]: run["state"]["type"] for run in left} == {
        HERE: "CRASHED",
        "pal on another machine": "RUNNING",
    }
    assert re.search(rf"{re.escape(HERE)}\b.*\bcrashed\b", live.log.read_text(encoding="utf-8"))


def test_the_health_check_of_pal_asks_for_its_worker(live: Live) -> None:
    assert well("pal", {"http://server:4200/api": live.api, "pal on pal": HERE})
    assert not well("pal", {"http://server:4200/api": live.api, "pal on pal": "pal on another machine"})


def test_dask_s_scheduler_and_worker_find_each_other_and_are_well(tmp_path: Path) -> None:
    port, near, far = (str(free_port()) for _ in range(3))
    with (
        started("scheduler", {"8786": port, "8787": near}, tmp_path),
        started("worker", {"tcp://scheduler:8786": f"tcp://127.0.0.1:{port}", "8787": far}, tmp_path),
    ):
        counts = f"http://127.0.0.1:{near}", "/json/counts.json"
        wait_for("the scheduler", lambda: ask(*counts))
        wait_for("its worker of one core", lambda: (ask(*counts)["workers"], ask(*counts)["cores"]) == (1, 1))


def test_the_bucket_is_made_and_made_again(s3: S3) -> None:
    from pyarrow.fs import FileType, S3FileSystem

    names = {"http://s3:7070": s3.endpoint}
    for _ in range(2):
        made = subprocess.run(
            command(SERVICES["bucket"]["command"], names), env=environment("bucket", names), check=False
        )
        assert made.returncode == 0
    key, secret = SECRETS["PAL_STORAGE_KEY"], SECRETS["PAL_STORAGE_SECRET"]
    found = S3FileSystem(endpoint_override=s3.endpoint, access_key=key, secret_key=secret, region="us-east-1")
    assert found.get_file_info("pal").type == FileType.Directory
