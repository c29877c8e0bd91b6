"""Predictions: what the production model says, text by text, and what is missing where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from projects import pal_toml

from annotation.label_set import LabelSet
from flows.cli.previews import predictions
from storage.errors import ModelError, SourceError
from storage.lake.models import production_model, promote
from storage.readers.opening import open_source
from tasks.config.settings import TaskConfig
from tasks.learning.model_files import LoadedModel, load_model
from tasks.prepare import make_features
from tasks.project import Project, open_project
from tasks.train import train_model

TEXTS = ["floods cut off coastal town", "minister opens school", "Überschwemmung"]


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> Project:
    """200 headlines, all labelled, and a model of them in production."""
    root = tmp_path_factory.mktemp("trained")
    (root / "pal.toml").write_text(pal_toml(0, 0, 100), encoding="utf-8")
    project = open_project(root)
    give_labels(project.workspace, take_headlines(project.workspace, 200))
    make_features(project)
    promote(project.workspace.store(), train_model(project).model_id)
    return project


def model_of(project: Project) -> LoadedModel:
    current = production_model(project.workspace.store())
    assert current is not None
    return load_model(project.workspace.models / current.model_id)


def test_without_a_model_that_is_said_with_what_to_type(project: Project) -> None:
    with pytest.raises(ModelError) as raised:
        list(predictions(project, ["a text"], None))
    assert "pal status" in raised.value.hint


@pytest.mark.parametrize("texts", [[], [""], [" ", "\n\t"], ["a text", ""]])
def test_no_text_and_empty_texts_are_refused(trained: Project, texts: list[str]) -> None:
    with pytest.raises(SourceError) as raised:
        list(predictions(trained, texts, None))
    assert "pal predict --file FILE" in raised.value.hint


def test_labels_and_probabilities_are_the_production_models(trained: Project) -> None:
    model = model_of(trained)
    expected = model.predict(TEXTS)
    decided = model.calibration.decisions(expected)
    found = list(predictions(trained, TEXTS, None))
    assert [each["text"] for each in found] == TEXTS
    for each, row, label in zip(found, expected.tolist(), decided.tolist(), strict=True):
        assert each["label"] == model.labels[label]
        assert each["probabilities"] == pytest.approx(dict(zip(model.labels, row, strict=True)), abs=1e-5)
        assert each["probability"] == each["probabilities"][each["label"]]
        assert sum(each["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_texts_and_the_file_after_them_are_labelled_in_order(trained: Project, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("id,said\n1,fire in valley\n2,cake sale\n", encoding="utf-8")
    found = [each["text"] for each in predictions(trained, TEXTS, file, "said")]
    assert found == [*TEXTS, "fire in valley", "cake sale"]


def test_a_file_of_more_than_one_slice_is_labelled_whole_and_its_rejects_are_told(
    trained: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.csv"
    lines = [f"{k},fire {k}" for k in range(66_000)]
    lines[500], lines[65_900] = "500,", "65900,fire,flood,hail"
    file.write_text("\n".join(["id,text", *lines]) + "\n", encoding="utf-8")
    assert len(list(open_source(file).chunks())) > 1
    found = [each["text"] for each in predictions(trained, [], file)]
    assert found == [f"fire {k}" for k in range(66_000) if k not in (500, 65_900)]
    told = capsys.readouterr()
    assert told.out == ""
    places = [line.partition(": ")[0] for line in told.err.splitlines()]
    assert places == [str(file), f"{file}, row 502", f"{file}, row 65902"], "what was understood, then the rejects"


def test_a_model_of_other_labels_is_refused(trained: Project, three_labels: LabelSet) -> None:
    other = trained.with_config(task=TaskConfig.of(three_labels))
    with pytest.raises(ModelError, match="related, not_related") as raised:
        list(predictions(other, TEXTS, None))
    assert "sport, politics, weather" in raised.value.what
    assert "pal next" in raised.value.hint
