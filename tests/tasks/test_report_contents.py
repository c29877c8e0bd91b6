"""A report has every part, each with the numbers of the lake; what is missing is said and breaks nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from figures import figures
from lake_rows import set_context
from projects import project_of

from annotation.label_set import LabelSet
from annotation.synthetic import fill_csv
from flows.run import Run, run_here
from storage.errors import ConfigError
from storage.lake.annotations import ingest
from storage.lake.annotators import answers_by_day, people
from storage.lake.batches import Draft, reserve
from storage.lake.history import history_of
from storage.lake.items import fixed_sample
from storage.lake.models import metrics_of, production_model, promote, strategy_results
from storage.records import Answer, Assignment, Metric, Proposal, Purpose, RunStatus, Split
from storage.workspace import Workspace
from tasks.collect import collect_answers
from tasks.config.settings import PromotionConfig, ReportConfig, TaskConfig
from tasks.evaluate import HeldOut, evaluate_model, held_out_of
from tasks.learning.model_files import LoadedModel, load_model
from tasks.learning.training import TrainingConfig
from tasks.plan import Outlook, Plan
from tasks.prepare import make_features, open_model
from tasks.project import Project
from tasks.promote import promote_or_keep
from tasks.report import report_of, write_page
from tasks.reporting.report_page import Report, report_markdown, report_page
from tasks.sample import publish_batches, sample_batch
from tasks.train import train_model

QUICK = TrainingConfig(epochs=5)


@pytest.fixture(scope="module")
def worked(
    shared_workspace: Workspace, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> Project:
    """Two models, and between them a batch that the first one chose, answered."""
    workspace = shared_workspace
    truth = take_headlines(workspace, 600)
    pairs = list(truth.items())
    give_labels(workspace, dict(pairs[:150]), Split.EVALUATION)
    give_labels(workspace, dict(pairs[150:230]))
    project = project_of(workspace, training=QUICK, promotion=PromotionConfig(margin=1.0))
    make_features(project)
    run_here(project, train_and_sample)
    publish_batches(project)
    (folder,) = workspace.batches.iterdir()
    fill_csv(folder / "batch.csv", truth)
    collect_answers(project)
    train_and_decide(project, train_model(project))
    return project


@pytest.fixture(scope="module")
def report(worked: Project) -> Report:
    """Its report."""
    return report_of(worked, worked.workspace.runs().recent(1)[0].run_id)


def train_and_sample(run: Run) -> None:
    """A run of three stages."""
    model = run.stage(train_model, run.project)
    run.stage(train_and_decide, run.project, model)
    run.stage(sample_batch, run.project, Plan(Split.TRAINING, 30, active=True), model)


def train_and_decide(project: Project, model: LoadedModel) -> None:
    promote_or_keep(project, model, evaluate_model(project, model))


def test_the_numbers_are_those_of_the_lake(worked: Project, report: Report) -> None:
    store = worked.workspace.store()
    assert [point.n_training for point in report.models] == [80, 110]
    assert report.model_id == report.models[-1].model_id
    assert report.figures[0] == metrics_of(store, str(report.model_id), Split.EVALUATION)["f1"]
    assert re.search(r"\b110\b.*\b150\b.*\bm00110-", report.state)
    assert "150 items" in report.decision
    assert report.next == "pal next"
    found = report.evaluation
    assert (found.n, found.subject, found.labels) == (150, "related", ("related", "not_related"))
    assert np.sum(found.confusion) == 150
    wrong = found.confusion[0][1] + found.confusion[1][0]
    assert len(found.mistakes) == min(wrong, 20)
    for mistake in found.mistakes:
        assert mistake.label != mistake.decided
        assert history_of(store, mistake.item_id).label == mistake.label
    (active,) = [batch for batch in report.batches if batch.active]
    rows = strategy_results(store, "related")
    chosen = [row for row in rows if row.batch_id == active.batch_id]
    assert {row.strategy for row in chosen} == {"random", "least_confidence", "outlier"}
    assert sum(row.n_labelled for row in chosen) >= active.n_labelled, "credited to each that proposed it"
    assert {name for name, _ in report.by_strategy} == {row.strategy for row in rows}
    assert list(report.runs[0].stages) == ["train_model", "train_and_decide", "sample_batch"]
    assert report.signs
    assert report.advice
    assert report.lake_bytes > 100_000


def test_the_two_newest_models_are_compared_and_people_listed(worked: Project, report: Report) -> None:
    store, change = worked.workspace.store(), report.change
    assert [change.previous_id, change.model_id] == [point.model_id for point in report.models]
    assert "150 items" in change.verdict
    texts = fixed_sample(store, 2000)
    before, now = (load_model(worked.workspace.model_folder(each.model_id)) for each in report.models)
    first, second = (model.calibration.decisions(model.predict(texts)) for model in (before, now))
    assert (change.n, change.n_flips) == (600, np.count_nonzero(first != second))
    assert len(change.flips) == min(10, change.n_flips) > 0
    assert all(flip.before != flip.now and flip.text in texts for flip in change.flips)
    assert change.flips[0].text in report_page(report)
    assert [person.annotator for person in report.people] == sorted(person.annotator for person in report.people)


def test_people_have_their_pace_their_agreement_and_what_they_hold(
    workspace: Workspace, take_headlines: Callable[..., dict[str, str]]
) -> None:
    store, (first, second, third) = workspace.store(), take_headlines(workspace, 3)
    asked = [Assignment(item_id, who) for who in ("anna", "ben") for item_id in (first, second, third)]
    proposals = [Proposal(item_id, "random", None, 1) for item_id in (first, second, third)]
    draft = Draft(Purpose.TRAINING, [first, second, third], proposals, 0, store.version(), "d", overlap=2)
    batch, _ = reserve(store, replace(draft, assignments=asked), beside_open=False)
    day = datetime(2026, 1, 2, 9, tzinfo=UTC)
    given = [
        Answer(first, "related", "anna", seconds=2.0, annotated_at=day),
        Answer(second, "related", "anna", seconds=4.0, annotated_at=day + timedelta(days=1)),
        Answer(first, "related", "ben", annotated_at=day),
        Answer(second, "not_related", "cleo", annotated_at=day),
        Answer(second, "not_related", "dora", annotated_at=day),
    ]
    ingest(store, batch.batch_id, given, "f")
    assert answers_by_day(store, 5) == [(day.date(), 4), (day.date() + timedelta(days=1), 1)]
    assert answers_by_day(store, 1) == [(day.date() + timedelta(days=1), 1)]
    anna, ben, *others = people(store)
    assert (anna.annotator, anna.n_answers, anna.n_days, anna.seconds) == ("anna", 2, 2, 3.0)
    assert (anna.n_shared, anna.n_agreed, anna.n_held, anna.held_since) == (2, 1, 1, batch.created_at)
    assert (ben.n_answers, ben.seconds, ben.n_held) == (1, None, 2)
    assert [(each.annotator, each.n_held, each.n_agreed) for each in others] == [("cleo", 0, 1), ("dora", 0, 1)]


def test_page_and_markdown_have_every_part(report: Report) -> None:
    assert report.run is not None
    page, markdown = report_page(report), report_markdown(report)
    for title in (
        "The model in production",
        "Learning curve",
        "Batches",
        "On the evaluation items",
        "What the newest model decides otherwise",
        "People",
        "Stop?",
        "Time",
    ):
        assert f"<h2>{title}</h2>" in page
    places = re.findall(r'<a href="#(\w+)">', page)
    assert len(places) == page.count("<h2>") == len({*places})
    assert all(f'<section id="{place}">' in page for place in places)
    assert page.count("<svg ") == 8
    assert "The process ended without a message." not in page
    crashed = replace(report.runs[0], status=RunStatus.CRASHED)
    assert "The process ended without a message." in report_page(replace(report, runs=[crashed]))
    ahead = Outlook(40, 30, Metric("ap", 0.6, 0.5, 0.7))
    assert [report_page(replace(report, outlook=each)).count('class="ahead"') for each in (None, ahead)] == [0, 1]
    assert markdown.count("](data:image/svg+xml;base64,") == 7
    assert f"| F1 | {report.figures[0].value:.3f} [" in markdown
    assert "| train_model |" in markdown


def test_the_parts_of_the_evaluation_items_are_measured_one_by_one(worked: Project) -> None:
    set_context(worked.workspace, {"from": "<b>paper"}, "text_hash < '8'")
    report = report_of(worked.with_config(report=ReportConfig(slices=("from",))))
    parts = {each.value: each for each in report.evaluation.slices}
    assert parts.keys() == {"<b>paper", "(none)"}
    assert sum(each.n for each in parts.values()) == 150
    accuracy = np.trace(report.evaluation.confusion) / 150
    values = [(each.n, metric.value) for each in parts.values() for metric in each.metrics if metric.name == "accuracy"]
    assert sum(n * value for n, value in values if value is not None) / 150 == pytest.approx(accuracy)
    assert "<td>&lt;b&gt;paper</td>" in report_page(report)
    with pytest.raises(ConfigError):
        report_of(worked.with_config(report=ReportConfig(slices=("to",))))


def test_a_report_takes_what_its_run_predicted_for_the_evaluation_items(worked: Project) -> None:
    model = production_model(worked.store)
    assert model is not None
    alone, held_out = report_of(worked), dict[str, HeldOut]()
    of_model = held_out_of(worked, open_model(worked, model.model_id), held_out)
    assert report_of(worked, held_out=held_out).evaluation == alone.evaluation
    held_out[model.model_id] = replace(of_model, labels=1 - of_model.labels)
    other = report_of(worked, held_out=held_out).evaluation
    assert other is not None
    assert alone.evaluation is not None
    assert other.confusion == alone.evaluation.confusion[::-1]


def test_the_same_report_is_the_same_page(worked: Project, tmp_path: Path) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    first, second = (replace(report_of(worked), made_at=at) for _ in range(2))
    write_page(first, tmp_path / "a" / "1.html", tmp_path / "2.html")
    assert report_page(second) == (tmp_path / "a" / "1.html").read_text(encoding="utf-8")
    assert (tmp_path / "2.html").read_bytes() == (tmp_path / "a" / "1.html").read_bytes()


def test_before_there_is_anything_every_part_says_so(workspace: Workspace) -> None:
    report = report_of(project_of(workspace))
    page = report_page(report)
    assert figures(report.state) == []
    assert report.next == "pal import FILE"
    assert page.count("<svg ") == 0
    assert "pal import FILE" in page
    assert report_markdown(report).startswith(f"**{report.state[:10]}")


def test_labels_without_a_rare_one_and_without_evaluation_items_break_nothing(
    workspace: Workspace,
    three_labels: LabelSet,
    reserve_batch: Callable[..., object],
    give_labels: Callable[[Workspace, Mapping[str, str], Split], None],
) -> None:
    texts = {f"{name}-{k}": f"{name} story number {k}" for name in three_labels.names for k in range(12)}
    labels = {item_id: item_id.split("-")[0] for item_id in texts}
    reserve_batch(workspace, texts)
    give_labels(workspace, dict(list(labels.items())[::2]), Split.TRAINING)
    project = project_of(workspace, three_labels, training=QUICK)
    make_features(project)
    model = train_model(project)
    promote(workspace.store(), model.model_id)
    before = report_of(project)
    assert before.model_id == model.model_id
    assert before.evaluation is None
    assert model.model_id in report_page(before)
    give_labels(workspace, dict(list(labels.items())[1::2]), Split.EVALUATION)
    train_and_decide(project, model)
    report = report_of(project)
    assert (report.evaluation.subject, report.evaluation.curve) == ("right", [])
    assert np.shape(report.evaluation.confusion) == (3, 3)
    metrics = metrics_of(workspace.store(), model.model_id, Split.EVALUATION)
    assert {*report.per_label} == {*three_labels.names}
    assert report.per_label["sport"]["f1"] == metrics["f1[sport]"]
    assert not any("[" in metric.name for metric in report.figures)
    page = report_page(report)
    n_folded = page.count("<details>")
    assert "<summary>By label</summary>" in page
    assert '<th class="n">politics</th>' in page
    none_of_sport = replace(report.evaluation, confusion=[[0, 0, 0], *report.evaluation.confusion[1:]])
    many = replace(none_of_sport, labels=tuple(map(str, range(13))), confusion=[[1] * 13] * 13)
    assert none_of_sport.absent_labels == 1
    assert report_page(replace(report, evaluation=many)).count("<details>") == n_folded + 1


def test_a_batch_that_waits_is_what_comes_next(workspace: Workspace, reserve_batch: Callable[..., object]) -> None:
    reserve_batch(workspace, {"i1": "Floods"})
    report = report_of(project_of(workspace))
    assert re.search(r"\bb0001-training\b.*\b0 of 1\b", report.state)
    assert report.next == "pal annotate b0001-training"
    assert Purpose.TRAINING.value in report_page(report) or not report.batches


def test_a_model_for_other_labels_is_told_without_its_mistakes(worked: Project, three_labels: LabelSet) -> None:
    report = report_of(worked.with_config(task=TaskConfig.of(three_labels)))
    assert report.model_id
    assert report.evaluation is None
    assert str(report.model_id) in report_page(report)
