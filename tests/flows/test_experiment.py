"""Mixes named on the command line: strategies, the default, weights; what is none is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotation.synthetic import synthetic_headlines
from flows.cli.commands import app
from flows.cli.simulation_options import USUAL, LabelledFile, Replays, experiment_of
from storage.errors import SamplingError, SourceError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = synthetic_headlines(400).to_pylist()
    path = tmp_path / "labelled.csv"
    path.write_text("\n".join(["text,label", *(f"{row['text']},{row['label']}" for row in rows)]), encoding="utf-8")
    return path


@pytest.fixture
def data(file: Path) -> LabelledFile:
    return LabelledFile(str(file))


def test_mixes_are_strategies_the_default_or_weights(data: LabelledFile) -> None:
    found = experiment_of(data, ["entropy", "default", "random=10,badge=90"]).mixes
    assert found == {
        "entropy": {"entropy": 1.0},
        "default": {},
        "random=10,badge=90": {"random": 10.0, "badge": 90.0},
    }
    assert tuple(experiment_of(data).mixes) == USUAL


def test_encoders_and_batch_sizes_count_once_and_have_a_default(data: LabelledFile) -> None:
    plain = experiment_of(data)
    assert (plain.encoders, plain.batch_sizes) == (("minilm-static",), (100,))
    replays = Replays(encoders=("bag-of-words", "minilm-static", "bag-of-words"), batch_sizes=(50, 20, 50))
    given = experiment_of(data, replays=replays)
    assert (given.encoders, given.batch_sizes) == (("bag-of-words", "minilm-static"), (50, 20))


def test_what_is_no_strategy_no_weight_no_file_and_no_encoder_is_told(data: LabelledFile) -> None:
    for mix, said in (("entropi", '"entropy"'), ("random=x", "random=10,entropy=90")):
        with pytest.raises(SamplingError) as raised:
            experiment_of(data, [mix])
        assert said in str(raised.value)
    for gone in (LabelledFile("gone.csv"), LabelledFile(data.file, evaluation="gone.csv")):
        with pytest.raises(SourceError, match=r"gone\.csv"):
            experiment_of(gone)
    with pytest.raises(SourceError, match="'bert'"):
        experiment_of(data, replays=Replays(encoders=("minilm-static", "bert")))


def test_the_command_needs_no_workspace_and_no_configuration(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    arguments = ["simulate", "labelled.csv", "--seeds", "1", "--iterations", "1", "--batch", "20", "--start", "40"]
    ran = CliRunner().invoke(app, [*arguments, "-m", "random", "-m", "default", "--jobs", "1"])
    assert ran.exit_code == 0, ran.output
    assert "win/tie/loss" in ran.output
    assert (file.parent / "simulation-labelled" / "simulation.html").is_file()
    assert (file.parent / "simulation-labelled" / "results.parquet").is_file()
    assert "simulation.png" in ran.stdout
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    ran = CliRunner().invoke(app, [*arguments, "-m", "random", "-m", "default", "--jobs", "1"])
    assert ran.exit_code == 0, ran.output
    assert all(value in ran.stderr for value in ("resvg-py", "pip install 'pytorch-active-learning[png]'"))
    assert "simulation.png" not in ran.stdout


def test_the_command_takes_several_encoders_and_batch_sizes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    arguments = ["simulate", "labelled.csv", "--seeds", "1", "--iterations", "1", "--start", "40", "-m", "random"]
    more = ["--encoder", "minilm-static", "--encoder", "bag-of-words", "--batch", "20"]
    ran = CliRunner().invoke(app, [*arguments, *more, "--jobs", "1", "--json"])
    assert ran.exit_code == 0, ran.output
    rows = json.loads(ran.stdout)["rows"]
    assert {(row["mix"], row["encoder"], row["batch_size"], row["name"]) for row in rows} == {
        ("random", encoder, 20, f"random, {encoder}") for encoder in ("minilm-static", "bag-of-words")
    }
    ran = CliRunner().invoke(app, [*arguments, "--batch", "20", "--batch", "0"])
    assert ran.exit_code == 2


def test_the_form_of_the_flow_has_the_usual_settings_and_their_limits() -> None:
    from flows.server.deployments import simulate

    schema = simulate.parameters.model_dump()
    assert schema["properties"]["mixes"]["default"] == list(USUAL)
    replays = schema["definitions"]["Replays"]["properties"]
    assert (replays["encoders"]["default"], replays["batch_sizes"]["default"]) == (["minilm-static"], [100])
    assert replays["batch_sizes"]["items"]["minimum"] == replays["seeds"]["minimum"] == 1
    assert schema["definitions"]["LabelledFile"]["required"] == ["file"]
