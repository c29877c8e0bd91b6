"""The nightly run: its stages in order, nothing where nothing is new, and the whole of it after any change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from annotation.synthetic import fill_csv
from flows.cli.status import status_of
from flows.next_batch import next_batch
from flows.nightly import nightly
from flows.run import run_here
from storage.lake.batches import close_batch
from storage.records import RunRecord, RunStatus, Split
from tasks.project import Project, open_project

SHORT = ["publish_batches", "collect_answers"]
TRAINING = ["make_features", "train_model", "evaluate_model", "compare_with_previous", "promote_or_keep"]
WHOLE = [*SHORT, *TRAINING, "sample_batch", "write_report"]


@pytest.fixture(scope="module")
def truth(
    shared_project: Project, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> dict[str, str]:
    """800 items with their true labels, of which 60 for evaluation and 40 for training are known."""
    truth = take_headlines(shared_project.workspace, 800)
    pairs = list(truth.items())
    give_labels(shared_project.workspace, dict(pairs[:60]), Split.EVALUATION)
    give_labels(shared_project.workspace, dict(pairs[60:100]))
    return truth


@pytest.fixture(scope="module")
def first_night(shared_project: Project, truth: dict[str, str]) -> Project:
    """After the first night."""
    night(shared_project)
    return shared_project


@pytest.fixture
def slept(first_night: Project, copied: Callable[[Project], Project]) -> Project:
    """A copy of it."""
    return copied(first_night)


def night(project: Project) -> RunRecord:
    run_here(open_project(project.workspace.root), nightly)
    run = project.workspace.runs().recent(1, flow="nightly")[0]
    assert run.status is RunStatus.COMPLETED
    return run


def test_a_night_goes_through_every_stage_and_the_next_says_that_nothing_is_new(
    slept: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project = slept
    (first,) = project.workspace.runs().recent(9)
    assert list(first.stages) == WHOLE
    assert first.model_id
    assert first.batch_id == "b0001-training"
    reports = {path.name for path in project.workspace.reports.glob("nightly-*.html")}
    assert reports == {f"{first.run_id}.html"}
    with caplog.at_level(logging.INFO):
        second = night(project)
    assert list(second.stages) == SHORT
    assert (second.model_id, second.batch_id) == (first.model_id, first.batch_id)
    assert "b0001-training" in second.message, "it is still open"
    assert {path.name for path in project.workspace.reports.glob("nightly-*.html")} == reports


def answered(project: Project, truth: dict[str, str]) -> None:
    fill_csv(project.workspace.batches / "b0001-training" / "batch.csv", truth, most=5)


def closed(project: Project, truth: dict[str, str]) -> None:
    close_batch(project.workspace.store(), "b0001-training")


def other_settings(project: Project, truth: dict[str, str]) -> None:
    path = project.workspace.config_file
    path.write_text(path.read_text(encoding="utf-8").replace("size = 100", "size = 50"), encoding="utf-8")


@pytest.mark.parametrize("change", [answered, closed, other_settings])
def test_after_any_change_the_whole_night_is_gone_through_again(
    slept: Project, truth: dict[str, str], change: Callable[[Project, dict[str, str]], None]
) -> None:
    change(slept, truth)
    assert list(night(slept).stages)[:7] == WHOLE[:7]
    assert list(night(slept).stages) == SHORT


def test_a_batch_whose_files_are_gone_is_written_again_even_where_nothing_is_new(slept: Project) -> None:
    (folder,) = slept.workspace.batches.iterdir()
    Path(folder / "manifest.json").unlink()
    assert list(night(slept).stages) == SHORT
    assert (folder / "manifest.json").is_file()


def test_next_batch_has_stages_and_a_report_too(
    project: Project, take_headlines: Callable[..., dict[str, str]]
) -> None:
    take_headlines(project.workspace, 20)
    batch_id = run_here(project, next_batch, n=7, formats=("csv",))
    (run,) = project.workspace.runs().recent(9, flow="next-batch")
    assert (run.batch_id, list(run.stages)[-1]) == (batch_id, "write_report")
    assert run.name == f"next {batch_id}"
    assert sorted(path.name for path in (project.workspace.batches / batch_id).iterdir()) == [
        "batch.csv",
        "definition.txt",
        "manifest.json",
    ]
    assert (project.workspace.reports / f"{run.run_id}.html").is_file()


def test_a_night_makes_sentence_vectors_before_it_trains_and_status_says_how_many_there_are(
    project: Project, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> None:
    pairs = list(take_headlines(project.workspace, 120).items())
    give_labels(project.workspace, dict(pairs[:60]), Split.EVALUATION)
    give_labels(project.workspace, dict(pairs[60:100]))
    assert status_of(project).sentence_vectors is None, "off in pal.toml"
    settings = project.workspace.config_file
    settings.write_text(settings.read_text(encoding="utf-8").replace('sentence = "off"', 'sentence = "auto"'), "utf-8")
    project = open_project(project.workspace.root)
    assert status_of(project).sentence_vectors == 0
    stages = list(night(project).stages)
    assert stages.index("make_sentence_vectors") < stages.index("train_model")
    assert status_of(project).sentence_vectors == 120
    assert list(night(project).stages) == SHORT
