"""Several machines: the lake on PostgreSQL and S3, Prefect's server on PostgreSQL, the pool on Dask workers."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cluster import Cluster, cluster
from distributed import Client, Worker
from projects import pal_toml
from waiting import PATIENCE_S

from annotation.synthetic import fill_csv, synthetic_headlines
from flows.import_texts import import_items
from flows.ingest import ingest
from flows.next_batch import next_batch
from flows.run import run_here
from storage.errors import ServiceError
from storage.lake.batches import items_of, open_batches, proposals_of
from storage.lake.models import production_model
from tasks.adapt_encoder import read_on_workers
from tasks.config.settings import Config, MinimumsConfig, ScaleConfig, TaskConfig
from tasks.config.template import DISASTER, config_text
from tasks.learning.distillation import Teacher
from tasks.project import Project, open_project
from tasks.sample import load_pool
from tasks.sampling.mixer import mix_strategies
from tasks.scale.workers import open_workers
from tasks.train import train_model

N = 80_000
DAYS = ("today", "yesterday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "tomorrow")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster; flow bodies that run in this process use it too, without its Prefect server."""
    with pytest.MonkeyPatch.context() as patch, cluster(tmp_path_factory.mktemp("cluster")) as made:
        for name, value in made.worker_environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def headlines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file of 80,000 headlines, ten of each kind, and what they are in truth."""
    table = synthetic_headlines(N // len(DAYS))
    path = tmp_path_factory.mktemp("headlines") / "headlines.csv"
    truth: dict[str, str] = {}
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(("id", "headline"))
        for day in DAYS:
            ids = [f"{day}-{item_id}" for item_id in table["item_id"].to_pylist()]
            texts = [f"{text} {day}" for text in table["text"].to_pylist()]
            csv.writer(file).writerows(zip(ids, texts, strict=True))
            truth |= zip(ids, table["label"].to_pylist(), strict=True)
    return path, truth


def project_at(folder: Path, **settings: str) -> Project:
    """A workspace; `settings` replace values in its pal.toml."""
    folder.mkdir()
    text = pal_toml(300, 0, 100)
    for name, value in settings.items():
        text, found = re.subn(rf'(?m)^{name} = ".*?"', f'{name} = "{value}"', text)
        assert found == 1, name
    (folder / "pal.toml").write_text(text, encoding="utf-8")
    return open_project(folder)


def on_cluster(up: Cluster, folder: Path) -> Project:
    """A workspace whose lake and files are on the cluster's servers, and whose pool on its workers."""
    up.postgres.create(folder.name)
    bucket = f"{up.s3.root}/{folder.name}"
    return project_at(
        folder,
        catalog=up.postgres.catalog(folder.name),
        data=f"{bucket}/lake",
        root=f"{bucket}/files",
        runner="dask",
        address=up.address,
    )


@dataclass(frozen=True)
class Looped:
    """A workspace on one machine and one on the cluster, each after the same loop; the last of the batches is open."""

    alone: Project
    shared: Project
    batches: list[str]
    truth: dict[str, str]


@pytest.fixture(scope="module")
def looped(up: Cluster, headlines: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Looped:
    """Import, an evaluation batch, a training batch and two active ones, all answered, and the next."""
    path, truth = headlines
    folder = tmp_path_factory.mktemp("workspaces")
    alone, shared = project_at(folder / "alone"), on_cluster(up, folder / "shared")
    batches = [loop(project, path, truth) for project in (alone, shared)]
    assert batches[0] == batches[1]
    return Looped(alone, shared, batches[0], truth)


def loop(project: Project, path: Path, truth: dict[str, str]) -> list[str]:
    run_here(project, import_items, (str(path),))
    batches = [run_here(project, next_batch)]
    for _ in range(4):
        answer(project, batches[-1], truth)
        batches.append(run_here(project, next_batch))
    return batches


def answer(project: Project, batch_id: str, truth: dict[str, str]) -> None:
    fill_csv(project.workspace.batches / batch_id / "batch.csv", truth)
    run_here(project, ingest)


def test_the_whole_loop_on_a_cluster_gives_what_one_machine_gives(up: Cluster, looped: Looped) -> None:
    here, there = looped.alone.workspace.store(), looped.shared.workspace.store()
    for batch_id in looped.batches:
        assert items_of(there, batch_id) == items_of(here, batch_id)
        assert proposals_of(there, batch_id) == proposals_of(here, batch_id)
    models = [production_model(store) for store in (here, there)]
    assert models[0] is not None
    assert models[1] is not None
    assert models[0].n_training == 300
    assert models[1].weights_hash == models[0].weights_hash
    assert there.rows("SELECT count(*), count(DISTINCT item_id) FROM lake.features") == [(N, N)]
    logs = [path.read_text(encoding="utf-8", errors="replace") for path in up.folder.glob("*.log")]
    assert len(logs) == 4
    assert "secret-word" not in "".join(logs)


MIX = dict.fromkeys(("random", "least_confidence", "outlier", "keyword", "representative", "cluster"), 5)
"""Questions of every kind to the workers; tests/contracts has all strategies on shards."""


@pytest.mark.parametrize("hidden", [0, 16], ids=["linear", "hidden layer"])
def test_strategies_ask_on_the_workers_what_they_ask_here(looped: Looped, hidden: int) -> None:
    config, store = looped.shared.config, looped.shared.workspace.store()
    model_config = config.model.model_copy(update={"hidden": hidden, "epochs": 2})
    sampling = config.sampling.model_copy(update={"keywords": ("flood", "quake")})
    project = looped.shared.with_config(model=model_config, sampling=sampling)
    model, version = train_model(project), store.version()
    with open_workers(config.scale) as workers:
        assert workers is not None
        assert len(workers) == 2
        there = load_pool(project, version, model, workers)
        here = load_pool(project, version, model)
        assert there.item_ids.equals(here.item_ids)
        np.testing.assert_array_equal(there.probabilities, here.probabilities)
        assert mix_strategies(there, MIX, 5) == mix_strategies(here, MIX, 5)


@pytest.fixture
def before(looped: Looped) -> Iterator[dict[str, int]]:
    """The open batch is answered, so that the next one is to be made; afterwards nothing is lost or doubled."""
    project, store = looped.shared, looped.shared.workspace.store()
    answer(project, open_batches(store)[0].batch.batch_id, looped.truth)
    counted = counts(project)
    yield counted
    opened = open_batches(store)
    assert [progress.batch.batch_id for progress in opened] == [f"b{counted['batches'] + 1:04d}-training"]
    items = [item.item_id for item in items_of(store, opened[0].batch.batch_id)]
    assert len(items) == len(set(items)) == opened[0].batch.n == 100
    assert not store.rows(
        "SELECT item_id FROM lake.annotations SEMI JOIN (SELECT unnest(?) AS item_id) USING (item_id)", [items]
    )
    after = counts(project)
    assert after == counted | {"batches": counted["batches"] + 1, "models": counted["models"] + 1}
    assert (project.workspace.batches / opened[0].batch.batch_id / "manifest.json").is_file()


def counts(project: Project) -> dict[str, int]:
    store = project.workspace.store()
    return {
        name: store.rows(f"SELECT count(*) FROM lake.{name}")[0][0]
        for name in ("items", "features", "annotations", "batches", "models")
    }


def when_workers_are_busy(up: Cluster, then: Callable[[int], None]) -> None:
    """Do something, given the busy worker's process, as soon as a worker has something to do."""
    with Client(up.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=PATIENCE_S)
        pids = client.run(os.getpid)
        until = time.monotonic() + 120
        while not (busy := [worker for worker, keys in client.processing().items() if keys]):
            assert time.monotonic() < until, "no worker had anything to do"
            time.sleep(0.01)
        then(pids[busy[0]])


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How a `pal` command ended, and what it said."""
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert "secret-word" not in output
    return process.returncode, output


def test_a_worker_killed_in_the_middle_of_a_shard_costs_nothing(
    up: Cluster, looped: Looped, before: dict[str, int]
) -> None:
    process = up.pal(looped.shared.workspace.root, "next")
    when_workers_are_busy(up, lambda worker: os.kill(worker, signal.SIGKILL))
    code, output = ended(process)
    assert code == 0, output


def test_a_killed_run_leaves_nothing_half_and_the_next_one_is_green(
    up: Cluster, looped: Looped, before: dict[str, int]
) -> None:
    process = up.pal(looped.shared.workspace.root, "next")
    when_workers_are_busy(up, lambda _worker: process.kill())
    ended(process)
    assert not open_batches(looped.shared.workspace.store())
    code, output = ended(up.pal(looped.shared.workspace.root, "next"))
    assert code == 0, output


def test_postgresql_killed_between_two_commits_loses_nothing(
    up: Cluster, looped: Looped, before: dict[str, int]
) -> None:
    process = up.pal(looped.shared.workspace.root, "next")

    def kill(_worker: int) -> None:
        up.postgres.kill()
        time.sleep(2)
        up.postgres.start()

    when_workers_are_busy(up, kill)
    code, output = ended(process)
    if code:
        assert "Hint: " in output, output
        code, output = ended(up.pal(looped.shared.workspace.root, "next"))
    assert code == 0, output


def test_a_refused_write_to_the_object_storage_is_told_and_the_next_run_goes_on(
    up: Cluster, looped: Looped, tmp_path: Path
) -> None:
    path = tmp_path / "more.csv"
    path.write_text("id,headline\n" + "".join(f"more-{k},more number {k}\n" for k in range(12_000)), encoding="utf-8")
    before, root = counts(looped.shared), looped.shared.workspace.root
    with up.s3.refusing():
        code, output = ended(up.pal(root, "import", str(path)))
        assert code == 1, output
        assert "AWS_ACCESS_KEY_ID" in output, output
        assert counts(looped.shared) == before
    for _ in range(2):
        code, output = ended(up.pal(root, "import", str(path)))
        assert code == 0, output
    assert counts(looped.shared) == before | {
        "items": before["items"] + 12_000,
        "features": before["features"] + 12_000,
    }


def test_texts_are_read_by_workers_that_have_what_it_takes(up: Cluster) -> None:
    def teachers(dask_worker: Worker) -> int:
        return sum(type(state).__name__ == "KeptTeacher" for state in getattr(dask_worker, "pal_state", {}).values())

    texts = [f"flood number {k} in the valley" for k in range(40)]
    with open_workers(ScaleConfig(runner="dask", address=up.address, resource="GPU")) as workers:
        assert workers is not None
        parts = [texts[:20], texts[20:]]
        found = np.concatenate(list(read_on_workers(workers, "GPU", None, None, parts)))
    with Client(up.address, set_as_default=False) as client:
        kept = client.run(teachers)
    assert {worker.split("/")[2].rsplit(":")[0] for worker, n in kept.items() if n} == {up.hosts[1][0]}
    assert sorted(kept.values()) == [0, 1], "worker 1 alone was started with a GPU"
    expected = np.concatenate([Teacher().sentence_vectors(part) for part in parts])
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_call_that_kills_every_worker_it_comes_to_is_reported_and_the_next_one_is_made(up: Cluster) -> None:
    with open_workers(ScaleConfig(runner="dask", address=up.address)) as workers:
        assert workers is not None
        with pytest.raises(ServiceError, match=r"\b_exit\b"):
            workers.run(os._exit, [(0, {"status": 1})])
        assert workers.run(dict, [(0, {"again": 1})]) == [{"again": 1}]
