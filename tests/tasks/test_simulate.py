"""A simulation from a file to its page: it goes on where it was, is the same on any number of processes, and compares
like with like."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotation.synthetic import synthetic_headlines
from storage.errors import SourceError
from tasks.learning.encoders import BAG_OF_WORDS, MINILM_STATIC
from tasks.reporting.simulation_page import Simulation, simulation_page, simulation_text
from tasks.simulation import replays as simulation_runs
from tasks.simulation.experiment import replay_experiment
from tasks.simulation.replay import Replay, replay
from tasks.simulation.replays import Experiment, material, run_all

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
    settings = {"seeds": 2, "iterations": 2, "batch_sizes": (40,), "start": 40, **more}
    return Experiment(str(file), MIXES, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a simulation that ran to its end."""
    output = tmp_path_factory.mktemp("done")
    replay_experiment(experiment(file), output, jobs=1)
    return output


def test_every_step_of_every_replay_is_kept_with_what_was_asked_and_predicted(done: Path, file: Path) -> None:
    rows = pq.read_table(done / "results.parquet").to_pylist()
    assert {(row["mix"], row["seed"], row["iteration"]) for row in rows} == {
        (mix, seed, k) for mix in MIXES for seed in range(2) for k in range(3)
    }
    made = material(experiment(file), MINILM_STATIC)
    held = made.held_out
    assert all(len(row["probabilities"]) == 2 * len(held.labels) for row in rows)
    for row in rows:
        predicted = np.array(row["probabilities"], np.float32).reshape(-1, 2)
        scores, truth = predicted[:, made.positive], held.labels == made.positive
        assert row["accuracy"] in {float(np.mean((scores >= cut) == truth)) for cut in (*scores, 2)}
    assert sum(len(row["asked"]) for row in rows if row["seed"] == 0 and row["mix"] == "default") == 120


def test_the_table_and_the_page_say_it(done: Path, file: Path) -> None:
    found = replay_experiment(experiment(file), done)
    assert (found.figure, found.rows[0].mix in MIXES) == ("AP", True)
    text = simulation_text(found)
    assert re.search(r"\b750\b.*\b2\b.*\b250\b", text)
    assert "@40" in text
    assert all(mix in text for mix in MIXES)
    page = (done / "simulation.html").read_text(encoding="utf-8")
    assert page == simulation_page(found)
    assert page.count("<svg ") == 5
    assert "pal simulate labelled.csv --mix random --mix default --batch 40 --seeds 2 --iterations 2 --start 40" in page
    assert found.warning
    assert all(found.warning in each for each in (text, page))
    assert [row.name for row in found.rows if row.gain] == ["default"]
    assert page.count('class="curve s1"') == 4


def test_the_picture_lies_beside_the_page_and_where_it_cannot_be_drawn_none_stays(
    done: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(done, tmp_path / "out")
    picture = tmp_path / "out" / "simulation.png"
    picture.unlink()
    assert replay_experiment(experiment(file), tmp_path / "out").no_picture == ""
    assert picture.read_bytes() == (done / "simulation.png").read_bytes()
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    found = replay_experiment(experiment(file), tmp_path / "out")
    assert "pip install 'pytorch-active-learning[png]'" in found.no_picture
    assert not picture.exists(), "it would be that of another simulation"
    assert (tmp_path / "out" / "simulation.html").is_file()


def test_intervals_are_drawn_within_the_values_that_a_figure_can_have(done: Path, file: Path) -> None:
    found = replay_experiment(experiment(file), done)
    for name, by_line in found.curves.items():
        points = [point for line in by_line.values() for point in line]
        assert min(point.low for point in points if point.low is not None) >= 0
        if name != "positives found":
            assert max(point.high for point in points if point.high is not None) <= 1
    wide = [row.high for row in found.rows]
    assert max(wide) > 1, "two seeds: the table says how little is known"


def test_what_is_done_is_not_done_again_and_one_process_gives_the_same_as_two(
    done: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {path.name: path.stat().st_mtime_ns for path in (done / "runs").iterdir()}
    run_all(replace(experiment(file), mixes={"default": {}}), done, jobs=1)  # the default of two labels
    gone = sorted(kept)[:2]
    before = [(done / "runs" / name).read_bytes() for name in gone]
    for name in gone:
        (done / "runs" / name).unlink()
    run_all(experiment(file), done, jobs=2)
    after = {path.name: path.stat().st_mtime_ns for path in (done / "runs").iterdir()}
    assert {name for name in kept if after[name] != kept[name]} == {*gone}

    def without_times(content: bytes, name: str) -> object:
        (tmp_path / name).write_bytes(content)
        return pq.read_table(tmp_path / name).drop_columns(["training_s", "choosing_s"])

    for name, content in zip(gone, before, strict=True):
        assert without_times((done / "runs" / name).read_bytes(), "a") == without_times(content, "b")


def test_other_settings_and_another_file_are_other_runs(file: Path, tmp_path: Path) -> None:
    def places(given: Experiment) -> set[Path]:
        return {run.path for run in simulation_runs._runs(given, tmp_path)}

    base = places(experiment(file))
    assert len(base) == 4
    assert places(experiment(file, seeds=3)) > base
    assert not places(experiment(file, batch_sizes=(20,))) & base
    other = tmp_path / "other.csv"
    other.write_text(file.read_text(encoding="utf-8") + "one more,related\n", encoding="utf-8")
    assert not places(experiment(other)) & base
    same = tmp_path / "same.csv"
    same.write_bytes(file.read_bytes())
    assert places(experiment(same)) == base, "the content counts, not the name"


@pytest.fixture(scope="module")
def several(file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Simulation]:
    """The directory of a simulation with two encoders and two batch sizes, and what it found."""
    output = tmp_path_factory.mktemp("several")
    given = experiment(file, encoders=(MINILM_STATIC, BAG_OF_WORDS), batch_sizes=(40, 30), seeds=1)
    return output, replay_experiment(given, output, jobs=1)


def test_every_mix_is_replayed_with_every_encoder_in_batches_of_every_size(
    several: tuple[Path, Simulation],
) -> None:
    table = pq.read_table(several[0] / "results.parquet")
    assert table.column_names[:6] == ["mix", "encoder", "batch_size", "seed", "iteration", "n_asked"]
    rows = table.to_pylist()
    asked: dict[tuple[str, str, int, int], list[int]] = {}
    for row in rows:
        asked.setdefault((row["mix"], row["encoder"], row["batch_size"], row["seed"]), []).append(row["n_asked"])
    assert set(asked) == set(product(MIXES, (MINILM_STATIC, BAG_OF_WORDS), (40, 30), (0,)))
    for (_, _, batch_size, seed), steps in asked.items():
        begun = asked["random", MINILM_STATIC, 40, seed][0]
        sizes = {40: [40, 40], 30: [30, 30, 20]}[batch_size]
        assert np.diff(steps).tolist() == sizes
        assert (steps[0], steps[-1]) == (begun, begun + 80), "all begin and end at the same numbers of items"
    begun_with = {row["seed"]: row["asked"] for row in rows if row["iteration"] == 0}
    assert all(row["asked"] == begun_with[row["seed"]] for row in rows if row["iteration"] == 0)
    ends = {(row["encoder"], row["seed"]): row["probabilities"] for row in rows if row["iteration"] == 0}
    assert ends[MINILM_STATIC, 0] != ends[BAG_OF_WORDS, 0]


def test_a_line_is_named_by_what_there_is_more_than_one_of(
    several: tuple[Path, Simulation], done: Path, file: Path, tmp_path: Path
) -> None:
    output, found = several
    names = {
        f"{mix}, {encoder}, batches of {n}"
        for mix in MIXES
        for encoder in (MINILM_STATIC, BAG_OF_WORDS)
        for n in (40, 30)
    }
    assert {row.name for row in found.rows} == names
    assert set(found.curves["AP"]) == names
    text = simulation_text(found)
    assert re.search(r"\b2\b.*\b40\b.*\b3\b.*\b30\b.*\b20\b.*\bminilm-static\b.*\bbag-of-words\b", text)
    assert re.search(r"win/tie/loss.*\bencoder\b", text)
    assert all(f"\n{name} " in text for name in names)
    page = (output / "simulation.html").read_text(encoding="utf-8")
    assert all(f"</span>{name}</td>" in page for name in names)
    assert page.count('class="curve s7"') == 4
    assert "--encoder minilm-static --encoder bag-of-words --batch 40 --batch 30" in page
    shutil.copytree(output, tmp_path / "out")
    sizes = replay_experiment(experiment(file, batch_sizes=(40, 30), seeds=1), tmp_path / "out")
    assert {row.name for row in sizes.rows} == {f"{mix}, batches of {n}" for mix in MIXES for n in (40, 30)}
    one = replay_experiment(experiment(file), done)
    assert {row.name for row in one.rows} == set(MIXES)
    assert not re.search(r"win/tie/loss.*\bencoder\b", simulation_text(one))


def test_the_table_has_columns_of_the_largest_batches_and_a_straight_line_between_two_steps(
    several: tuple[Path, Simulation],
) -> None:
    _, found = several
    begun = min(found.rows[0].at)
    assert {tuple(row.at) for row in found.rows} == {(begun, begun + 40, begun + 80)}
    for row in found.rows:
        curve = {round(point.x): point.y for point in found.curves["AP"][row.name]}
        if row.batch_size == 30:
            between = curve[begun + 30] * 2 / 3 + curve[begun + 60] / 3
            assert row.at[begun + 40] == pytest.approx(between)
        else:
            assert row.at[begun + 40] == curve[begun + 40]


def test_runs_are_found_again_whatever_else_is_asked_for_and_whatever_they_were_called(
    done: Path, file: Path, tmp_path: Path
) -> None:
    """Also those that were kept before there were encoders and batch sizes to choose from."""
    shutil.copytree(done, tmp_path / "out")
    runs = tmp_path / "out" / "runs"
    for path in runs.iterdir():
        steps = pq.read_table(path)
        pq.write_table(steps.add_column(0, "mix", pa.array(["an earlier name"] * steps.num_rows)), path)
    kept = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    wider = experiment(file, batch_sizes=(20, 40), encoders=(BAG_OF_WORDS, MINILM_STATIC))
    found = {run.path.name for run in simulation_runs._runs(wider, runs)}
    assert found > set(kept)
    twice = Experiment(**{**vars(experiment(file)), "mixes": {**MIXES, "the same": MIXES["default"]}})
    rows = replay_experiment(twice, tmp_path / "out").rows
    assert {path.name: path.stat().st_mtime_ns for path in runs.iterdir()} == kept
    by_name = {row.name: row for row in rows}
    assert set(by_name) == {*MIXES, "the same"}
    assert by_name["the same"].area == by_name["default"].area


def test_three_labels_are_compared_by_their_mean_f1_and_an_evaluation_file_is_held_out(tmp_path: Path) -> None:
    words = {"sport": "match goal coach", "money": "market shares bank", "weather": "rain storm heat"}
    lines = [f"{words[name]} number {k},{name}" for k in range(60) for name in words]
    (tmp_path / "x.csv").write_text("\n".join(["text,label", *lines[30:]]), encoding="utf-8")
    (tmp_path / "e.csv").write_text("\n".join(["text,label", *lines[:45]]), encoding="utf-8")
    given = Experiment(
        str(tmp_path / "x.csv"),
        {"random": {"random": 1.0}},
        evaluation=str(tmp_path / "e.csv"),
        seeds=3,
        iterations=1,
        batch_sizes=(30,),
        start=30,
    )
    found = replay_experiment(given, tmp_path / "out", jobs=1)
    assert found.figure == "F1"
    assert not found.warning
    assert set(found.curves) == {"F1", "AUC", "AP"}
    assert found.rows[0].positives is None
    on = material(given, MINILM_STATIC)
    assert (len(on.held_out.labels), len(on.labels)) == (45, 135), "a text of the evaluation is never asked about"
    (tmp_path / "e.csv").write_text("text,label\nfloods,disaster\n", encoding="utf-8")
    with pytest.raises(SourceError, match="'disaster'"):
        material(Experiment(str(tmp_path / "x.csv"), MIXES, evaluation=str(tmp_path / "e.csv"), seeds=2), MINILM_STATIC)


def test_a_replay_of_the_default_plan_never_trains_on_its_evaluation_items(file: Path) -> None:
    on = material(experiment(file), MINILM_STATIC)
    how = Replay(start=40, batch_size=40, iterations=3, seed=3, evaluation_share=0.25, n_evaluation=45)
    steps = list(replay(on, MIXES["default"], how))
    assert [len(step.evaluation) for step in steps] == [20, 30, 40, 45]
    assert [step.n_asked for step in steps] == [40, 80, 120, 160]
    assert [step.n_labels for step in steps] == [20, 50, 80, 115]
    asked = np.concatenate([step.asked for step in steps])
    assert len(set(asked.tolist())) == 160
    assert set(steps[-1].evaluation.tolist()) <= set(asked.tolist())
    others = list(replay(on, MIXES["default"], replace(how, evaluation_share=0.0)))
    assert all(len(step.evaluation) == 0 for step in others)
    assert [step.n_labels for step in others] == [40, 80, 120, 160]
    again = list(replay(on, {"random": 1.0}, how))
    assert steps[-1].evaluation.tolist() == again[-1].evaluation.tolist(), "whatever the strategies ask"
