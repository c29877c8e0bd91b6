"""Two machines and an annotator who share nothing but a lake and a folder of a real S3 server: the whole loop."""

from __future__ import annotations

import io
import multiprocessing
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from ingesting import ingest_there
from projects import pal_toml
from servers import S3
from typer.testing import CliRunner
from waiting import PATIENCE_S

from annotation.batch import batch_files
from annotation.synthetic import fill_csv, synthetic_headlines
from flows.cli.annotating import annotate_batch, publish_formats, submit
from flows.cli.commands import app
from flows.cli.model_choice import roll_back
from flows.cli.predicting import predictions
from flows.cli.status import status_of
from flows.import_texts import import_items
from flows.ingest import ingest as ingest_flow
from flows.next_batch import next_batch, report
from flows.run import Run, run_here
from storage.errors import BatchError, ConfigError, ModelError, StoreError
from storage.files.object_store import ObjectStore
from storage.lake.annotations import label_counts
from storage.lake.batches import find_batch
from storage.lake.models import metrics_of, production_model
from storage.records import BatchStatus, Split
from tasks.collect import FileReport
from tasks.config.settings import Config, MinimumsConfig, TaskConfig
from tasks.config.template import PRESETS, config_text
from tasks.predict_pool import predict_pool
from tasks.project import Project, open_project

SPAWN = multiprocessing.get_context("spawn")
N = 600
TABLE = synthetic_headlines(N)
TRUTH = dict(zip(TABLE["item_id"].to_pylist(), TABLE["label"].to_pylist(), strict=True))


@pytest.fixture
def machine(tmp_path: Path, shared_root: str) -> Callable[[str], Project]:
    """Makes a project with folders of its own; all have one lake and one `[files] root`."""
    lake = tmp_path / "lake"

    def made(name: str) -> Project:
        root = tmp_path / name
        root.mkdir()
        text = pal_toml(60, 0, 40)
        for old, new in (
            ("sqlite:lake/catalog.sqlite", f"sqlite:{lake}/catalog.sqlite"),
            ('data = "lake/data"', f'data = "{lake}/data/"'),
            ('root = ""', f'root = "{shared_root}"'),
            ('"csv", "xlsx", "html"', '"csv"'),
            ("size = 100", "size = 60"),
        ):
            assert old in text
            text = text.replace(old, new)
        (root / "pal.toml").write_text(text, encoding="utf-8")
        lake.mkdir(exist_ok=True)
        return open_project(root)

    return made


@pytest.fixture
def anna(machine: Callable[[str], Project], take_headlines: Callable[..., dict[str, str]]) -> Project:
    """One machine; there are texts in the lake."""
    project = machine("anna")
    take_headlines(project.workspace, N)
    return project


@pytest.fixture
def bert(machine: Callable[[str], Project], anna: Project) -> Project:
    """Another machine with the same lake."""
    return machine("bert")


@pytest.fixture
def store(shared_root: str) -> ObjectStore:
    """What annotators and all machines see."""
    return ObjectStore(shared_root)


def publish_next(project: Project) -> str:
    return run_here(project, next_batch)


def ingest(project: Project) -> list[FileReport]:
    return run_here(project, ingest_flow)


def write_page(run: Run) -> Path:
    """A run that only writes its report; returns the page."""
    report(run)
    return run.project.workspace.reports / f"{run.record.run_id}.html"


def fill_in_the_store(store: ObjectStore, batch_id: str, folder: Path, to: str = "") -> None:
    """An annotator takes the batch's file from the store, fills it in, and puts it there again or elsewhere."""
    name = f"batches/{batch_id}/batch.csv"
    content = store.get(name)
    assert content is not None
    (folder / "mine.csv").write_bytes(content)
    fill_csv(folder / "mine.csv", TRUTH)
    store.put(to or name, (folder / "mine.csv").read_bytes())


def test_one_machine_publishes_another_ingests_the_first_trains_and_the_other_predicts_with_that_model(
    anna: Project, bert: Project, store: ObjectStore, tmp_path: Path
) -> None:
    lake = anna.workspace.store()
    first = publish_next(anna)
    fill_in_the_store(store, first, tmp_path)
    assert [(report.n_new, report.errors, report.completed) for report in ingest(bert)] == [(60, [], [first])]
    assert ingest(anna) == ingest(bert) == [], "each file is read once, by whichever machine"
    second = publish_next(bert)
    fill_in_the_store(store, second, tmp_path, to="inbox/from zoe.csv")
    assert status_of(bert).inbox == 1
    assert [(report.file, report.n_new) for report in ingest(bert)] == [("inbox/from zoe.csv", 40)]
    assert [name.split("/")[1] for name in store.listing("inbox")] == ["done"]
    assert sum(label_counts(lake)[Split.TRAINING].values()) == 40

    third = publish_next(anna)
    model = production_model(lake)
    assert metrics_of(lake, model.model_id, Split.EVALUATION)["f1"].value is not None
    assert not list(bert.workspace.models.iterdir())
    done = predict_pool(bert, tmp_path / "all.parquet", "parquet")
    assert (done.n, done.model_id) == (N, model.model_id)
    texts = ["floods cut off town", "cats sleep"]
    assert list(predictions(anna, texts, None)) == list(predictions(bert, texts, None))
    assert {path.name for path in (bert.workspace.models / model.model_id).iterdir()} == {
        "manifest.json",
        "model.safetensors",
        "evaluation.json",
    }
    assert find_batch(lake, third).batch.status is BatchStatus.PUBLISHED
    assert {path.name for path in bert.workspace.batches.iterdir()} == {first, second}
    assert [batch.batch_id for batch in status_of(bert).batches] == [third]
    assert (bert.workspace.batches / third / "batch.csv").is_file()
    page = run_here(bert, write_page)
    assert store.get(f"reports/{page.name}") == store.get("reports/latest.html") == page.read_bytes()


def test_two_machines_that_ingest_at_once_take_each_answer_once_and_put_the_file_away_once(
    anna: Project, bert: Project, store: ObjectStore, tmp_path: Path
) -> None:
    first = publish_next(anna)
    bert.workspace.pull()
    for number in range(4):
        fill_in_the_store(store, first, tmp_path, to=f"inbox/{number}.csv")
        store.put(f"inbox/{number}.csv", (store.get(f"inbox/{number}.csv") or b"") + b"\r\n" * number)
    gate = SPAWN.Barrier(2)
    processes = [SPAWN.Process(target=ingest_there, args=(each.workspace.root, gate)) for each in (anna, bert)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    assert [process.exitcode for process in processes] == [0, 0]
    assert anna.workspace.store().rows("SELECT count(*), count(DISTINCT item_id) FROM lake.annotations") == [(60, 60)]
    kept = {name.rpartition("-")[0] for name in store.listing("inbox")}
    assert kept == {f"inbox/done/{number}" for number in range(4)}
    assert len(store.listing("inbox")) == 4
    for project in (anna, bert):
        assert ingest(project) == []
        assert not [path for path in project.workspace.inbox.iterdir() if path.is_file()]


def test_a_file_submitted_on_one_machine_is_ingested_on_another_and_its_bad_rows_come_back(
    anna: Project, bert: Project, store: ObjectStore, tmp_path: Path, shared_root: str
) -> None:
    batch_id = publish_next(anna)
    name = f"batches/{batch_id}/batch.csv"
    (tmp_path / "zoe.csv").write_bytes(store.get(name) or b"")
    fill_csv(tmp_path / "zoe.csv", dict.fromkeys(TRUTH, "1"))
    fill_csv(tmp_path / "zoe.csv", dict.fromkeys(TRUTH, "perhaps"), most=1)
    keys = tuple(replace(label, key=key) for label, key in zip(bert.label_set.labels, "78", strict=True))
    changed = bert.with_config(task=TaskConfig.of(replace(bert.label_set, labels=keys)))
    found = submit(changed, tmp_path / "zoe.csv", None)
    assert found.place.startswith(f"{shared_root}/inbox/zoe-")
    assert list(bert.workspace.inbox.iterdir()) == []
    (report,) = ingest(anna)
    assert report.n_new == sum(found.answers.values()) == 59
    rejected, errors = sorted(store.listing("inbox"), key=len)
    assert rejected.startswith("inbox/rejected/zoe-")
    assert errors == f"{rejected}.errors.csv"
    assert b"perhaps" in (store.get(errors) or b"")
    assert ingest(bert) == []


def test_answers_at_a_terminal_on_one_machine_are_in_the_lake_after_an_ingest_on_another(
    anna: Project, bert: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = publish_next(anna)
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n0\n1\n"))
    annotate_batch(bert, batch_id, "zoe")
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n0\n"))
    assert annotate_batch(anna, batch_id, "zoe").answered == 5, "she goes on where she was"
    assert status_of(bert).batches[0].n_waiting == 5
    assert [report.n_new for report in ingest(bert)] == [5]


def test_a_batch_with_answers_that_only_the_store_has_is_not_closed(
    anna: Project, store: ObjectStore, tmp_path: Path
) -> None:
    batch_id = publish_next(anna)
    fill_in_the_store(store, batch_id, tmp_path)
    closed = CliRunner().invoke(app, ["close", batch_id, "--workspace", str(anna.workspace.root)])
    assert isinstance(closed.exception, BatchError)
    assert re.search(rf"\b60\b.*{batch_id}", closed.exception.what)


def test_a_report_that_is_asked_for_is_shared_unless_it_goes_elsewhere(
    anna: Project, store: ObjectStore, tmp_path: Path
) -> None:
    where = ["report", "--workspace", str(anna.workspace.root)]
    assert CliRunner().invoke(app, [*where, "--output", str(tmp_path / "mine.html")]).exit_code == 0
    assert store.listing("reports") == {}
    assert CliRunner().invoke(app, where).exit_code == 0
    assert store.get("reports/latest.html") == (anna.workspace.reports / "latest.html").read_bytes()


def test_status_tells_where_the_files_are(anna: Project, shared_root: str) -> None:
    assert re.search(rf"\nfiles  .*{re.escape(shared_root)}\n", status_of(anna).as_text())
    alone = replace(anna, workspace=replace(anna.workspace, files=""))
    assert "files  " not in status_of(alone).as_text()


def test_without_the_store_a_run_says_so_and_the_next_one_is_whole(anna: Project, store: ObjectStore, s3: S3) -> None:
    for after in (0, 3, 5):
        with s3.refusing(after), pytest.raises(StoreError, match="s3://"):
            publish_next(anna)
        assert not [name for name in store.listing("batches") if name.endswith("/manifest.json")]
    batch_id = publish_next(anna)
    assert f"batches/{batch_id}/manifest.json" in store.listing("batches")


def test_the_list_of_refused_rows_is_shared_with_other_machines(
    anna: Project, store: ObjectStore, tmp_path: Path
) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("id,text\n1,floods\n2,\n", encoding="utf-8")
    (imported,) = run_here(anna, import_items, (str(path),))
    rejects = Path(str(imported.rejects_file))
    assert store.get(f"reports/{rejects.name}") == rejects.read_bytes()


def test_a_model_that_no_machine_gave_away_is_told_as_missing(anna: Project, bert: Project) -> None:
    with pytest.raises(ModelError):
        roll_back(bert)
    assert not (bert.workspace.model_folder("m00001-none")).exists()


def test_without_a_root_nothing_is_shared(anna: Project, store: ObjectStore) -> None:
    alone = replace(anna, workspace=replace(anna.workspace, files=""))
    publish_next(alone)
    ingest(alone)
    assert store.listing("") == {}
