"""How often the interval of the forecast in `pal status` contains what more labels brought.

python tests/benchmarks/forecast.py DATA_DIR NAME [NAME ...] [--seeds 10] [--evaluation 300]

DATA_DIR has NAME.train.csv and NAME.test.csv (columns text, label). The loop is replayed with the default mix from 100
to 600 labels. At 100 to 500 labels the average precision on some items of the test file is carried forward by 100
labels, and compared with the average precision then on the whole test file. These items are 50 at 100 labels and 25
more for each 100 labels, as by the default plan, or `--evaluation` items, chosen at random three times.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.records import Metric
from tasks.config.settings import default_mix
from tasks.learning.calibration import Calibration
from tasks.learning.metrics import evaluate
from tasks.learning.stopping import LEAST_EACH, LEAST_POSITIVES, forecast
from tasks.simulation.replay import Material, Replay, Step, replay
from tasks.simulation.replays import Experiment, material, weights

BATCH, BATCHES, DRAWS = 100, 5, 3


def average_precision(on: Material, step: Step, chosen: npt.NDArray[np.int64]) -> Metric:
    """On some of the held-out items."""
    names = [str(label) for label in range(on.n_labels)]
    labels, calibration = on.held_out.labels[chosen], Calibration(positive=on.positive)
    metrics = evaluate(step.probabilities[chosen], labels, names, calibration).metrics
    return next(each for each in metrics if each.name == "ap")


def cases(on: Material, steps: Iterable[Step], seed: int, n_evaluation: int) -> Iterator[tuple[Metric, float, float]]:
    """The forecasts of one replay, the present value of each, and what came.

    Args:
        n_evaluation: Items of the present interval; 0 for those of the default plan.
    """
    labels = on.held_out.labels
    before: list[tuple[Metric, int]] = []
    for step in steps:
        came = average_precision(on, step, np.arange(len(labels))).value or 0.0
        for now, n_labels in before:
            if predicted := forecast(now, n_labels, step.n_labels - n_labels):
                yield predicted, now.value or 0.0, came
        n = n_evaluation or 50 + (step.n_labels - BATCH) // 4
        before = []
        for draw in range(DRAWS):
            chosen = np.random.default_rng([seed, draw]).permutation(len(labels))[:n]
            is_enough = (
                n >= LEAST_EACH * on.n_labels
                if on.positive is None
                else np.count_nonzero(labels[chosen] == on.positive) >= LEAST_POSITIVES
            )
            if is_enough:
                before.append((average_precision(on, step, chosen), step.n_labels))


def row(name: str, n_evaluation: int, found: list[tuple[Metric, float, float]]) -> str:
    """A line of the table in docs/experiments.md."""
    low, middle, high = (
        np.array([[each.low, each.value, each.high] for each, _, _ in found], np.float64).reshape(-1, 3).T
    )
    now, came = np.array([[now, came] for _, now, came in found]).reshape(-1, 2).T
    covered, width = np.mean((low <= came) & (came <= high)), np.mean(high - low)
    errors = f"{np.mean(abs(middle - came)):.3f} | {np.mean(abs(now - came)):.3f}"
    return f"| {name} | {n_evaluation or '50 to 150'} | {len(found)} | {covered:.1%} | {width:.2f} | {errors} |"


def main() -> None:
    """Print a row for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluation", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.names:
        files = [str(arguments.folder / f"{name}.{part}.csv") for part in ("train", "test")]
        on = material(Experiment(files[0], {"default": {}}, "text", "label", files[1]), "minilm-static")
        found: list[tuple[Metric, float, float]] = []
        for seed in range(arguments.seeds):
            steps = replay(on, weights(default_mix(on.n_labels)), Replay(BATCH, BATCH, BATCHES, seed))
            found += cases(on, steps, seed, arguments.evaluation)
        print(row(name, arguments.evaluation, found), flush=True)


if __name__ == "__main__":
    main()
