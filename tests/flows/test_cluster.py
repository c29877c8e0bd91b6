"""Several machines: the lake on PostgreSQL and S3, Prefect's server on PostgreSQL, the pool on Dask workers."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, cluster

from annotation.headlines import synthetic_headlines
from annotation.oracle import fill_csv
from flows.config import Project, open_project
from flows.presets import DISASTER, config_text
from storage.batches import items_of, proposals_of
from storage.models import production_model
from tasks.plan import Minimums

N = 200_000
DAYS = ("today", "yesterday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "tomorrow")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, which the flows called in this process use too."""
    from prefect.settings import temporary_settings

    with pytest.MonkeyPatch.context() as patch, cluster(tmp_path_factory.mktemp("cluster")) as made:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOGGING_LEVEL

        with temporary_settings(
            {PREFECT_API_URL: made.api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_LEVEL: "CRITICAL"}
        ):
            yield made


@pytest.fixture(scope="module")
def headlines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file of 200,000 headlines, ten of each kind, and what they are in truth."""
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


def project_at(root: Path, lake: str = "", scale: str = "") -> Project:
    root.mkdir()
    text = config_text(DISASTER, Minimums(300, 0, 100))
    if lake:
        text = re.sub(r"(?<=\[lake\]\n)[^\[]*", lake, text)
    (root / "pal.toml").write_text(text + scale, encoding="utf-8")
    return open_project(root)


def on_cluster(up: Cluster, root: Path) -> Project:
    """A workspace whose lake is on the cluster's servers, and whose pool on its workers."""
    name = root.name
    up.postgres.create(name)
    return project_at(
        root,
        f'catalog = "{up.postgres.catalog(name)}"\ndata = "{up.s3.root}/{name}"\n\n',
        f'\n[scale]\nrunner = "dask"\naddress = "{up.address}"\n',
    )


def loop(project: Project, headlines: tuple[Path, dict[str, str]], active: int = 2) -> list[str]:
    """Import, evaluation and training batch, then so many active ones, all answered; returns the batches' ids."""
    from flows.import_items import import_items
    from flows.ingest import ingest
    from flows.next_batch import next_batch

    path, truth = headlines
    where = {"workspace": str(project.workspace.root)}
    import_items(**where, files=[str(path)])
    batches = []
    for _ in range(2 + active):
        batches.append(next_batch(**where))
        fill_csv(project.workspace.batches / batches[-1] / "batch.csv", truth)
        ingest(**where)
    batches.append(next_batch(**where))
    return batches


def test_the_whole_loop_on_a_cluster_gives_what_one_machine_gives(
    up: Cluster, headlines: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    alone, shared = project_at(tmp_path / "alone"), on_cluster(up, tmp_path / "shared")
    expected, found = loop(alone, headlines), loop(shared, headlines)
    assert found == expected
    here, there = alone.workspace.store(), shared.workspace.store()
    for batch_id in expected:
        assert items_of(there, batch_id) == items_of(here, batch_id)
        assert proposals_of(there, batch_id) == proposals_of(here, batch_id)
    models = [production_model(store) for store in (here, there)]
    assert models[0] is not None
    assert models[1] is not None
    assert models[1].weights_hash == models[0].weights_hash
    logs = "".join((up.folder / f"worker-{k}.log").read_text(encoding="utf-8") for k in range(2))
    assert "secret-word" not in logs
