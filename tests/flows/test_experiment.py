"""Mixes named on the command line: strategies, the default, weights; what is none is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotation.headlines import synthetic_headlines
from flows.cli import app
from flows.experiment import USUAL, experiment_of
from storage.errors import SamplingError, SourceError
from tasks.sampling.sampling_config import SamplingConfig


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = synthetic_headlines(400).to_pylist()
    path = tmp_path / "labelled.csv"
    path.write_text("\n".join(["text,label", *(f"{row['text']},{row['label']}" for row in rows)]), encoding="utf-8")
    return path


def test_mixes_are_strategies_the_default_or_weights(file: Path) -> None:
    found = experiment_of(file, ["entropy", "default", "random=10,badge=90"], encoder="minilm-static").mixes
    assert found == {
        "entropy": {"entropy": 1.0},
        "default": SamplingConfig().active,
        "random=10,badge=90": {"random": 10.0, "badge": 90.0},
    }
    assert tuple(experiment_of(file, [], encoder="minilm-static").mixes) == USUAL


def test_what_is_no_strategy_no_weight_no_file_and_no_encoder_is_told(file: Path) -> None:
    for mix, said in (("entropi", "did you mean 'entropy'"), ("random=x", "random=10,entropy=90")):
        with pytest.raises(SamplingError) as raised:
            experiment_of(file, [mix], encoder="minilm-static")
        assert said in str(raised.value)
    with pytest.raises(SourceError, match="there is no file"):
        experiment_of(file.with_name("gone.csv"), [], encoder="minilm-static")
    with pytest.raises(SourceError, match="there is no encoder 'bert'"):
        experiment_of(file, [], encoder="bert")


def test_the_command_needs_no_workspace_and_no_configuration(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    arguments = ["simulate", "labelled.csv", "--seeds", "1", "--iterations", "1", "--batch", "20", "--start", "40"]
    ran = CliRunner().invoke(app, [*arguments, "-m", "random", "-m", "default", "--jobs", "1"])
    assert ran.exit_code == 0, ran.output
    assert "win/tie/loss" in ran.output
    assert (file.parent / "simulation-labelled" / "simulation.html").is_file()
    assert (file.parent / "simulation-labelled" / "results.parquet").is_file()
