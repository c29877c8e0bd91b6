"""Status: the counts, what waits in files, the model, and the one command that comes next."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from projects import pal_toml

from annotation.batch import contents_of, write_batch
from annotation.formats.journal import Journal
from annotation.inbox import waiting_answers
from annotation.label_set import LabelSet
from annotation.synthetic import fill_csv
from flows.cli.status import Status, status_of
from storage.lake.annotations import LabelledItem, import_labelled, ingest
from storage.lake.batches import Draft, close_batch, items_of, reserve
from storage.lake.models import add_metrics, add_model, promote
from storage.records import Answer, Assignment, Batch, Metric, Model, ModelStatus, Proposal, Purpose, RunStatus, Split
from storage.run_records import new_run
from tasks.collect import collect_answers
from tasks.config.settings import TaskConfig
from tasks.config.template import DISASTER
from tasks.learning.stopping import forecast
from tasks.project import Project, open_project

TEXTS = {"i1": "Floods", "i2": "Fair", "i3": "Fire", "i4": "Cats"}
TRUTH = {"i1": "related", "i2": "not_related", "i3": "related", "i4": "not_related"}
Publish = Callable[..., tuple[Batch, Path]]


@pytest.fixture
def publish(project: Project, reserve_batch: Callable[..., Batch]) -> Publish:
    """Texts into the pool and out again as a batch with its file; returns both."""

    def published(texts: dict[str, str] = TEXTS, purpose: Split = Split.TRAINING) -> tuple[Batch, Path]:
        workspace, store = project.workspace, project.workspace.store()
        batch = reserve_batch(workspace, texts, purpose)
        folder = workspace.batches / batch.batch_id
        write_batch(folder, batch, contents_of(store, batch), project.label_set)
        return batch, folder / "batch.csv"

    return published


@pytest.fixture
def at(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Status]:
    """The status as told inside the workspace."""
    monkeypatch.chdir(project.workspace.root)
    return lambda: status_of(project)


def test_an_empty_workspace_wants_texts_and_a_pool_wants_a_batch(
    project: Project, publish: Publish, at: Callable[[], Status]
) -> None:
    assert at().next == "pal import FILE"
    batch, _ = publish()
    close_batch(project.workspace.store(), batch.batch_id)
    now = at()
    assert (now.pool, now.next) == (4, "pal next")


def test_an_open_batch_wants_answers_until_every_item_has_one_in_a_file(
    publish: Publish, at: Callable[[], Status], project: Project
) -> None:
    batch, file = publish()

    def now() -> tuple[int, int, str]:
        found = at()
        return found.batches[0].n_ingested, found.batches[0].n_waiting, found.next

    annotate = f"pal annotate {batch.batch_id}"
    assert now() == (0, 0, annotate)
    fill_csv(file, TRUTH, most=1)
    assert now() == (0, 1, annotate)
    collect_answers(project)
    assert now() == (1, 0, annotate)
    fill_csv(file, TRUTH)
    assert now() == (1, 3, "pal ingest")
    collect_answers(project)
    after = at()
    assert (after.batches, after.pool, after.next) == ([], 0, "pal next"), "two labels to train on"


def test_a_file_in_the_inbox_comes_first(project: Project, publish: Publish, at: Callable[[], Status]) -> None:
    _, file = publish()
    shutil.copy(file, project.workspace.inbox / "from-anna.csv")
    now = at()
    assert (now.inbox, now.next) == (1, "pal ingest")
    assert re.search(r"\binbox +1\b", now.as_text())


def test_of_two_open_batches_the_oldest_is_annotated_first(publish: Publish, at: Callable[[], Status]) -> None:
    first, _ = publish()
    second, _ = publish({"i5": "Hail"}, Split.EVALUATION)
    now = at()
    assert [batch.batch_id for batch in now.batches] == [first.batch_id, second.batch_id]
    assert now.next == f"pal annotate {first.batch_id}"
    many = replace(now, batches=now.batches[:1] * 300).as_text()
    assert (many.count(first.batch_id + ":"), re.search(r"\b290\b", many) is not None) == (10, True)


def test_from_elsewhere_the_command_names_the_workspace_even_with_spaces_in_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "my project"
    (root / "deep").mkdir(parents=True)
    (root / "pal.toml").write_text(pal_toml(), encoding="utf-8")
    project = open_project(root)
    monkeypatch.chdir(tmp_path)
    assert status_of(project).next == f"pal --workspace '{root.resolve()}' import FILE"
    monkeypatch.chdir(root / "deep")
    assert status_of(project).next == "pal import FILE"


def test_a_correction_of_an_ingested_answer_waits_without_being_counted_twice(
    project: Project, publish: Publish, at: Callable[[], Status]
) -> None:
    batch, file = publish()
    fill_csv(file, TRUTH, most=3)
    collect_answers(project)
    fill_csv(file, {"i2": "related"})
    waiting = waiting_answers(project.workspace, batch.batch_id, project.label_set)
    assert {answer.item_id: answer.answer for answer in waiting} == {"i2": "related"}
    (out,) = at().batches
    assert (out.n_ingested, out.n_waiting) == (3, 0)
    collect_answers(project)
    assert waiting_answers(project.workspace, batch.batch_id, project.label_set) == []
    assert at().per_label["training"] == {"related": 3}


def test_the_json_has_the_promised_keys_with_the_counts(
    project: Project, publish: Publish, at: Callable[[], Status]
) -> None:
    store = project.workspace.store()
    done, _ = publish()
    close_batch(store, done.batch_id)
    labelled = [LabelledItem(item_id, TRUTH[item_id], "random", None) for item_id in ("i1", "i2")]
    import_labelled(store, "start", Split.TRAINING, labelled, DISASTER.digest, "test")
    held_out = [LabelledItem("i3", "related", "random", None)]
    import_labelled(store, "held", Split.EVALUATION, held_out, DISASTER.digest, "test")
    batch, _ = publish({"i5": "Hail", "i6": "Tea"})
    now = at()
    found = now.values()
    assert (found["items"], found["pool"], found["pending"]) == (6, 1, 2)
    assert found["labels"] == {"training": 2, "validation": 0, "evaluation": 1}
    assert found["open_batches"] == [batch.batch_id]
    assert (found["model"], found["next"]) == (None, f"pal annotate {batch.batch_id}")
    assert re.search(r"^model +none\b", now.as_text(), re.MULTILINE)


def test_the_model_is_told_with_its_figures_and_null_for_those_that_are_undefined(
    project: Project, at: Callable[[], Status]
) -> None:
    store = project.workspace.store()
    model = Model("m1", datetime.now(UTC), 1, 1234, "bag-of-words", "{}", "0", ModelStatus.CANDIDATE)
    add_model(store, model)
    assert at().model is None, "a candidate is not in production"
    promote(store, "m1")
    assert "F1" not in at().as_text(), "it is not evaluated"
    metrics = [Metric("f1", 0.75, 0.5, 0.875), Metric("auc", None, reason="one label only")]
    add_metrics(store, "m1", Split.EVALUATION, metrics, n=4, lake_version=1)
    now = at()
    told = now.values()["model"]
    assert {name: told[name] for name in ("id", "n_training", "f1", "auc", "ap")} == {
        "id": "m1",
        "n_training": 1234,
        "f1": 0.75,
        "auc": None,
        "ap": None,
    }
    assert re.search(r"\bm1\b.*\b1,234\b", now.as_text())
    assert re.search(r"F1 0\.750 \[0\.500, 0\.875\].*AUC.*\(one label only\)", now.as_text())


def test_labels_without_evaluation_items_are_counted_where_metrics_are_means_over_labels(
    project: Project, three_labels: LabelSet, reserve_batch: Callable[..., Batch]
) -> None:
    store = project.workspace.store()
    reserve_batch(project.workspace, TEXTS)
    import_labelled(store, "e", Split.EVALUATION, [LabelledItem("i1", "sport", "random", None)], "d", "test")
    add_model(store, Model("m1", datetime.now(UTC), 1, 9, "bag-of-words", "{}", "0", ModelStatus.CANDIDATE))
    promote(store, "m1")
    add_metrics(store, "m1", Split.EVALUATION, [Metric("accuracy", 0.75, 0.5, 0.875)], n=1, lake_version=1)
    now = status_of(project.with_config(task=TaskConfig.of(three_labels)))
    assert now.values()["model"]["absent_labels"] == 2
    assert re.search(r"accuracy 0\.750.*\n +2 labels\b", now.as_text())
    marked = status_of(project).model
    assert marked.absent_labels == 0, "one label is positive"


def test_the_next_step_says_how_long_it_takes_and_what_comes_after(
    project: Project, publish: Publish, at: Callable[[], Status]
) -> None:
    batch, file = publish()
    now = at()
    assert (now.n_left, now.seconds_left) == (4, None), "nobody's pace is known"
    ingest(project.workspace.store(), batch.batch_id, [Answer("i1", "related", "anna", seconds=4.0)], "f")
    with Journal(file.with_name("answers-anna.jsonl")) as journal:
        item = items_of(project.workspace.store(), batch.batch_id)[1]
        journal.append(batch.batch_id, item.text_hash, Answer(item.item_id, "related", "anna", seconds=8.0))
    now = at()
    assert (now.n_left, now.seconds_left) == (2, 12.0)
    assert re.search(r"^ +2 left, about 12 seconds\b", now.as_text(), re.MULTILINE)
    assert now.then.startswith("pal ingest")


def test_the_outlook_needs_enough_positives_to_evaluate_on(
    project: Project,
    at: Callable[[], Status],
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> None:
    store = project.workspace.store()
    items = list(take_headlines(project.workspace, 80))
    add_model(store, Model("m1", datetime.now(UTC), 1, 300, "bag-of-words", "{}", "0", ModelStatus.CANDIDATE))
    promote(store, "m1")
    metrics = [Metric("ap", 0.63, 0.55, 0.70)]
    add_metrics(store, "m1", Split.EVALUATION, metrics, n=60, lake_version=1)
    labels = {item_id: ("related" if k < 4 else "not_related") for k, item_id in enumerate(items[:60])}
    give_labels(project.workspace, labels, Split.EVALUATION)
    assert at().outlook is None
    give_labels(project.workspace, {items[60]: "related"}, Split.EVALUATION)
    now = at()
    assert now.outlook.expected == forecast(metrics[0], 300, now.outlook.n_training)
    assert (now.outlook.n_answers, now.outlook.n_training) == (100, 100), "evaluation items come first here"
    assert str(now.outlook.expected) in now.as_text()


def test_a_run_takes_as_long_as_the_last_one(project: Project, publish: Publish, at: Callable[[], Status]) -> None:
    close_batch(project.workspace.store(), publish()[0].batch_id)
    assert at().seconds_left is None
    started = datetime(2026, 1, 2, 3, 4, 5)
    run = replace(new_run("next-batch"), status=RunStatus.COMPLETED, started_at=started)
    project.workspace.runs().put(replace(run, ended_at=started + timedelta(seconds=90)))
    now = at()
    assert (now.next, now.seconds_left) == ("pal next", 90)


# Several annotators


@pytest.fixture
def overlapping(project: Project, publish: Publish) -> Path:
    """The folder of a batch of i1 and i2 that asks anna and ben each, and ben about i3, which is settled."""
    store = project.workspace.store()
    close_batch(store, publish()[0].batch_id)
    asked = [Assignment(item_id, who) for who in ("anna", "ben") for item_id in ("i1", "i2")]
    proposals = [Proposal(item_id, "random", None, 1) for item_id in ("i1", "i2")]
    draft = Draft(Purpose.TRAINING, ["i1", "i2"], proposals, 0, store.version(), "d", overlap=2, formats=("csv",))
    made = replace(draft, assignments=[*asked, Assignment("i3", "ben", gold=True)])
    batch, _ = reserve(store, made, beside_open=False)
    folder = project.workspace.batches / batch.batch_id
    write_batch(folder, batch, contents_of(store, batch), project.label_set)
    return folder


def test_answers_are_counted_to_what_each_item_needs_and_gold_is_not_counted(
    overlapping: Path, at: Callable[[], Status], project: Project
) -> None:
    def now() -> tuple[int, int, str]:
        status = at()
        (batch,) = status.batches
        return batch.n_ingested, batch.n_waiting, status.next

    annotate = f"pal annotate {overlapping.name}"
    anna, ben = overlapping / "batch-anna.csv", overlapping / "batch-ben.csv"
    fill_csv(anna, {"i1": "related"}, annotator="anna")
    fill_csv(ben, {"i3": "related"}, annotator="ben")
    assert now() == (0, 1, annotate), "the gold item is none of the batch's"
    collect_answers(project)
    assert now() == (1, 0, annotate)
    assert re.search(rf"{overlapping.name}\b.*\b1 of 4\b.*\b2\b.*\b2\b[^0-9]*\n", at().as_text()), "nothing waits"
    fill_csv(anna, {"i1": "not_related"}, annotator="anna")
    assert now() == (1, 0, annotate), "a correction is no further answer"
    fill_csv(anna, TRUTH | {"i1": "not_related"}, annotator="anna")
    fill_csv(ben, TRUTH, annotator="ben")
    assert now() == (1, 3, "pal ingest")
    assert re.search(r"\b4 of 4\b.*\b2\b.*\b2\b.*\b3\b", at().as_text())
    collect_answers(project)
    assert at().batches == []


def test_answers_beyond_what_an_item_needs_do_not_make_up_for_another_one(
    project: Project, overlapping: Path, at: Callable[[], Status]
) -> None:
    given = [Answer("i1", "related", who) for who in ("cleo", "dora", "erik")]
    ingest(project.workspace.store(), overlapping.name, given, "f")
    fill_csv(overlapping / "batch-anna.csv", TRUTH, annotator="anna")
    now = at()
    assert [(batch.n_ingested, batch.n_waiting) for batch in now.batches] == [(2, 1)]
    assert now.next.startswith("pal annotate")


def test_what_is_to_settle_is_told_once_nobody_is_still_asked(
    overlapping: Path, at: Callable[[], Status], project: Project
) -> None:
    fill_csv(overlapping / "batch-anna.csv", {"i1": "unsure", "i2": "related"}, annotator="anna")
    collect_answers(project)
    now = at()
    assert (now.disputed, "pal next --adjudicate" in now.as_text()) == (0, False)
    fill_csv(overlapping / "batch-ben.csv", {"i1": "unsure", "i2": "related"}, annotator="ben")
    collect_answers(project)
    now = at()
    assert now.disputed == now.values()["disputed"] == 1
    assert re.search(r"\b1\b.*: pal next --adjudicate\n", now.as_text())


def test_an_open_batch_that_asks_again_takes_nothing_from_the_pool_and_is_listed_with_its_purpose(
    project: Project, publish: Publish, at: Callable[[], Status]
) -> None:
    first, _ = publish()
    store = project.workspace.store()
    ingest(store, first.batch_id, [Answer("i1", "related", "anna"), Answer("i1", "not_related", "ben")], "f")
    close_batch(store, first.batch_id)
    draft = Draft(Purpose.ADJUDICATION, ["i1"], [Proposal("i1", "disputed", None, 1)], 0, store.version(), "d")
    again = reserve(store, draft, beside_open=False)[0].batch_id
    now = at()
    assert [(batch.purpose, batch.n, batch.overlap) for batch in now.batches] == [("adjudication", 1, 1)]
    assert (now.pool, now.pending, now.disputed, now.next) == (3, 0, 0, f"pal annotate {again}")
