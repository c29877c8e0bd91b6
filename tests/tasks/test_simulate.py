"""A simulation from a file to its page: it goes on where it was, and is the same on any number of processes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from annotation.headlines import synthetic_headlines
from annotation.simulation_page import simulation_page, simulation_text
from storage.errors import SourceError
from tasks import simulation_runs
from tasks.simulate import simulate
from tasks.simulation_runs import Experiment, material, run_all

MIXES = {"random": {"random": 1.0}, "default": {"random": 10.0, "least_confidence": 80.0, "outlier": 10.0}}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 headlines with their labels."""
    path = tmp_path_factory.mktemp("labelled") / "labelled.csv"
    table = synthetic_headlines(1000)
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerow(("headline", "class"))
        csv.writer(out).writerows(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
    return path


def experiment(file: Path, **more: object) -> Experiment:
    settings = {"seeds": 2, "iterations": 2, "batch_size": 40, "start": 40, **more}
    return Experiment(str(file), MIXES, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a simulation that ran to its end."""
    output = tmp_path_factory.mktemp("done")
    simulate(experiment(file), output, jobs=2)
    return output


def test_every_step_of_every_replay_is_kept_with_what_was_asked_and_predicted(done: Path, file: Path) -> None:
    rows = pq.read_table(done / "results.parquet").to_pylist()
    assert {(row["mix"], row["seed"], row["iteration"]) for row in rows} == {
        (mix, seed, k) for mix in MIXES for seed in range(2) for k in range(3)
    }
    held = material(experiment(file)).held_out
    assert all(len(row["probabilities"]) == 2 * len(held.labels) for row in rows)
    for row in rows:
        predicted = np.array(row["probabilities"], np.float32).reshape(-1, 2)
        assert row["accuracy"] == pytest.approx(np.mean(predicted.argmax(axis=1) == held.labels), abs=0.02)
    assert sum(len(row["asked"]) for row in rows if row["seed"] == 0 and row["mix"] == "default") == 120


def test_the_table_and_the_page_say_it(done: Path, file: Path) -> None:
    found = simulate(experiment(file), done)
    assert (found.figure, found.rows[0].mix in MIXES) == ("AP", True)
    text = simulation_text(found)
    assert "750 items with 2 labels to ask about, 250 held out" in text
    assert "@40" in text
    assert all(mix in text for mix in MIXES)
    page = (done / "simulation.html").read_text(encoding="utf-8")
    assert page == simulation_page(found)
    assert page.count("<svg ") == 4
    assert page.count('class="curve s1"') == 4


def test_what_is_done_is_not_done_again_and_one_process_gives_the_same_as_two(
    done: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {path.name: path.stat().st_mtime_ns for path in (done / "runs").iterdir()}
    gone = sorted(kept)[0]
    before = (done / "runs" / gone).read_bytes()
    (done / "runs" / gone).unlink()
    run_all(experiment(file), done, jobs=1)
    after = {path.name: path.stat().st_mtime_ns for path in (done / "runs").iterdir()}
    assert {name for name in kept if after[name] != kept[name]} == {gone}

    def without_times(content: bytes, name: str) -> object:
        (tmp_path / name).write_bytes(content)
        return pq.read_table(tmp_path / name).drop_columns(["training_s", "choosing_s"])

    assert without_times((done / "runs" / gone).read_bytes(), "a") == without_times(before, "b")


def test_other_settings_and_another_file_are_other_runs(file: Path, tmp_path: Path) -> None:
    def places(given: Experiment) -> set[Path]:
        return {run.place for run in simulation_runs._runs(given, tmp_path)}

    base = places(experiment(file))
    assert len(base) == 4
    assert places(experiment(file, seeds=3)) > base
    assert not places(experiment(file, batch_size=20)) & base
    other = tmp_path / "other.csv"
    other.write_text(file.read_text(encoding="utf-8") + "one more,related\n", encoding="utf-8")
    assert not places(experiment(other)) & base
    same = tmp_path / "same.csv"
    same.write_bytes(file.read_bytes())
    assert places(experiment(same)) == base, "the content counts, not the name"


def test_three_labels_are_compared_by_their_mean_f1_and_an_evaluation_file_is_held_out(tmp_path: Path) -> None:
    words = {"sport": "match goal coach", "money": "market shares bank", "weather": "rain storm heat"}
    lines = [f"{words[name]} number {k},{name}" for k in range(150) for name in words]
    (tmp_path / "x.csv").write_text("\n".join(["text,label", *lines[60:]]), encoding="utf-8")
    (tmp_path / "e.csv").write_text("\n".join(["text,label", *lines[:90]]), encoding="utf-8")
    given = Experiment(
        str(tmp_path / "x.csv"),
        MIXES,
        evaluation=str(tmp_path / "e.csv"),
        seeds=1,
        iterations=1,
        batch_size=30,
        start=30,
    )
    found = simulate(given, tmp_path / "out", jobs=1)
    assert found.figure == "F1"
    assert set(found.curves) == {"F1", "AUC", "AP"}
    assert found.rows[0].positives is None
    on = material(given)
    assert (len(on.held_out.labels), len(on.labels)) == (90, 360), "a text of the evaluation is never asked about"
    (tmp_path / "e.csv").write_text("text,label\nfloods,disaster\n", encoding="utf-8")
    with pytest.raises(SourceError, match="has the label 'disaster'"):
        material(Experiment(str(tmp_path / "x.csv"), MIXES, evaluation=str(tmp_path / "e.csv"), seeds=2))
