"""The whole loop through the real flows: import, evaluation batch, training batch, active batches, nightly."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from annotation.batch import read_manifest
from annotation.headlines import synthetic_headlines
from annotation.oracle import fill_csv
from flows.status import status_of
from storage.annotations import label_counts
from storage.answers import history_of
from storage.batches import find_batch, items_of, open_batches
from storage.errors import SamplingError
from storage.models import metrics_of, production_model
from storage.records import BatchStatus, Split
from tasks.project import Project

pytestmark = pytest.mark.usefixtures("prefect_server")

TABLE = synthetic_headlines(3000)
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
    from flows.import_items import import_items
    from flows.ingest import ingest
    from flows.next_batch import next_batch
    from flows.nightly import nightly

    where = {"workspace": str(project.workspace.root)}
    store = project.workspace.store()
    with pytest.raises(SamplingError, match="pal import FILE"):
        next_batch(**where)
    report = import_items(**where, files=[str(headlines)])[0]
    assert (report.n_new, report.n_rejected) == (3000, 0)
    assert import_items(**where, files=[str(headlines)])[0].n_new == 0

    purposes = []
    for _ in range(4):
        batch_id = next_batch(**where)
        assert next_batch(**where) == batch_id, "running it twice publishes once"
        purposes.append(find_batch(store, batch_id).batch.purpose)
        fill(project, batch_id)
        ingest(**where)
        assert find_batch(store, batch_id).batch.status is BatchStatus.INGESTED
    assert purposes == [Split.EVALUATION, Split.TRAINING, Split.TRAINING, Split.TRAINING]

    manifest = read_manifest(project.workspace.batches / batch_id)
    credited = {proposal["strategy"] for item in manifest["items"] for proposal in item["proposals"]}
    assert credited == {"random", "least_confidence", "outlier"}
    assert manifest["model_id"]

    fill(project, nightly(**where))
    newest = nightly(**where)
    model = production_model(store)
    assert store.rows("SELECT max(n_training) FROM lake.models") == [(30 + 3 * 100,)]
    assert model is not None
    figures = metrics_of(store, model.model_id, Split.EVALUATION)
    assert figures["auc"].value is not None
    assert figures["auc"].value > 0.7
    assert [progress.batch.batch_id for progress in open_batches(store)] == [newest]

    held_out = {item.item_id for item in items_of(store, "b0001-evaluation")}
    for k in range(2, 7):
        number = f"b{k:04d}-training"
        assert not held_out & {item.item_id for item in items_of(store, number)}


def test_a_partly_filled_batch_is_taken_as_far_as_it_goes(project: Project, headlines: Path) -> None:
    from flows.import_items import import_items
    from flows.ingest import ingest
    from flows.next_batch import next_batch

    where = {"workspace": str(project.workspace.root)}
    import_items(**where, files=[str(headlines)])
    batch_id = next_batch(**where, n=20)
    fill(project, batch_id, most=7)
    assert [report.n_new for report in ingest(**where)] == [7]
    assert ingest(**where) == [], "an unchanged file is not read again"
    assert sum(label_counts(project.workspace.store())[Split.EVALUATION].values()) == 7
    status = status_of(project)
    assert (status.batches[0].n_ingested, status.pending) == (7, 13)
    fill(project, batch_id)
    assert [(report.n_new, report.n_known) for report in ingest(**where)] == [(13, 7)]
    assert status_of(project).next.endswith("next")


def test_another_batch_can_be_published_beside_an_open_one_without_sharing_items(
    project: Project, headlines: Path
) -> None:
    from flows.import_items import import_items
    from flows.next_batch import next_batch

    where = {"workspace": str(project.workspace.root)}
    import_items(**where, files=[str(headlines)])
    first, second = next_batch(**where, n=30), next_batch(**where, n=30, another=True)
    store = project.workspace.store()
    assert first != second
    assert not {i.item_id for i in items_of(store, first)} & {i.item_id for i in items_of(store, second)}


def test_a_batch_whose_files_were_lost_is_written_again_by_the_next_run(project: Project, headlines: Path) -> None:
    from flows.import_items import import_items
    from flows.ingest import ingest
    from flows.next_batch import next_batch

    where = {"workspace": str(project.workspace.root)}
    import_items(**where, files=[str(headlines)])
    batch_id = next_batch(**where, n=10)
    folder = project.workspace.batches / batch_id
    before = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    ingest(**where)
    assert read_manifest(folder) == before


def test_several_annotators_disagree_an_adjudicator_settles_it_and_wrong_labels_are_reviewed(
    project: Project, headlines: Path
) -> None:
    from flows.adjudicate import adjudicate
    from flows.import_items import import_items
    from flows.ingest import ingest
    from flows.next_batch import next_batch
    from flows.review import review

    where = {"workspace": str(project.workspace.root)}
    store, folders = project.workspace.store(), project.workspace.batches
    text = project.workspace.config_file.read_text(encoding="utf-8")
    for old, new in (("annotators = []", 'annotators = ["anna", "ben", "cleo"]'), ("overlap = 1", "overlap = 2")):
        text = text.replace(old, new)
    project.workspace.config_file.write_text(text.replace("gold = 0.0", "gold = 0.5"), encoding="utf-8")
    import_items(**where, files=[str(headlines)])
    assert adjudicate(**where) is None
    first = next_batch(**where, n=60, formats=["csv"])
    wrong = {item_id: {"related": "not_related", "not_related": "related"}[label] for item_id, label in TRUTH.items()}

    def fill_all(batch_id: str, labels: dict[str, str]) -> None:
        for name in ("anna", "ben", "cleo"):
            fill_csv(folders / batch_id / f"batch-{name}.csv", labels, annotator=name)

    for name, labels in (("anna", TRUTH), ("ben", TRUTH), ("cleo", wrong)):
        fill_csv(folders / first / f"batch-{name}.csv", labels, annotator=name)
    ingest(**where)
    assert sum(label_counts(store)[Split.EVALUATION].values()) == 20, "those of anna and ben"

    settle = adjudicate(**where, n=30, formats=["csv"])
    assert settle is not None
    assert adjudicate(**where) == settle
    second = next_batch(**where, n=40, formats=["csv"])
    assert next_batch(**where) == second != settle, "neither waits for the other"
    assert [path.name for path in sorted(folders.iterdir())] == [first, settle, second]
    fill_csv(folders / settle / "batch.csv", TRUTH, annotator="zoe")
    fill_all(second, TRUTH)
    ingest(**where)
    assert find_batch(store, settle).batch.status is BatchStatus.INGESTED
    assert sum(label_counts(store)[Split.EVALUATION].values()) == 20 + 30 + 40
    assert status_of(project).disputed == 10, "that did not go to the adjudicator"

    training = next_batch(**where, n=80, formats=["csv"])
    assert store.rows("SELECT DISTINCT batch_id FROM lake.assignments WHERE gold = 1") == [(training,)]
    fill_all(training, TRUTH | {item.item_id: wrong[item.item_id] for item in items_of(store, training)[:8]})
    ingest(**where)
    third = next_batch(**where, n=40, formats=["csv"])
    again = review(**where, n=5, formats=["csv"])
    assert again is not None
    assert review(**where) == again
    assert next_batch(**where) == third, "nor for a review"
    assert {item.item_id for item in items_of(store, again)} <= {item.item_id for item in items_of(store, training)}
    assert find_batch(store, again).batch.n <= 5
    settled = {row[0] for row in store.rows("SELECT item_id FROM lake.batch_items WHERE batch_id = ?", [settle])}
    assert {history_of(store, item_id).label == TRUTH[item_id] for item_id in settled} == {True}


@pytest.fixture
def real_project(tmp_path: Path, real_data: Path) -> tuple[Project, Path]:
    from flows.config import open_project
    from flows.presets import config_text, find_preset

    root = tmp_path / "real"
    root.mkdir()
    preset = find_preset("chapter-2")
    (root / "pal.toml").write_text(config_text(preset.label_set, preset.minimums), encoding="utf-8")
    return open_project(root), real_data


def test_the_originals_directory_gives_a_model_as_good_as_promised_and_a_clean_batch(
    real_project: tuple[Project, Path],
) -> None:
    from flows.import_items import import_items
    from flows.next_batch import next_batch
    from storage.text_hash import folded

    project, directory = real_project
    where = {"workspace": str(project.workspace.root)}
    report = import_items(**where, original=str(directory))[0]
    assert report.labels == {"evaluation": 1197, "validation": 0, "training": 813}
    batch_id = next_batch(**where)
    store = project.workspace.store()
    model = production_model(store)
    assert model is not None
    assert model.n_training == 813
    figures = metrics_of(store, model.model_id, Split.EVALUATION)
    assert (figures["auc"].value or 0) >= 0.925
    assert (figures["f1"].value or 0) >= 0.61
    items = items_of(store, batch_id)
    assert len({item.item_id for item in items}) == 100
    evaluation = {
        folded(line.split(",", 1)[1].rsplit(",", 1)[0])
        for name in ("related", "not_related")
        for line in (directory / f"evaluation_data/{name}.csv").read_text(encoding="utf-8").splitlines()
    }
    assert not {folded(item.text) for item in items} & evaluation
