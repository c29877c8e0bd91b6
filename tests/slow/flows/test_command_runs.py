"""With a server up, a command is a flow run of its deployment, executed in its own process; a killed one is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, chromium
from live import ROOT, Live, brought_up, in_the_end, pal, wait_for
from selenium.webdriver.common.by import By
from waiting import PATIENCE_S, until

from annotation.synthetic import synthetic_headlines
from flows.server.prefect_api import ask
from tasks.config.template import config_text, find_preset
from tasks.project import open_project

SEEN_AT = re.compile(r"^ *Prefect run: (http\S+/runs/flow-run/(\S+))$", re.MULTILINE)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("commands")
    preset = find_preset("demo")
    (folder / "w").mkdir()
    text = config_text(preset)
    (folder / "w" / "pal.toml").write_text(text, encoding="utf-8")
    rows = [f"{row['item_id']},{row['text']}" for row in synthetic_headlines(1_000).to_pylist()]
    (folder / "headlines.csv").write_text("\n".join(["id,headline", *rows]), encoding="utf-8")
    with brought_up(open_project(folder / "w").workspace.root, folder) as live:
        yield live


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "browser") as browser:
        browser.show_as((1280, 1400))
        yield browser


def command(live: Live, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A `pal` command to its end, whatever that is."""
    whole = [sys.executable, "-m", "flows.cli.main", *arguments, "--workspace", str(live.workspace)]
    environment = {**live.environment, **more}
    return subprocess.run(whole, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def waiting(live: Live, tmp_path: Path) -> Iterator[Callable[[], Waiting]]:
    """Starts commands whose `ingest` run takes as long as their file is there; all are gone afterwards."""
    started: list[Waiting] = []

    def start() -> Waiting:
        started.append(Waiting(live, tmp_path, len(started)))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def take_ctrl_c() -> None:
    """A shell that starts the tests in the background has its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Waiting:
    """A command in a process of its own, and the file that it waits for to be gone."""

    def __init__(self, live: Live, folder: Path, number: int) -> None:
        self.live, self.file, self.log = live, folder / f"file-{number}", folder / f"log-{number}"
        self.file.touch()
        script = str(Path(__file__).with_name("waiting_command.py"))
        whole = [sys.executable, script, str(live.workspace), str(self.file), live.api]
        environment = {**live.environment, "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                whole, env=environment, cwd=folder, stdout=log, stderr=log, preexec_fn=take_ctrl_c
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8")

    @property
    def run(self) -> dict[str, Any]:
        """Its flow run, as it is now."""
        seen: re.Match[str] = wait_for("its run", lambda: SEEN_AT.search(self.output))
        return self.live.run(seen[2])

    def reached(self, kind: str) -> dict[str, Any]:
        """Its flow run, once it is in a state of that type, which it must be when it has ended."""
        run: dict[str, Any] = wait_for(kind, lambda: run if in_the_end(run := self.run) or is_in(run, kind) else None)
        assert is_in(run, kind), self.output
        return run


def is_in(run: dict[str, Any], kind: str) -> bool:
    return bool(run["state"]["type"] == kind)


def tasks(live: Live, run_id: str) -> dict[str, str]:
    """The task runs of a flow run: name -> type of their state."""
    body = {"task_runs": {"flow_run_id": {"any_": [run_id]}}}
    return {task["name"]: task["state"]["type"] for task in live.ask("/task_runs/filter", body)}


def is_ours(line: str) -> bool:
    """Whether a line on stderr is one of ours: where the run can be seen, or an indented log line."""
    return line.startswith(("Prefect run: ", "  "))


def test_a_command_is_found_in_the_browser_under_its_deployment_with_stages_and_artifacts(
    live: Live, browser: Browser
) -> None:
    imported = command(live, "import", str(live.workspace.parent / "headlines.csv"))
    published = command(live, "next")
    for ran in (imported, published):
        assert ran.returncode == 0, ran.stderr
        assert [line for line in ran.stderr.splitlines() if not is_ours(line)] == [], "nothing of Prefect's"
    runs = {name: live.runs(name) for name in ("import-items", "next-batch")}
    assert [run["name"] for run in runs["import-items"]] == ["import headlines.csv"]
    (run,) = runs["next-batch"]
    assert run["name"] == "next b0001-training"

    seen = SEEN_AT.search(published.stderr)
    assert seen[2] == run["id"]
    browser.get(f"{live.ui}/deployments/deployment/{live.deployment('next-batch')['id']}?tab=Runs")
    link = until(lambda: next(iter(browser.find_elements(By.LINK_TEXT, "next b0001-training")), None))
    assert str(link.get_attribute("href")).endswith(f"/runs/flow-run/{run['id']}")
    browser.get(seen[1])
    until(lambda: "next b0001-training" in browser.text("body") and "Completed" in browser.text("body"))
    browser.get(f"{seen[1]}?tab=TaskRuns")
    stages = {"publish_batches", "make_features", "sample_batch"}
    until(lambda: all(stage in browser.text("body") for stage in stages))
    assert stages <= tasks(live, run["id"]).keys()
    assert set(tasks(live, run["id"]).values()) == {"COMPLETED"}
    browser.get(f"{seen[1]}?tab=Artifacts")
    until(lambda: "report" in browser.text("body"))
    wait_for("its log lines", lambda: "b0001-training" in live.messages(run["id"]))


def test_a_failing_command_shows_its_own_error_only_and_its_run_is_failed(live: Live) -> None:
    ran = command(live, "import", str(live.workspace.parent / "nothing.csv"))
    assert ran.returncode == 1
    lines = [line for line in ran.stderr.splitlines() if not is_ours(line)]
    assert [line.partition(":")[0] for line in lines] == ["Error", "Hint"]


def test_a_second_run_waits_for_the_slot_and_is_canceled_by_ctrl_c(live: Live, waiting: Callable[[], Waiting]) -> None:
    first = waiting()
    first.reached("RUNNING")
    second = waiting()
    wait_for("its line", lambda: "Waiting for another ingest run to end" in second.output)
    time.sleep(5)  # the worker asks its queues every 2 s
    assert second.run["state"]["type"] == "SCHEDULED", "no worker picks it up"
    assert second.output.count("Waiting") == 1
    second.process.send_signal(signal.SIGINT)
    second.process.wait(PATIENCE_S)
    assert tasks(live, second.reached("CANCELLED")["id"]) == {}
    third = waiting()
    wait_for("its line", lambda: "Waiting for another ingest run to end" in third.output)
    first.file.unlink()
    third.reached("RUNNING")
    third.file.unlink()
    for one in (first, third):
        assert one.process.wait(PATIENCE_S) == 0
        assert one.reached("COMPLETED")["name"] == f"ingest while {one.file.name} is there"
        assert tasks(live, one.run["id"]) == {"wait_until_gone": "COMPLETED"}
        assert one.output.splitlines()[-1] == str(one.file), "what the body returned, and nothing after it"
    assert live.deployment("ingest")["global_concurrency_limit"]["active_slots"] == 0


def test_ctrl_c_cancels_a_run_in_its_middle(waiting: Callable[[], Waiting]) -> None:
    one = waiting()
    one.reached("RUNNING")
    wait_for("its stage", lambda: "In the stage." in one.output)
    one.process.send_signal(signal.SIGINT)
    one.process.wait(PATIENCE_S)
    one.reached("CANCELLED")
    next_one = waiting()
    next_one.reached("RUNNING")


def test_the_next_command_marks_a_killed_one_as_crashed_and_gets_its_slot(
    live: Live, waiting: Callable[[], Waiting]
) -> None:
    killed, also_killed = waiting(), None
    killed.reached("RUNNING")
    also_killed = waiting()
    wait_for("its line", lambda: "Waiting" in also_killed.output)
    for one in (killed, also_killed):
        os.kill(one.process.pid, signal.SIGKILL)
        one.process.wait()
    assert killed.run["state"]["type"] == "RUNNING"
    third = waiting()
    third.file.unlink()
    assert third.process.wait(PATIENCE_S) == 0, third.output
    assert "Waiting" not in third.output
    assert [one.run["state"]["type"] for one in (killed, also_killed)] == ["CRASHED", "CRASHED"]


def test_a_command_creates_a_missing_deployment_without_a_schedule(live: Live, waiting: Callable[[], Waiting]) -> None:
    for name in ("ingest", "nightly"):
        ask(live.api, f"/deployments/{live.deployment(name)['id']}", method="DELETE")
    one = waiting()
    one.file.unlink()
    assert one.process.wait(PATIENCE_S) == 0, one.output
    created = live.deployment("ingest")
    assert (created["schedules"], created["work_pool_name"]) == ([], "pal")
    assert created["global_concurrency_limit"]["limit"] == 1
    assert created["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert created["parameters"] == {"workspace": str(live.workspace)}
    assert "form" in created["parameter_openapi_schema"]["properties"]
    by_worker = live.start("ingest")
    assert live.ended(by_worker) == "COMPLETED", "a worker runs it too: " + live.messages(by_worker)
    assert pal(live, "down") == "down\n"
