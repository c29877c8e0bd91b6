"""Stage `replay_experiment`: a simulation's table of steps, summarized and written as a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import PalError
from storage.files.folders import write_whole
from tasks.reporting.charts import Point
from tasks.reporting.simulation_page import Simulation, SimulationRow, as_png, simulation_page, simulation_svg
from tasks.simulation.replay import Replay
from tasks.simulation.replays import Experiment, material, run_all
from tasks.simulation.results import Curve, Summary, summarise

Line = tuple[str, str, int]
"""What one curve and one row are of: a mix, an encoder, a batch size."""

NAMES = {"f1": "F1", "auc": "AUC", "ap": "AP", "n_positive": "positives found"}
SHOWN = 4


def replay_experiment(
    experiment: Experiment, output: Path, target: float | None = None, jobs: int | None = None
) -> Simulation:
    """Replay everything, keep it in `output`, and say what was found; run again it goes on where it was.

    Beside results.parquet lie simulation.html and, where it can be drawn, simulation.png.

    Args:
        target: Of the figure that lines are compared by (AP of the positive label, else F1); where None, what random
            reaches in the end, with the encoder and the batch size that were named first.
        jobs: Processes; one for each core where None.
    """
    table, on = run_all(experiment, output, jobs), material(experiment, experiment.encoders[0])
    by = "ap" if on.positive is not None else "f1"
    wanted = ["f1", "auc", "ap", *(["n_positive"] if on.positive is not None else [])]
    lines = list(product(experiment.mixes, experiment.encoders, experiment.batch_sizes))
    curves = {name: {line: _curve(table, line, name) for line in lines} for name in wanted}
    reference = next((curves[by][line] for line in lines if line[0] == "random"), curves[by][lines[0]])
    aim = target if target is not None else round(float(reference.means[-1]), 3)
    summaries = summarise(list(curves[by].values()), aim)
    order = {line: _name(experiment, line) for line in (_line(summary.curve) for summary in summaries)}
    steps = _shown(list(curves[by].values()))
    found = Simulation(
        about=_about(experiment, len(on.labels), len(on.held_out.labels), on.n_labels),
        figure=NAMES[by],
        target=aim,
        rows=[_row(summary, order, curves.get("n_positive"), steps) for summary in summaries],
        curves={
            NAMES[name]: {told: _points(curves[name][line], share=name != "n_positive") for line, told in order.items()}
            for name in wanted
        },
        command=_command(experiment),
    )
    write_whole(output / "simulation.html", simulation_page(found).encode())
    return replace(found, no_picture=_picture(found, output / "simulation.png"))


def _picture(found: Simulation, place: Path) -> str:
    """Write it, or say why there is none and what to type; one of an earlier simulation does not stay."""
    try:
        write_whole(place, as_png(simulation_svg(found)))
    except PalError as error:
        place.unlink(missing_ok=True)
        return str(error)
    return ""


def _curve(table: pa.Table, line: Line, name: str) -> Curve:
    """A figure of one line, the seeds in order; cut to the steps that every seed has."""
    mix, encoder, batch_size = line
    its = pc.and_(pc.equal(table["mix"], mix), pc.equal(table["encoder"], encoder))
    rows = table.filter(pc.and_(its, pc.equal(table["batch_size"], batch_size)))
    rows = rows.sort_by([("seed", "ascending"), ("iteration", "ascending")])
    seeds = sorted(set(rows["seed"].to_pylist()))
    values, asked = [], []
    for seed in seeds:
        own = rows.filter(pc.equal(rows["seed"], seed))
        values.append(_floats(own[name]))
        asked.append(_floats(own["n_asked"]))
    n = min(map(len, values))
    n_asked = np.mean([each[:n] for each in asked], axis=0).round().astype(np.int64)
    return Curve(mix, n_asked, np.array([each[:n] for each in values]), encoder, batch_size)


def _line(curve: Curve) -> Line:
    return curve.mix, curve.encoder, curve.batch_size


def _name(experiment: Experiment, line: Line) -> str:
    """A line by its mix; by its encoder and batch size too where there are several."""
    mix, encoder, batch_size = line
    parts = [mix]
    parts += [Path(encoder).name] if len(experiment.encoders) > 1 else []
    parts += [f"batches of {batch_size:,}"] if len(experiment.batch_sizes) > 1 else []
    return ", ".join(parts)


def _shown(curves: list[Curve]) -> npt.NDArray[np.int64]:
    """The numbers of items asked about that the table has columns for: steps of the largest batches."""
    largest = max(curves, key=lambda curve: curve.batch_size).n_asked
    within = largest[largest <= min(curve.n_asked[-1] for curve in curves)]
    return np.asarray(within[np.unique(np.linspace(0, len(within) - 1, SHOWN).round().astype(int))])


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in column.to_pylist()], np.float64)


def _points(curve: Curve, *, share: bool) -> list[Point]:
    """A curve to be drawn, its intervals cut to the values that the figure can have: from 0, of a share to 1."""
    low, high = curve.intervals()
    rows = zip(curve.n_asked.tolist(), curve.means.tolist(), low.tolist(), high.tolist(), strict=True)
    most = 1.0 if share else math.inf
    return [Point(x, y, max(0.0, below), min(most, above)) for x, y, below, above in rows if not math.isnan(y)]


def _row(
    summary: Summary,
    names: Mapping[Line, str],
    positives: Mapping[Line, Curve] | None,
    steps: npt.NDArray[np.int64],
) -> SimulationRow:
    curve, line = summary.curve, _line(summary.curve)
    compared = summary.wins + summary.ties + summary.losses
    return SimulationRow(
        names[line],
        *line,
        dict(zip(steps.tolist(), curve.at(steps).tolist(), strict=True)),
        float(positives[line].means[-1]) if positives is not None else None,
        summary.area,
        summary.low,
        summary.high,
        summary.to_target,
        f"{summary.wins}/{summary.ties}/{summary.losses}" if compared else "",
    )


def _about(experiment: Experiment, n: int, n_held_out: int, n_labels: int) -> str:
    oracle = experiment.oracle
    answers = [f"noise {oracle.noise:.0%}"] if oracle.noise else []
    answers += [f"no answer {oracle.abstention:.0%}"] if oracle.abstention else []
    answers += [f"{oracle.annotators} annotators"] if oracle.annotators > 1 else []
    batches = [_batches(experiment.replay_of(batch_size, 0)) for batch_size in experiment.batch_sizes]
    return (
        f"{n:,} items with {n_labels} labels to ask about, {n_held_out:,} held out; {experiment.start} random ones to"
        f" begin with, then {' or '.join(batches)}; {experiment.seeds} seeds;"
        f" {' and '.join(Path(name).name for name in experiment.encoders)}"
        + (f"; annotators with {', '.join(answers)}" if answers else "")
    )


def _batches(how: Replay) -> str:
    """How many batches of which size.

    >>> _batches(Replay(batch_size=30, iterations=4, total=100))
    '4 batches of 30 (the last of 10)'
    """
    last = how.size(how.iterations - 1)
    return f"{how.iterations} batches of {how.batch_size}" + (
        "" if last == how.batch_size else f" (the last of {last})"
    )


def _command(experiment: Experiment) -> str:
    parts = [f"pal simulate {Path(experiment.file).name} --seeds {experiment.seeds}"]
    parts += [f"--encoder {name}" for name in experiment.encoders if len(experiment.encoders) > 1]
    parts += [f"--batch {size}" for size in experiment.batch_sizes if len(experiment.batch_sizes) > 1]
    return " ".join(parts)
