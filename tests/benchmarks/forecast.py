"""Whether the forecast of `pal status` holds: the share of replays in which its interval has what more labels brought.

python tests/benchmarks/forecast.py DATA_DIR NAME [NAME ...] [--seeds 10] [--evaluation 300]

DATA_DIR has NAME.train.csv and NAME.test.csv (columns text, label). The loop is replayed with the default mix from 100
to 600 labels. At 100 to 500 labels the average precision, with its interval on some items of the test file, is carried
forward by 100 labels, and compared with the average precision then on the whole test file. These items are 50 at 100
labels and 25 more for each 100 labels, as by the default plan, or `--evaluation` items. Where these are too few, or too
few of them positive, there is no forecast, and the case is not counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.records import Metric
from tasks.config.settings import default_mix
from tasks.learning.forecast import LEAST_EACH, LEAST_POSITIVES, forecast
from tasks.learning.metrics import INTERVAL, label_figures, mean_of_defined, resamples
from tasks.simulation.replay import Material, Replay, Step, replay
from tasks.simulation.replays import Experiment, material, weights

BATCH, BATCHES = 100, 5


@dataclass(frozen=True)
class Case:
    """A forecast, what came of it, and the average precision and interval that it was made from."""

    predicted: Metric
    came: float
    now: Metric

    @property
    def holds(self) -> bool:
        """Whether the interval has what came."""
        return (self.predicted.low or 0) <= self.came <= (self.predicted.high or 0)


def average_precision(on: Material, step: Step, chosen: npt.NDArray[np.int64], n_resamples: int) -> Metric | None:
    """Of some held-out items, with its interval where there are resamples; None where it is undefined."""
    truth, probabilities = on.held_out.labels[chosen], step.probabilities[chosen].astype(np.float64)
    if on.positive is not None and np.count_nonzero(truth == on.positive) < (LEAST_POSITIVES if n_resamples else 1):
        return None
    if n_resamples and len(chosen) < LEAST_EACH * on.n_labels:
        return None
    counted = [on.positive] if on.positive is not None else np.unique(truth).tolist()
    sampled = resamples(len(chosen), n_resamples, np.random.default_rng(0))
    values = [
        label_figures(probabilities[:, k], truth == k, step.decisions[chosen] == k)["ap"](sampled) for k in counted
    ]
    mean = mean_of_defined(values, len(sampled))
    low, high = np.nanpercentile(mean[1:], INTERVAL) if n_resamples else (None, None)
    return Metric("ap", float(mean[0]), low, high)


def cases(on: Material, seed: int, n_evaluation: int) -> Iterator[Case]:
    """The forecasts of one replay.

    Args:
        n_evaluation: Items of the present interval; 0 for those of the default plan.
    """
    everything = np.arange(len(on.held_out.labels))
    order = np.random.default_rng(seed).permutation(everything)
    before: tuple[int, Metric] | None = None
    for step in replay(on, weights(default_mix(on.n_labels)), Replay(BATCH, BATCH, BATCHES, seed)):
        came = average_precision(on, step, everything, 0)
        if before and came and came.value is not None:
            predicted = forecast(before[1], before[0], step.n_labels - before[0])
            if predicted:
                yield Case(predicted, came.value, before[1])
        n_now = n_evaluation or 50 + (step.n_labels - 100) // 4
        now = average_precision(on, step, order[:n_now], 300)
        before = (step.n_labels, now) if now else None


def main() -> None:
    """Print a row for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluation", type=int, default=0)
    arguments = parser.parse_args()
    n_evaluation = arguments.evaluation or "50 to 150"
    for name in arguments.names:
        files = [str(arguments.folder / f"{name}.{part}.csv") for part in ("train", "test")]
        on = material(Experiment(files[0], {"default": {}}, "text", "label", files[1]), "minilm-static")
        found = [each for seed in range(arguments.seeds) for each in cases(on, seed, arguments.evaluation)]
        if not found:
            print(f"| {name} | {n_evaluation} | 0 | too few evaluation items |")
            continue
        covered = np.mean([each.holds for each in found])
        width = np.mean([(each.predicted.high or 0) - (each.predicted.low or 0) for each in found])
        error = np.mean([abs((each.predicted.value or 0) - each.came) for each in found])
        unchanged = np.mean([abs((each.now.value or 0) - each.came) for each in found])
        print(
            f"| {name} | {n_evaluation} | {len(found)} | {covered:.1%} | {width:.2f} | {error:.3f} | {unchanged:.3f} |"
        )


if __name__ == "__main__":
    main()
