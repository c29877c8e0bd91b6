"""How fair evaluation items are while active learning empties the pool: replays on real headlines, in memory.

    python tests/benchmarks/evaluation_reserve.py HEADLINES [--replays 200] [--iterations 20] [--processes 2]

HEADLINES is a folder with `unlabeled_data/unlabeled_data.csv` (id, text) and `silver_labels.csv` (id, label). Each
replay runs the default plan on 6,000 of them, chosen at random. After some iterations the prevalence, and metrics of
the model of that time, are estimated in two ways: from the evaluation reserve (the lowest ranks, never queried), and
from as many items of a random draw that is topped up with each batch from what is then left of the pool, as before
there was a reserve. The truth is the prevalence in those 6,000, and the metrics on 12,000 headlines outside of them.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.config.settings import SamplingConfig
from tasks.learning.calibration import Calibration
from tasks.learning.encoders import Encoder, minilm_static
from tasks.learning.metrics import evaluate, label_figures
from tasks.learning.stopping import wilson_interval
from tasks.learning.tokens import Examples
from tasks.simulation.replay import Material, Replay, Step, replay

N_POOL, N_HELD_OUT = 6_000, 12_000
NAMES = ("not_related", "related")
SHOWN = ("prevalence", "precision", "recall", "f1", "auc", "ap")
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """All headlines as tokens of one encoder, made once, and their labels (n,)."""

    encoder: Encoder
    all: Examples


@dataclass(frozen=True)
class Estimate:
    """An estimate from n items, and the truth; low and high bound its 95 % interval."""

    way: str
    iteration: int
    n: int
    name: str
    value: float
    low: float
    high: float
    truth: float


def read(folder: Path) -> Texts:
    """The headlines that have a label."""
    with (folder / "silver_labels.csv").open(encoding="utf-8", newline="") as file:
        label_of = {row["id"]: int(row["label"]) for row in csv.DictReader(file)}
    with (folder / "unlabeled_data" / "unlabeled_data.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row[1], label_of[row[0]]) for row in csv.reader(file) if row[0] in label_of]
    encoder = minilm_static()
    texts, labels = zip(*rows, strict=True)
    return Texts(encoder, Examples(encoder.tokenize(pa.array(texts, pa.string())), np.array(labels, np.int64)))


def estimates(texts: Texts, shown: tuple[int, ...], seed: int) -> list[Estimate]:
    """What one replay estimates after each of the iterations in `shown`."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(texts.all.labels))
    pool, others = order[:N_POOL], order[N_POOL : N_POOL + N_HELD_OUT]
    labels = texts.all.labels[pool]
    # Held out are the pool itself and others: the model is applied to both at once.
    held_out = np.concatenate([pool, others])
    material = Material(
        texts.encoder,
        len(NAMES),
        texts.all.tokens.take(pool),
        labels,
        Examples(texts.all.tokens.take(held_out), texts.all.labels[held_out]),
        positive=1,
    )
    how = Replay(start=100, batch_size=100, iterations=max(shown), seed=seed, evaluation_share=0.25)
    is_left, topped_up = np.ones(N_POOL, bool), np.zeros(0, np.int64)
    found: list[Estimate] = []
    n_before = 0
    for iteration, step in enumerate(replay(material, SamplingConfig().active, how)):
        # The draw comes before the batch of this step is taken out, as a batch for evaluation alone would.
        n_new, n_before = len(step.evaluation) - n_before, len(step.evaluation)
        free = is_left.copy()
        free[topped_up] = False
        topped_up = np.concatenate([topped_up, generator.choice(np.flatnonzero(free), n_new, replace=False)])
        is_left[np.setdiff1d(step.asked, step.evaluation)] = False
        if iteration in shown:
            truth = truths(step, texts.all.labels[others], labels)
            for way, items in (("reserve", step.evaluation), ("top-up", topped_up)):
                found += list(compared(way, iteration, step, items, labels, truth))
    return found


def truths(step: Step, others: Numbers, labels: Numbers) -> dict[str, float]:
    """The prevalence in the pool, and the metrics of a step's model on headlines of no replay."""
    figures = label_figures(step.probabilities[N_POOL:, 1].astype(float), others == 1, step.decisions[N_POOL:] == 1)
    ones = np.ones((1, len(others)))
    return {"prevalence": float(labels.mean()), **{name: float(each(ones)[0]) for name, each in figures.items()}}


def compared(
    way: str, iteration: int, step: Step, items: Numbers, labels: Numbers, truth: dict[str, float]
) -> Iterator[Estimate]:
    """The estimates from some items of the pool beside the truth; none of an undefined metric."""
    n, n_positive = len(items), int(labels[items].sum())
    at = partial(Estimate, way, iteration, n)
    yield at("prevalence", n_positive / n, *wilson_interval(n_positive, n), truth["prevalence"])
    decided = Calibration(positive=1)
    rows = step.probabilities[items]
    # The replay's decisions are by the model's own threshold: shift the scores so that 0.5 is it.
    shifted = np.where(step.decisions[items] == 1, 0.5 + rows[:, 1] / 2, rows[:, 1] / 2)
    pairs = np.stack([1 - shifted, shifted], axis=1).astype(np.float32)
    for metric in evaluate(pairs, labels[items], NAMES, decided, seed=iteration).metrics:
        if metric.name in truth and metric.value is not None and metric.low is not None and metric.high is not None:
            yield at(metric.name, metric.value, metric.low, metric.high, truth[metric.name])


def table(found: list[Estimate], n_replays: int) -> Iterator[str]:
    """Bias with its standard error, and coverage of the interval, by estimate and iteration."""
    yield "| estimate | after | items | reserve: bias (s.e.) | coverage | top-up: bias (s.e.) | coverage |"
    yield "|---|---|---|---|---|---|---|"
    for name in SHOWN:
        for iteration in sorted({each.iteration for each in found}):
            cells, n = [], 0
            for way in ("reserve", "top-up"):
                own = [each for each in found if (each.name, each.iteration, each.way) == (name, iteration, way)]
                errors = np.array([each.value - each.truth for each in own])
                held = np.mean([each.low <= each.truth <= each.high for each in own])
                undefined = f", {n_replays - len(own)} undefined" if len(own) < n_replays else ""
                error = errors.std(ddof=1) / np.sqrt(len(errors))
                cells += [f"{errors.mean():+.4f} ({error:.4f}){undefined}", f"{held:.1%}"]
                n = round(np.mean([each.n for each in own]))
            yield f"| {name} | {iteration} | {n} | {' | '.join(cells)} |"


def main() -> None:
    """Run the replays and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("headlines", type=Path)
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    shown = tuple(sorted({0, min(5, chosen.iterations), chosen.iterations // 2, chosen.iterations}))
    started = time.monotonic()
    run = partial(estimates, read(chosen.headlines), shown)
    with multiprocessing.get_context("fork").Pool(chosen.processes) as pool:
        found = []
        for n_done, part in enumerate(pool.imap_unordered(run, range(chosen.replays)), start=1):
            found += part
            print(f"{n_done} replays, {time.monotonic() - started:,.0f} s", file=sys.stderr, flush=True)
    print("\n".join(table(found, chosen.replays)))
    print(f"\n{chosen.replays} replays of {chosen.iterations} iterations in {time.monotonic() - started:,.0f} s")


if __name__ == "__main__":
    main()
