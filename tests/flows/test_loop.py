"""The whole loop through the real flows: import, evaluation batch, training batch, active batches, nightly."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from annotation.batch import read_manifest
from annotation.synthetic import fill_csv, synthetic_headlines
from flows.cli.status import status_of
from flows.import_texts import import_items
from flows.ingest import ingest
from flows.next_batch import check_next, next_batch
from flows.nightly import nightly
from flows.review import adjudicate, review
from flows.run import run_here
from storage.errors import SamplingError
from storage.lake.annotations import label_counts, labelled_texts
from storage.lake.batches import find_batch, items_of, open_batches
from storage.lake.models import metrics_of, production_model
from storage.records import BatchStatus, Split
from tasks.config.settings import BatchConfig
from tasks.project import Project

TABLE = synthetic_headlines(800)
TRUTH = dict(zip(TABLE["item_id"].to_pylist(), TABLE["label"].to_pylist(), strict=True))


@pytest.fixture
def headlines(tmp_path: Path) -> Path:
    path = tmp_path / "headlines.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerow(("id", "headline"))
        csv.writer(file).writerows(zip(TABLE["item_id"].to_pylist(), TABLE["text"].to_pylist(), strict=True))
    return path


def fill(project: Project, batch_id: str, most: int | None = None) -> None:
    fill_csv(project.workspace.batches / batch_id / "batch.csv", TRUTH, most=most)


def test_the_loop_runs_from_import_to_a_promoted_model_and_active_batches(project: Project, headlines: Path) -> None:
    store = project.workspace.store()
    with pytest.raises(SamplingError, match="pal import FILE"):
        run_here(project, next_batch)
    report = run_here(project, import_items, files=(str(headlines),))[0]
    assert (report.n_new, report.n_rejected) == (800, 0)
    assert run_here(project, import_items, files=(str(headlines),))[0].n_new == 0

    purposes = []
    for _ in range(3):
        batch_id = run_here(project, next_batch)
        if not purposes:
            assert run_here(project, next_batch) == batch_id, "running it twice publishes once"
        purposes.append(find_batch(store, batch_id).batch.purpose)
        fill(project, batch_id)
        run_here(project, ingest)
        assert find_batch(store, batch_id).batch.status is BatchStatus.INGESTED
    assert purposes == [Split.EVALUATION, Split.TRAINING, Split.TRAINING]

    manifest = read_manifest(project.workspace.batches / batch_id)
    credited = {proposal["strategy"] for item in manifest["items"] for proposal in item["proposals"]}
    assert credited == {"random", "least_confidence", "outlier"}
    assert manifest["model_id"]

    newest = run_here(project, nightly)
    model = production_model(store)
    assert store.rows("SELECT max(n_training) FROM lake.models") == [(30 + 100,)]
    figures = metrics_of(store, model.model_id, Split.EVALUATION)
    assert figures["auc"].value is not None
    assert figures["auc"].value > 0.7
    assert [progress.batch.batch_id for progress in open_batches(store)] == [newest]

    held_out = {item.item_id for item in items_of(store, "b0001-evaluation")}
    for k in range(2, 5):
        number = f"b{k:04d}-training"
        assert not held_out & {item.item_id for item in items_of(store, number)}


def test_the_last_labels_of_an_empty_pool_train_a_model_once(
    project: Project, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> None:
    give_labels(project.workspace, take_headlines(project.workspace, 60))
    assert status_of(project).next.endswith(" next")
    check_next(project, another=False)
    assert run_here(project, next_batch) is None
    model = production_model(project.workspace.store())
    assert model is not None
    assert model.n_training == 60
    assert status_of(project).next.endswith(" import FILE")
    with pytest.raises(SamplingError, match="pal import FILE"):
        check_next(project, another=False)


def commits(project: Project) -> int:
    return project.workspace.store().version()


def test_next_with_training_makes_at_most_four_commits_and_ingest_two(
    project: Project, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> None:
    pairs = list(take_headlines(project.workspace, 400).items())
    give_labels(project.workspace, dict(pairs[:60]), Split.EVALUATION)
    give_labels(project.workspace, dict(pairs[60:100]))
    before = commits(project)
    batch_id = run_here(project, next_batch, n=10)
    assert production_model(project.workspace.store()) is not None
    assert commits(project) - before <= 4, "features, model, metrics and decision, batch"
    fill(project, batch_id)
    before = commits(project)
    assert [report.n_new for report in run_here(project, ingest)] == [10]
    assert commits(project) - before <= 2
    before = commits(project)
    run_here(project, ingest)
    assert commits(project) == before, "nothing was new"


def test_another_batch_can_be_published_beside_an_open_one_without_sharing_items(
    project: Project, take_headlines: Callable[..., dict[str, str]]
) -> None:
    take_headlines(project.workspace, 100)
    first, second = run_here(project, next_batch, n=30), run_here(project, next_batch, n=30, another=True)
    store = project.workspace.store()
    assert first != second
    assert not {i.item_id for i in items_of(store, first)} & {i.item_id for i in items_of(store, second)}


def test_several_annotators_disagree_an_adjudicator_settles_it_and_wrong_labels_are_reviewed(
    project: Project, headlines: Path
) -> None:
    store, folders = project.workspace.store(), project.workspace.batches
    project = project.with_config(batch=BatchConfig(annotators=("anna", "ben", "cleo"), overlap=2, gold=0.5))
    run_here(project, import_items, files=(str(headlines),))
    assert run_here(project, adjudicate) is None
    first = run_here(project, next_batch, n=60, formats=("csv",))
    wrong = {item_id: {"related": "not_related", "not_related": "related"}[label] for item_id, label in TRUTH.items()}

    def fill_all(batch_id: str, labels: dict[str, str]) -> None:
        for name in ("anna", "ben", "cleo"):
            fill_csv(folders / batch_id / f"batch-{name}.csv", labels, annotator=name)

    for name, labels in (("anna", TRUTH), ("ben", TRUTH), ("cleo", wrong)):
        fill_csv(folders / first / f"batch-{name}.csv", labels, annotator=name)
    run_here(project, ingest)
    assert sum(label_counts(store)[Split.EVALUATION].values()) == 20, "those of anna and ben"

    settle = run_here(project, adjudicate, n=30, formats=("csv",))
    assert settle is not None
    assert run_here(project, adjudicate) == settle
    second = run_here(project, next_batch, n=40, formats=("csv",))
    assert run_here(project, next_batch) == second != settle, "neither waits for the other"
    assert [path.name for path in sorted(folders.iterdir())] == [first, settle, second]
    fill_csv(folders / settle / "batch.csv", TRUTH, annotator="zoe")
    fill_all(second, TRUTH)
    run_here(project, ingest)
    assert find_batch(store, settle).batch.status is BatchStatus.INGESTED
    assert sum(label_counts(store)[Split.EVALUATION].values()) == 20 + 30 + 40
    assert status_of(project).disputed == 10, "that did not go to the adjudicator"

    training = run_here(project, next_batch, n=80, formats=("csv",))
    assert store.rows("SELECT DISTINCT batch_id FROM lake.assignments WHERE gold = 1") == [(training,)]
    fill_all(training, TRUTH | {item.item_id: wrong[item.item_id] for item in items_of(store, training)[:8]})
    run_here(project, ingest)
    third = run_here(project, next_batch, n=40, formats=("csv",))
    again = run_here(project, review, n=5, formats=("csv",))
    assert again is not None
    assert run_here(project, review) == again
    assert run_here(project, next_batch) == third, "nor for a review"
    assert {item.item_id for item in items_of(store, again)} <= {item.item_id for item in items_of(store, training)}
    assert find_batch(store, again).batch.n <= 5
    settled = {row[0] for row in store.rows("SELECT item_id FROM lake.batch_items WHERE batch_id = ?", [settle])}
    table = labelled_texts(store, Split.EVALUATION, store.version())
    resolved = dict(zip(table["item_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert {resolved[item_id] == TRUTH[item_id] for item_id in settled} == {True}


@pytest.fixture
def real_project(tmp_path: Path, real_data: Path) -> tuple[Project, Path]:
    from tasks.config.template import config_text, find_preset
    from tasks.project import open_project

    root = tmp_path / "real"
    root.mkdir()
    preset = find_preset("chapter-2")
    (root / "pal.toml").write_text(config_text(preset), encoding="utf-8")
    return open_project(root), real_data


def test_the_originals_directory_gives_a_model_as_good_as_promised_and_a_clean_batch(
    real_project: tuple[Project, Path],
) -> None:
    from storage.readers.spellings import folded

    project, directory = real_project
    report = run_here(project, import_items, original=str(directory))[0]
    assert report.labels == {"evaluation": 1197, "validation": 0, "training": 813}
    batch_id = run_here(project, next_batch)
    store = project.workspace.store()
    model = production_model(store)
    assert model.n_training == 813
    figures = metrics_of(store, model.model_id, Split.EVALUATION)
    assert (figures["auc"].value or 0) >= 0.925
    assert (figures["ap"].value or 0) >= 0.67
    items = items_of(store, batch_id)
    assert len({item.item_id for item in items}) == 100
    evaluation = {
        folded(line.split(",", 1)[1].rsplit(",", 1)[0])
        for name in ("related", "not_related")
        for line in (directory / f"evaluation_data/{name}.csv").read_text(encoding="utf-8").splitlines()
    }
    assert not {folded(item.text) for item in items} & evaluation
