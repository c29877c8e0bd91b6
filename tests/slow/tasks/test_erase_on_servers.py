"""Erased where lake and files are on PostgreSQL and S3: no byte of the text is left on the servers, or comes back."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import Postgres
from test_erase_items import NEEDLE, erase, live, project_at, strings_in, traces
from waiting import PATIENCE_S

from storage.files.object_store import ObjectStore
from storage.records import Batch
from storage.upkeep.check import check_workspace
from storage.workspace import Workspace
from tasks.change_items import erase_items, plan_of
from tasks.project import Project

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def shared(
    tmp_path: Path,
    cluster: tuple[str, str],
    shared_root: str,
    reserve_batch: Callable[..., Batch],
    give_labels: Callable[..., None],
) -> Project:
    """The life of `test_erase_items` on servers."""
    root = tmp_path / "anna"
    root.mkdir()
    project = live(project_at(root, *cluster, shared_root), reserve_batch, give_labels)
    project.workspace.push(project.workspace.reports / "r.html.gz")
    return project


def on_servers(project: Project, postgres: Postgres) -> list[str]:
    """The objects, and the files of the tables of the catalog's database, that hold the text."""
    places = []
    for root in (project.workspace.data, project.workspace.files):
        store = ObjectStore(root)
        contents = {name: store.get(name) or b"" for name in store.listing()}
        places += [name for name, data in contents.items() if any(map(NEEDLE.search, strings_in(data)))]
    postgres.run("psql", "--quiet", "-c", "CHECKPOINT", postgres.url())
    database = project.workspace.catalog.rpartition("=")[2]
    ask = ("psql", "-At", "-c")
    number = postgres.run(
        *ask, "SELECT oid FROM pg_database WHERE datname = current_database()", postgres.url(database)
    )
    tables = [path for path in (postgres.folder / "data" / "base" / number.strip()).iterdir() if path.is_file()]
    assert len(tables) > 100
    for path in tables:
        if NEEDLE.search(path.read_bytes()):
            named = f"SELECT relname FROM pg_class WHERE relfilenode = {path.name.partition('.')[0]}"
            places.append(postgres.run(*ask, named, postgres.url(database)).strip())
    return places


def die_at(root: Path, servers: tuple[str, str, str], step: str) -> None:
    """Finish an erasure, or begin it, and die as the first shared file is deleted, or before the new ones are given."""
    project = project_at(root, *servers)
    plan = plan_of(project, ["gone", "gone2"])
    killed = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    setattr(ObjectStore if step == "delete" else Workspace, step, killed)
    erase_items(project, plan)


def test_no_byte_is_left_on_servers_after_kills_and_other_machines_bring_nothing_back(
    shared: Project, postgres: Postgres, tmp_path: Path
) -> None:
    workspace = shared.workspace
    servers = (workspace.catalog, workspace.data, workspace.files)
    bert = project_at(shutil.copytree(workspace.root, tmp_path / "bert"), *servers)
    bert.workspace.pull()
    before, versions = on_servers(shared, postgres), workspace.store().version()
    assert len(before) > 15, before
    assert "runs" in before, "PostgreSQL has it, too"
    workspace.close()
    for step in ("delete", "push"):
        process = SPAWN.Process(target=die_at, args=(workspace.root, servers, step))
        process.start()
        process.join(PATIENCE_S)
        assert process.exitcode == -signal.SIGKILL
    shared = project_at(workspace.root, *servers)
    shared.workspace.pull()
    erase(shared)
    assert traces(workspace.root) == ["mine.txt"]
    assert on_servers(shared, postgres) == []
    bert.workspace.pull()
    bert.workspace.push()
    assert on_servers(shared, postgres) == []
    theirs = [name for name in traces(bert.workspace.root) if name.startswith(("batches/", "inbox/", "reports/"))]
    assert theirs == ["reports/ingested-files.jsonl"], "it is named"
    assert (bert.workspace.batches / "b0002-training" / "batch.csv").read_bytes() == (
        workspace.batches / "b0002-training" / "batch.csv"
    ).read_bytes()
    assert not check_workspace(shared.workspace).damaged
    store = shared.workspace.store()
    assert store.rows(f"SELECT text FROM lake.items AT (VERSION => {versions}) WHERE item_id = 'gone'") == [("",)]
