"""Stage `replay_experiment`: run all replays of a simulation, summarize them and write the page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import t

from storage.errors import PalError
from storage.files.folders import write_whole
from tasks.reporting.charts import Point
from tasks.reporting.simulation_page import Simulation, SimulationRow, as_png, simulation_page, simulation_svg
from tasks.simulation.replay import Replay
from tasks.simulation.replays import Experiment, run_all

Floats = npt.NDArray[np.float64]

TIE = 0.005
"""Areas under two curves that differ by at most this are a tie."""


@dataclass(frozen=True)
class Curve:
    """A metric of one mix by the number of queried items, for several seeds.

    Attributes:
        mix: Name of the mix.
        n_asked: Number of queried items, (n_steps,), ascending.
        values: The metric, (n_seeds, n_steps), seeds in the same order for every mix; nan where undefined.
        encoder: Name of the encoder.
        batch_size: Items per batch.
    """

    mix: str
    n_asked: npt.NDArray[np.int64]
    values: Floats
    encoder: str = ""
    batch_size: int = 0

    @property
    def setting(self) -> tuple[str, int]:
        """Encoder and batch size; only curves of the same setting are compared."""
        return self.encoder, self.batch_size

    @property
    def means(self) -> Floats:
        """Mean over the seeds, (n_steps,)."""
        return np.asarray(np.nanmean(self.values, axis=0))

    def at(self, steps: npt.NDArray[np.int64]) -> Floats:
        """Return the mean at the given numbers of queried items (m,), interpolated linearly, (m,)."""
        return np.asarray(np.interp(steps, self.n_asked, self.means))

    def intervals(self) -> tuple[Floats, Floats]:
        """Return the bounds of the 95% interval of the mean by Student's t, (n_steps,) each; with one seed the mean."""
        n = len(self.values)
        if n < 2:
            return self.means, self.means
        half = t.ppf(0.975, n - 1) * np.nanstd(self.values, axis=0, ddof=1) / np.sqrt(n)
        return self.means - half, self.means + half

    def areas(self) -> Floats:
        """Return the area under the curve of each seed, divided by the range of `n_asked`, (n_seeds,)."""
        if len(self.n_asked) < 2:
            return np.asarray(self.values[:, 0])
        widths = np.diff(self.n_asked)
        middles = (self.values[:, 1:] + self.values[:, :-1]) / 2
        return np.asarray(middles @ widths / widths.sum())


@dataclass(frozen=True)
class Summary:
    """The summary of one curve.

    Attributes:
        curve: The curve.
        area: Mean area under the curve.
        low: Lower bound of the 95% interval of the area.
        high: Upper bound of the 95% interval of the area.
        to_target: Number of queried items at which the mean curve reaches the target; None if it does not.
        wins: Number of seeds with a larger area than random with the same encoder and batch size; 0 without such a
            baseline, as are `ties` and `losses`.
        ties: Number of seeds with an area that differs by at most `TIE`.
        losses: Number of seeds with a smaller area.
        gain: Mean over the seeds of the area minus that of random, and its 95% interval; None without such a baseline.
    """

    curve: Curve
    area: float
    low: float
    high: float
    to_target: int | None
    wins: int
    ties: int
    losses: int
    gain: tuple[float, float, float] | None


def summarise(curves: Sequence[Curve], target: float, baseline: str = "random") -> list[Summary]:
    """Summarize each curve; the largest area comes first.

    Args:
        curves: Curves of the same metric.
        target: The value of the metric to reach.
        baseline: Name of the mix that the others are compared with.
    """
    baseline_areas = {curve.setting: curve.areas() for curve in curves if curve.mix == baseline}
    summaries = []
    for curve in curves:
        areas = curve.areas()
        area, low, high = _mean(areas)
        reached = np.flatnonzero(curve.means >= target)
        base = baseline_areas.get(curve.setting)
        gains = areas - base if base is not None and curve.mix != baseline else np.full(len(areas), np.nan)
        summaries.append(
            Summary(
                curve,
                area,
                low,
                high,
                int(curve.n_asked[reached[0]]) if len(reached) else None,
                int(np.sum(gains > TIE)),
                int(np.sum(np.abs(gains) <= TIE)),
                int(np.sum(gains < -TIE)),
                _mean(gains) if not np.isnan(gains).all() else None,
            )
        )
    return sorted(summaries, key=lambda summary: -summary.area)


def _mean(values: Floats) -> tuple[float, float, float]:
    """Return the mean of one value per seed (n_seeds,), and its 95% interval."""
    curve = Curve("", np.zeros(1, np.int64), values[:, None])
    low, high = curve.intervals()
    return float(curve.means[0]), float(low[0]), float(high[0])


Line = tuple[str, str, int]
"""What one curve and one row of the page show: mix, encoder, batch size."""

NAMES = {"f1": "F1", "auc": "AUC", "ap": "AP", "n_positive": "positives found"}
N_COLUMNS = 4

FEW_SEEDS = 2
"""So many seeds or fewer leave intervals that are too wide to compare mixes by."""


def replay_experiment(
    experiment: Experiment, output: Path, target: float | None = None, jobs: int | None = None
) -> Simulation:
    """Run all replays, save their results in `output` and return a summary; run again after a crash, it resumes.

    Writes results.parquet, simulation.html and, if PNG is available, simulation.png.

    Args:
        experiment: What to replay.
        output: The folder of the results.
        target: The value to reach of the metric that mixes are compared by (AP of the positive label, else F1).
            None: the final value of random sampling with the first encoder and the first batch size.
        jobs: Number of processes; None for one per core.
    """
    command = _command(experiment, target)
    table, data = run_all(experiment, output, jobs)
    main_metric = "ap" if data.positive is not None else "f1"
    metrics = ["f1", "auc", "ap", *(["n_positive"] if data.positive is not None else [])]
    lines = list(product(experiment.mixes, experiment.encoders, experiment.batch_sizes))
    curves = {name: {line: _curve(table, line, name) for line in lines} for name in metrics}
    main_curves = curves[main_metric]
    if target is None:
        baseline = next((main_curves[line] for line in lines if line[0] == "random"), main_curves[lines[0]])
        target = round(float(baseline.means[-1]), 3)
    summaries = summarise(list(main_curves.values()), target)
    names = {line: _name(experiment, line) for line in (_line(summary.curve) for summary in summaries)}
    steps = _column_steps(list(main_curves.values()))
    simulation = Simulation(
        about=_description(experiment, len(data.labels), len(data.held_out.labels), data.n_labels),
        figure=NAMES[main_metric],
        target=target,
        rows=[_row(summary, names, curves.get("n_positive"), steps) for summary in summaries],
        curves={
            NAMES[metric]: {
                name: _points(curves[metric][line], fraction=metric != "n_positive") for line, name in names.items()
            }
            for metric in metrics
        },
        command=command,
        warning=_warning(experiment.seeds),
    )
    write_whole(output / "simulation.html", simulation_page(simulation).encode())
    return replace(simulation, no_picture=_write_picture(simulation, output / "simulation.png"))


def _write_picture(simulation: Simulation, path: Path) -> str:
    """Write the picture and return ""; if that fails, remove an older picture and return the reason with a hint."""
    try:
        write_whole(path, as_png(simulation_svg(simulation)))
    except PalError as error:
        path.unlink(missing_ok=True)
        return str(error)
    return ""


def _curve(table: pa.Table, line: Line, metric: str) -> Curve:
    """Return the curve of a metric for one line, seeds in order, cut to the steps that every seed has."""
    mix, encoder, batch_size = line
    is_replay = pc.and_(pc.equal(table["mix"], mix), pc.equal(table["encoder"], encoder))
    rows = table.filter(pc.and_(is_replay, pc.equal(table["batch_size"], batch_size)))
    rows = rows.sort_by([("seed", "ascending"), ("iteration", "ascending")])
    seeds = sorted(set(rows["seed"].to_pylist()))
    values, counts = [], []
    for seed in seeds:
        steps = rows.filter(pc.equal(rows["seed"], seed))
        values.append(_floats(steps[metric]))
        counts.append(_floats(steps["n_asked"]))
    n = min(map(len, values))
    n_asked = np.mean([seed_counts[:n] for seed_counts in counts], axis=0).round().astype(np.int64)
    return Curve(mix, n_asked, np.array([seed_values[:n] for seed_values in values]), encoder, batch_size)


def _line(curve: Curve) -> Line:
    return curve.mix, curve.encoder, curve.batch_size


def _name(experiment: Experiment, line: Line) -> str:
    """Return the name of a line: its mix, with its encoder and batch size if there are several."""
    mix, encoder, batch_size = line
    parts = [mix]
    parts += [Path(encoder).name] if len(experiment.encoders) > 1 else []
    parts += [f"batches of {batch_size:,}"] if len(experiment.batch_sizes) > 1 else []
    return ", ".join(parts)


def _column_steps(curves: list[Curve]) -> npt.NDArray[np.int64]:
    """Return the numbers of queried items that are columns of the table: steps of the largest batch size."""
    largest = max(curves, key=lambda curve: curve.batch_size).n_asked
    within = largest[largest <= min(curve.n_asked[-1] for curve in curves)]
    return np.asarray(within[np.unique(np.linspace(0, len(within) - 1, N_COLUMNS).round().astype(int))])


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in column.to_pylist()], np.float64)


def _points(curve: Curve, *, fraction: bool) -> list[Point]:
    """Return the points of a curve, with intervals cut to the range of the metric: at least 0, a fraction at most 1."""
    low, high = curve.intervals()
    rows = zip(curve.n_asked.tolist(), curve.means.tolist(), low.tolist(), high.tolist(), strict=True)
    maximum = 1.0 if fraction else math.inf
    return [Point(x, y, max(0.0, below), min(maximum, above)) for x, y, below, above in rows if not math.isnan(y)]


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
        Point(summary.gain[0], 0.0, *summary.gain[1:], note=f"{summary.gain[0]:+.3f}") if summary.gain else None,
    )


def _description(experiment: Experiment, n: int, n_held_out: int, n_labels: int) -> str:
    oracle = experiment.oracle
    annotators = [f"noise {oracle.noise:.0%}"] if oracle.noise else []
    annotators += [f"no answer {oracle.abstention:.0%}"] if oracle.abstention else []
    annotators += [f"{oracle.annotators} per item"] if oracle.annotators > 1 else []
    batches = [_describe_batches(experiment.replay_of(batch_size, 0)) for batch_size in experiment.batch_sizes]
    return (
        f"{n:,} items with {n_labels} labels, {n_held_out:,} held out; {experiment.start} random items to start with,"
        f" then {' or '.join(batches)}; {experiment.seeds} seeds;"
        f" {' and '.join(Path(name).name for name in experiment.encoders)}"
        + (f"; annotators: {', '.join(annotators)}" if annotators else "")
    )


def _describe_batches(settings: Replay) -> str:
    """Describe the number and size of the batches.

    >>> _describe_batches(Replay(batch_size=30, iterations=4, total=100))
    '4 batches of 30 (the last of 10)'
    """
    last = settings.size(settings.iterations - 1)
    suffix = "" if last == settings.batch_size else f" (the last of {last})"
    return f"{settings.iterations} batches of {settings.batch_size}{suffix}"


def _warning(seeds: int) -> str:
    """Return why a page of so few seeds decides nothing; empty for more than `FEW_SEEDS`."""
    if seeds > FEW_SEEDS:
        return ""
    count = "1 seed" if seeds == 1 else f"{seeds} seeds"
    return f"Only {count}: differences between the mixes may be due to chance. Use --seeds 5 or more."


def _command(experiment: Experiment, target: float | None) -> str:
    """Return the command that replays the same experiment.

    >>> from tasks.simulation.replay import Oracle
    >>> _command(Experiment("my texts.csv", {"random": {}}, seeds=2, oracle=Oracle(noise=0.1)), None)
    "pal simulate 'my texts.csv' --mix random --seeds 2 --noise 0.1"
    """
    usual, oracle = Experiment("", {}), experiment.oracle
    single: dict[str, tuple[object, object]] = {
        "--seeds": (experiment.seeds, usual.seeds),
        "--iterations": (experiment.iterations, usual.iterations),
        "--start": (experiment.start, usual.start),
        "--text-column": (experiment.text_column, None),
        "--label-column": (experiment.label_column, None),
        "--positive": (experiment.positive, None),
        "--evaluation": (experiment.evaluation and Path(experiment.evaluation).name, None),
        "--noise": (oracle.noise, usual.oracle.noise),
        "--abstention": (oracle.abstention, usual.oracle.abstention),
        "--annotators": (oracle.annotators, usual.oracle.annotators),
        "--target": (target, None),
    }
    parts = ["pal", "simulate", Path(experiment.file).name]
    parts += [part for mix in experiment.mixes for part in ("--mix", mix)]
    if experiment.encoders != usual.encoders:
        parts += [part for name in experiment.encoders for part in ("--encoder", name)]
    if experiment.batch_sizes != usual.batch_sizes:
        parts += [part for size in experiment.batch_sizes for part in ("--batch", str(size))]
    parts += [part for name, (value, default) in single.items() if value != default for part in (name, str(value))]
    return shlex.join(parts)
