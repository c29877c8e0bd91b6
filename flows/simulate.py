"""Flow `simulate`: replay the loop on a labeled file, and compare mixes of strategies with random."""

from __future__ import annotations

from pathlib import Path

from flows.cli.simulation_options import EXPERT, SHIPPED_SETTINGS, USUAL, LabelledFile, Replays, experiment_of
from flows.run import Run, Table
from tasks.reporting.simulation_page import Simulation
from tasks.simulation.experiment import replay_experiment
from tasks.simulation.replay import Oracle


def simulate(
    run: Run,
    data: LabelledFile,
    mixes: tuple[str, ...] = USUAL,
    replays: Replays = SHIPPED_SETTINGS,
    oracle: Oracle = EXPERT,
    output: str = "",
) -> Simulation:
    """Replay the loop and write a page into reports/; run again after a crash, it resumes.

    Args:
        data: A file of texts with labels, and its columns.
        mixes: Each a strategy, `default`, or several strategies with weights: random=10,entropy=90.
        replays: Number of replays, batch sizes and encoders.
        oracle: The simulated annotators.
        output: Directory of the results, relative to the workspace; empty for reports/simulation-FILE.
    """
    root = run.project.workspace.root
    experiment = experiment_of(data.within(root), mixes, replays, oracle)
    folder = root / (output or f"reports/simulation-{Path(data.file).stem}")
    run.rename(f"simulate {Path(data.file).name}")
    simulation = run.stage(replay_experiment, experiment, folder, replays.target or None, replays.jobs or None)
    rows = [
        {"mix": row.name, **{f"@{n}": round(value, 3) for n, value in row.at.items()}, "area": round(row.area, 3)}
        for row in simulation.rows
    ]
    run.show(lambda: [Table("simulation", f"{simulation.figure}: {simulation.about}", rows)])
    run.say(f"Wrote {folder / 'simulation.html'}")
    return simulation
