"""`pal up` on a real server and worker: the night is scheduled, forms and files start runs, dead runs are closed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, chromium
from lake_rows import add_rows
from live import Live, brought_up, in_the_end, pal, wait_for
from projects import pal_toml
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from waiting import until

from annotation.synthetic import fill_csv, synthetic_headlines
from flows.server.prefect_api import answers, ask
from flows.server.processes import born_at, found_up, up_file
from storage.lake.annotations import LabelledItem, import_labelled
from storage.lake.batches import find_batch, open_batches
from storage.lake.items import add_items, stage
from storage.lake.models import production_model
from storage.records import BatchStatus, Split
from tasks.config.settings import Config, MinimumsConfig, TaskConfig
from tasks.config.template import DISASTER, config_text
from tasks.project import Project, open_project

TABLE = synthetic_headlines(500)
TRUTH = dict(zip(TABLE["item_id"].to_pylist(), TABLE["label"].to_pylist(), strict=True))


def made(root: Path) -> Project:
    """A workspace with labels enough for a model: 100 for evaluation, 60 for training."""
    root.mkdir()
    settings = pal_toml(100, 0, 60).replace('timezone = "UTC"', 'timezone = "Asia/Kolkata"')
    (root / "pal.toml").write_text(settings, encoding="utf-8")
    project = open_project(root)
    add_rows(project.workspace.store(), list(zip(TRUTH, TABLE["text"].to_pylist(), strict=True)))
    pairs = list(TRUTH.items())
    for split, chosen in ((Split.EVALUATION, pairs[:100]), (Split.TRAINING, pairs[100:160])):
        labelled = [LabelledItem(item_id, label, "random", None) for item_id, label in chosen]
        import_labelled(project.workspace.store(), f"given-{split.value}", split, labelled, DISASTER.digest, "test")
    return project


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    made(folder / "w")
    with brought_up(folder / "w", folder) as live:
        yield live


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "browser") as browser:
        browser.show_as((1280, 1400))
        yield browser


def button(browser: Browser, text: str) -> None:
    browser.find_element(By.XPATH, f"//button[normalize-space(.)='{text}']").click()


def test_the_nightly_run_is_scheduled_by_the_cron_and_the_zone_of_pal_toml(live: Live) -> None:
    def scheduled() -> list[dict[str, object]]:
        return [run for run in live.runs("nightly") if run["auto_scheduled"] and run["state"]["type"] == "SCHEDULED"]

    def named() -> list[dict[str, object]]:
        runs = scheduled()
        return runs if all(str(run["name"]).startswith("nightly ") for run in runs) else []

    first = min(wait_for("a scheduled night with its name", named), key=lambda run: str(run["expected_start_time"]))
    at = datetime.fromisoformat(str(first["expected_start_time"])).astimezone(UTC)
    assert first["name"] == f"nightly {at + timedelta(days=1):%Y-%m-%d}", "the date in Kolkata"
    assert (at.hour, at.minute) == (20, 30), "2:00 in Kolkata"
    told = live.log.read_text(encoding="utf-8")
    assert "02:00 Asia/Kolkata" in told
    assert live.ui in told


OPTIONS = (By.XPATH, "//*[@role='option']")


def choose_formats(browser: Browser, *names: str) -> None:
    """Choose from the list of formats and close it; where the focus is elsewhere, Escape is typed again."""
    browser.element('button[aria-label="Select formats"]').click()
    for name in names:
        option = (By.XPATH, f"{OPTIONS[1]}[normalize-space(.)='{name}']")
        until(lambda option=option: browser.find_elements(*option))[0].click()

    def is_closed() -> bool:
        if browser.find_elements(*OPTIONS):
            ActionChains(browser).send_keys(Keys.ESCAPE).perform()
            return False
        return True

    until(is_closed)


def submit(browser: Browser) -> None:
    """Submit the form, which leads to another page."""
    until(lambda: browser.find_element(By.XPATH, "//button[normalize-space(.)='Submit']").is_enabled())
    button(browser, "Submit")
    until(lambda: not browser.current_url.endswith("/run"))


def test_next_batch_is_started_by_its_form_and_its_figures_are_seen_in_its_artifacts(
    live: Live, browser: Browser
) -> None:
    browser.get(f"{live.ui}/deployments/deployment/{live.deployment('next-batch')['id']}/run")
    number = until(lambda: next(iter(browser.find_elements(By.CSS_SELECTOR, "input[type=number]")), None))
    assert "Number of items; 0 for the number in pal.toml." in browser.text("body")
    assert not any(text in browser.text("form") for text in ("workspace", "Property is type"))
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("12")
    choose_formats(browser, "csv", "xlsx")
    submit(browser)
    (run,) = wait_for("the run", lambda: live.runs("next-batch"))
    assert live.ended(run["id"]) == "COMPLETED", live.messages(run["id"])
    project = open_project(live.workspace)
    store = project.workspace.store()
    (progress,) = open_batches(store)
    batch_id = progress.batch.batch_id
    assert (progress.batch.n, progress.batch.formats) == (12, ("csv", "xlsx"))
    assert live.run(run["id"])["name"] == f"next {batch_id}"
    model = production_model(store)
    assert model is not None

    browser.get(f"{live.ui}/runs/flow-run/{run['id']}?tab=Artifacts")
    until(lambda: "report" in browser.text("body") and "learning-curve" in browser.text("body"))
    browser.get(f"{live.ui}/artifacts/artifact/{live.artifacts(run['id'])['report']['id']}")
    until(lambda: "on 100 evaluation items" in browser.text("body"))
    text = browser.text("body")
    assert f"Model {model.model_id}" in text
    assert re.search(rf"{batch_id}\b.*\b0 of 12\b", text)
    charts = (By.CSS_SELECTOR, "img[src^='data:image/svg+xml']")
    until(lambda: len(browser.find_elements(*charts)) >= 5)
    loaded = "return [...document.querySelectorAll(arguments[0])].every((image) => image.naturalWidth)"
    until(lambda: browser.execute_script(loaded, charts[1]))
    wait_for("our log lines in the run's log", lambda: f"Published batch {batch_id}" in live.messages(run["id"]))


def test_a_submitted_file_starts_its_ingest(live: Live, tmp_path: Path) -> None:
    store = open_project(live.workspace).workspace.store()
    if not open_batches(store):
        pal(live, "next", "-n", "12", "--format", "csv")
    (progress,) = open_batches(store)
    batch_id = progress.batch.batch_id
    path = tmp_path / "from anna.csv"
    shutil.copy(live.workspace / "batches" / batch_id / "batch.csv", path)
    fill_csv(path, TRUTH, annotator="anna")
    said = pal(live, "submit", str(path))
    assert re.search(rf"\b12\b.*{batch_id}\b.*\b0\b", said)
    assert live.api in said
    run = wait_for("an ingest run", lambda: next(iter(live.runs("ingest")), None))
    assert live.ended(run["id"]) == "COMPLETED", live.messages(run["id"])
    assert find_batch(store, batch_id).batch.status is BatchStatus.INGESTED
    assert (live.workspace / "inbox" / "done" / "from anna.csv").is_file()
    rows = json.loads(live.artifacts(run["id"])["ingested"]["data"])
    assert [row["new answers"] for row in rows] == [12]


def test_up_twice_says_where_it_is_and_commands_use_its_server(live: Live) -> None:
    again = pal(live, "up")
    assert all(value in again for value in (live.ui, "pal down"))
    before = len(live.runs("predict"))
    assert re.search(r"\b500\b.*\bm\d", pal(live, "predict", "--pool", "--output", str(live.workspace / "all.csv")))
    newest, *_ = live.runs("predict")
    assert (len(live.runs("predict")), newest["state"]["type"]) == (before + 1, "COMPLETED")
    flows = live.ask("/flow_runs/filter", {"flows": {"name": {"any_": ["predict"]}}})
    assert [run["state"]["type"] for run in flows] == ["COMPLETED"]


def test_a_simulation_runs_as_a_deployment_over_its_own_processes(live: Live) -> None:
    rows = [f"{row['text']},{row['label']}" for row in TABLE.to_pylist()]
    (live.workspace / "labelled.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    small = {
        "mixes": ["random", "default"],
        "replays": {"seeds": 1, "iterations": 1, "batch_sizes": [20], "start": 40},
    }
    run_id = live.start("simulate", small)
    assert live.ended(run_id) == "COMPLETED", live.messages(run_id)
    assert (live.workspace / "reports" / "simulation-labelled" / "simulation.html").is_file()
    assert {row["mix"] for row in json.loads(live.artifacts(run_id)["simulation"]["data"])} == {"random", "default"}


def test_a_worker_that_dies_is_started_again(live: Live) -> None:
    up = found_up(open_project(live.workspace))
    os.kill(up.groups["worker"][0], signal.SIGKILL)
    wait_for("it to be up again", lambda: "the worker is up again" in live.log.read_text(encoding="utf-8"))
    assert re.search(r"\bworker\b.* -9\b", live.log.read_text(encoding="utf-8"))
    run_id = live.start("ingest")
    assert live.ended(run_id) == "COMPLETED", live.messages(run_id)


def test_after_three_nights_of_a_killed_machine_there_is_one_run_and_nothing_is_left_over(tmp_path: Path) -> None:
    project = made(tmp_path / "w")
    with brought_up(project.workspace.root, tmp_path) as first:
        up = found_up(project)
        assert up is not None
        deployments = live_deployments(first)
        switch_off(first)
        os.kill(first.pid, signal.SIGKILL)
        os.killpg(up.groups["worker"][0], signal.SIGKILL)
        cut_off = first.start("nightly")
        for state in ("PENDING", "RUNNING"):  # as a worker does that dies then
            first.ask(f"/flow_runs/{cut_off}/set_state", {"state": {"type": state}})
        assert first.run(cut_off)["state"]["type"] == "RUNNING"
        now = datetime.now(UTC)
        missed = [first.start("nightly", at=(now - timedelta(days=days)).isoformat()) for days in (3, 2, 1)]
        assert answers(first.api, 5.0), "the server lives on"

    with brought_up(project.workspace.root, tmp_path) as second:
        assert not born_at(up.groups["server"][0]), "the old server was ended"
        assert second.run(cut_off)["state"]["type"] == "CRASHED"
        assert re.search(r"\bcrashed\b", second.log.read_text(encoding="utf-8")), "it is told"
        nights = wait_for("the nights", lambda: all_ended(second.runs("nightly")))
        states = sorted(night["state"]["type"] for night in nights)
        assert [state for state in states if state != "CANCELLED"] == ["COMPLETED", "CRASHED"], "one night for all"
        assert {night["id"] for night in nights} >= {cut_off, *missed}
        assert len(open_batches(project.workspace.store())) == 1
        assert live_deployments(second) == deployments, "deploying again doubles nothing"
        assert "it was switched off in the UI" in second.log.read_text(encoding="utf-8"), "and it stays so"
        groups = found_up(project)
        assert pal(second, "down") == "down\n"
        assert not any(born_at(pid) for pid, _ in groups.groups.values())
        assert not up_file(project).exists()
        assert str(project.workspace.root) in pal(second, "down"), "nothing is up there"


def live_deployments(live: Live) -> list[tuple[str, int]]:
    """Every deployment with its number of schedules."""
    return sorted((each["name"], len(each["schedules"])) for each in live.ask("/deployments/filter", {}))


def all_ended(nights: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Nights that are all over, and of which one was gone through."""
    whole = any(night["state"]["type"] == "COMPLETED" for night in nights)
    return nights if whole and all(in_the_end(night) for night in nights) else None


def switch_off(live: Live) -> None:
    """Switch the nightly schedule off, as the button in the UI does."""
    nightly = live.deployment("nightly")
    path = f"/deployments/{nightly['id']}/schedules/{nightly['schedules'][0]['id']}"
    ask(live.api, path, {"active": False}, "PATCH")
