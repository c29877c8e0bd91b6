"""What a simulation found, from its table of steps: summarised, and written as a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotation.charts import Point
from annotation.simulation_page import Simulation, SimulationRow, simulation_page
from storage.folders import write_whole
from tasks.learning.simulation_summary import Curve, Summary, summarise
from tasks.simulation_runs import Experiment, material, run_all

NAMES = {"f1": "F1", "auc": "AUC", "ap": "AP", "n_positive": "positives found"}
SHOWN = 4


def simulate(experiment: Experiment, output: Path, target: float | None = None, jobs: int | None = None) -> Simulation:
    """Replay everything, keep it in `output`, and say what was found; run again it goes on where it was.

    Args:
        target: Of the figure that mixes are compared by (AP of the positive label, else F1); what random reaches in
            the end where None.
        jobs: Processes; one for each core where None.
    """
    table, on = run_all(experiment, output, jobs), material(experiment)
    by = "ap" if on.positive is not None else "f1"
    wanted = ["f1", "auc", "ap", *(["n_positive"] if on.positive is not None else [])]
    curves = {name: [_curve(table, mix, name) for mix in experiment.mixes] for name in wanted}
    reference = next((curve for curve in curves[by] if curve.mix == "random"), curves[by][0])
    aim = target if target is not None else round(float(reference.means[-1]), 3)
    summaries = summarise(curves[by], aim)
    order = [summary.mix for summary in summaries]
    found = Simulation(
        about=_about(experiment, len(on.labels), len(on.held_out.labels), on.n_labels),
        figure=NAMES[by],
        target=aim,
        rows=[_row(summary, curves, by) for summary in summaries],
        curves={NAMES[name]: {mix: _points(_of(curves[name], mix)) for mix in order} for name in wanted},
        command=f"pal simulate {Path(experiment.file).name} --seeds {experiment.seeds}",
    )
    write_whole(output / "simulation.html", simulation_page(found).encode())
    return found


def _curve(table: pa.Table, mix: str, name: str) -> Curve:
    """A figure of one mix, the seeds in order; cut to the steps that every seed has."""
    rows = table.filter(pc.equal(table["mix"], mix)).sort_by([("seed", "ascending"), ("iteration", "ascending")])
    seeds = sorted(set(rows["seed"].to_pylist()))
    values, asked = [], []
    for seed in seeds:
        own = rows.filter(pc.equal(rows["seed"], seed))
        values.append(_floats(own[name]))
        asked.append(_floats(own["n_asked"]))
    n = min(map(len, values))
    n_asked = np.mean([each[:n] for each in asked], axis=0).round().astype(np.int64)
    return Curve(mix, n_asked, np.array([each[:n] for each in values]))


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in column.to_pylist()], np.float64)


def _of(curves: list[Curve], mix: str) -> Curve:
    return next(curve for curve in curves if curve.mix == mix)


def _points(curve: Curve) -> list[Point]:
    low, high = curve.intervals()
    rows = zip(curve.n_asked.tolist(), curve.means.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Point(x, y, max(0.0, below), above) for x, y, below, above in rows if not np.isnan(y)]


def _row(summary: Summary, curves: dict[str, list[Curve]], by: str) -> SimulationRow:
    curve = _of(curves[by], summary.mix)
    steps = np.unique(np.linspace(0, len(curve.n_asked) - 1, SHOWN).round().astype(int))
    compared = summary.wins + summary.ties + summary.losses
    return SimulationRow(
        summary.mix,
        {int(curve.n_asked[k]): float(curve.means[k]) for k in steps},
        float(_of(curves["n_positive"], summary.mix).means[-1]) if "n_positive" in curves else None,
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
    return (
        f"{n:,} items with {n_labels} labels to ask about, {n_held_out:,} held out; {experiment.start} random ones to"
        f" begin with, then {experiment.iterations} batches of {experiment.batch_size}; {experiment.seeds} seeds;"
        f" {experiment.encoder}" + (f"; annotators with {', '.join(answers)}" if answers else "")
    )
