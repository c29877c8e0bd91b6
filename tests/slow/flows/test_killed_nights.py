"""Nightly, its process killed with -9 in every stage, also on a real server and worker: the next night mends all."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live import ROOT, Live, brought_up
from projects import pal_toml
from waiting import PATIENCE_S

from annotation.batch import as_published, read_manifest, sha256_of
from annotation.synthetic import fill_csv, synthetic_headlines
from flows.import_texts import import_items
from flows.ingest import ingest
from flows.next_batch import next_batch
from flows.nightly import nightly
from flows.run import run_here
from storage.lake.batches import open_batches
from storage.lake.models import all_models, production_model
from storage.lake.store import Store
from storage.records import RunStatus
from tasks.config.settings import Config, MinimumsConfig, TaskConfig
from tasks.config.template import DISASTER, config_text
from tasks.learning.model_files import load_model
from tasks.project import open_project

TABLE = synthetic_headlines(800)
TRUTH = dict(zip(TABLE["item_id"].to_pylist(), TABLE["label"].to_pylist(), strict=True))
KILLS = {
    "ingest, before the file is put away": ("collect_answers", "annotation.inbox:_new_file"),
    "features": ("make_features", "storage.lake.items:add_features"),
    "train, before the weights are written": ("train_model", "tasks.learning.model_files:save_model"),
    "train, before the manifest": ("train_model", "storage.files.folders:_write_manifest"),
    "train, before the lake knows of the model": ("train_model", "storage.lake.models:add_model"),
    "promote": ("promote_or_keep", "storage.lake.models:_decide"),
    "publish, between the files": ("publish_batches", "annotation.formats.web_page:write_web_page"),
    "report": ("write_report", "tasks.report:write_report"),
}
"""In which stage, and at the entry of which function, the process dies; other tests kill the writes to the lake."""
SERVED = ("train, before the manifest", "publish, between the files")
"""Where a run of Prefect's worker dies; elsewhere it is `pal nightly`, which runs the same stages."""
Contents = dict[str, list[tuple[Any, ...]]]
DYING = str(Path(__file__).with_name("dying"))
TABLES = {
    "annotations": "item_id, annotator, answer, batch_id",
    "batches": "batch_id, purpose, status, n, model_id",
    "batch_items": "batch_id, item_id, strategy, score, rank, position",
    "features": "encoder_id, item_id, tokens",
    "models": "model_id, n_training, weights_hash, status",
    "decisions": "model_id, previous_id, promoted, decided_by, reason",
}


def contents(store: Store) -> Contents:
    """What the lake holds, without the times at which it was written."""
    return {name: store.rows(f"SELECT {columns} FROM lake.{name} ORDER BY ALL") for name, columns in TABLES.items()}


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory, take_headlines: Callable[..., dict[str, str]]) -> Path:
    """A workspace with something for every stage: answers in a folder and in the inbox, new texts, a full batch."""
    root = tmp_path_factory.mktemp("evening") / "w"
    root.mkdir()
    settings = pal_toml(60, 0, 30).replace("size = 100", "size = 30")
    (root / "pal.toml").write_text(settings, encoding="utf-8")
    project = open_project(root)
    with (root / "headlines.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(zip(TABLE["item_id"].to_pylist(), TABLE["text"].to_pylist(), strict=True))
    run_here(project, import_items, (str(root / "headlines.csv"),))
    for _ in range(2):
        fill_csv(root / "batches" / run_here(project, next_batch) / "batch.csv", TRUTH)
        run_here(project, ingest)
    folder = root / "batches" / run_here(project, next_batch)
    fill_csv(folder / "batch.csv", TRUTH, most=20)
    shutil.copy(folder / "batch.csv", root / "inbox" / "from-anna.csv")
    fill_csv(folder / "batch.csv", TRUTH)
    take_headlines(project.workspace, 850, start=800)
    return root


@pytest.fixture(scope="module")
def undisturbed(evening: Path, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What the lake holds after a night in which nothing happens."""
    root = tmp_path_factory.mktemp("undisturbed") / "w"
    shutil.copytree(evening, root)
    project = open_project(root)
    run_here(project, nightly)
    return contents(project.workspace.store())


@pytest.fixture(scope="module")
def live(evening: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server, and a worker whose runs die where the file `die` says."""
    folder = tmp_path_factory.mktemp("live")
    shutil.copytree(evening, folder / "w")
    with brought_up(folder / "w", folder, PYTHONPATH=DYING, PAL_TEST_DIE=str(folder / "die")) as live:
        yield live


@pytest.mark.parametrize("where", SERVED)
def test_the_night_after_one_killed_on_the_server_is_green_and_ends_where_an_undisturbed_one_does(
    live: Live, evening: Path, undisturbed: Contents, tmp_path: Path, where: str
) -> None:
    stage, function = KILLS[where]
    root = Path(shutil.copytree(evening, tmp_path / "w"))
    order = Path(live.environment["PAL_TEST_DIE"])
    order.write_text(function, encoding="utf-8")
    killed = live.start("nightly", {"workspace": str(root)})
    assert live.ended(killed) == "CRASHED", live.messages(killed)
    assert not order.exists(), "the process died where it should"
    following = live.start("nightly", {"workspace": str(root)})
    assert live.ended(following) == "COMPLETED", live.messages(following)
    assert_whole(root, stage, undisturbed)


@pytest.mark.parametrize("where", [where for where in KILLS if where not in SERVED])
def test_the_night_after_one_killed_in_any_stage_ends_where_an_undisturbed_one_does(
    evening: Path, undisturbed: Contents, tmp_path: Path, where: str
) -> None:
    stage, function = KILLS[where]
    root, order = Path(shutil.copytree(evening, tmp_path / "w")), tmp_path / "die"
    order.write_text(function, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PAL_"))}
    environment = {**kept, "PYTHONPATH": os.pathsep.join([DYING, str(ROOT)]), "PAL_TEST_DIE": str(order)}
    command = [sys.executable, "-m", "flows.cli.main", "nightly", "--workspace", str(root)]
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE_S, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not order.exists(), "the process died where it should"
    run_here(open_project(root), nightly)
    assert_whole(root, stage, undisturbed)


def assert_whole(root: Path, stage: str, undisturbed: Contents) -> None:
    """After a night killed in this stage and the next one, the workspace is as if nothing had happened."""
    workspace = open_project(root).workspace
    store = workspace.store()
    assert contents(store) == undisturbed, "no label is lost, no batch doubled"

    last, before = workspace.runs().recent(2, flow="nightly")
    assert (last.status, before.status, before.stage) == (RunStatus.COMPLETED, RunStatus.CRASHED, stage)
    (progress,) = open_batches(store)
    folder = workspace.batches / progress.batch.batch_id
    assert len(read_manifest(folder)["items"]) == progress.batch.n
    assert all(sha256_of(folder / name) == digest for name, digest in as_published(folder).items())
    models = {model.model_id for model in all_models(store)}
    assert {path.name for path in workspace.models.iterdir() if not path.name.startswith(".")} == models
    for model_id in models:
        load_model(workspace.models / model_id)
    assert production_model(store) is not None
    assert (workspace.reports / "latest.html").is_file()
    assert not list(workspace.inbox.glob("*.csv"))
