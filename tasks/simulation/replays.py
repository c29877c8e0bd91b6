"""Run many replays of the loop on all cores, and save each as soon as it is done."""

from __future__ import annotations

import hashlib
import io
import json
import math
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version as installed_version
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from storage.errors import SourceError
from storage.files.folders import write_whole
from storage.readers.opening import read_labelled
from storage.readers.spellings import folded_label
from tasks.config.settings import default_mix
from tasks.config.values import weights
from tasks.learning.encoders import ARTEFACT, BAG_OF_WORDS, MINILM_STATIC, Encoder, StaticVectors, fit_bag_of_words
from tasks.learning.metrics import label_figures
from tasks.learning.stored_model import read_column
from tasks.learning.tokens import Examples
from tasks.reporting.progress import progress
from tasks.simulation.replay import Material, Oracle, Replay, Step, replay

HELD_OUT_SHARE, MAX_HELD_OUT = 0.25, 2_000
METRICS = ("f1", "auc", "ap", "accuracy")


@dataclass(frozen=True)
class Experiment:
    """What to replay. Each mix is replayed with each encoder, each batch size and each seed.

    Attributes:
        file: Texts with labels.
        mixes: Name -> strategy -> weight; no strategies for the default mix.
        text_column: The text column; None to detect it.
        label_column: The label column; None to detect it.
        evaluation: Labeled texts to evaluate on; None to hold out a quarter of `file`, at most 2,000 items.
        positive: The positive label; None for the rarer of two labels, and for no label of more than two.
        encoders: Names or paths of encoders.
        seeds: Number of seeds.
        iterations: Batches after the start of the largest size; with smaller batches the same number of items.
        batch_sizes: Items per batch.
        start: Random items at the start.
        oracle: The simulated annotators.
    """

    file: str
    mixes: Mapping[str, Mapping[str, float]]
    text_column: str | None = None
    label_column: str | None = None
    evaluation: str | None = None
    positive: str | None = None
    encoders: tuple[str, ...] = (MINILM_STATIC,)
    seeds: int = 5
    iterations: int = 10
    batch_sizes: tuple[int, ...] = (100,)
    start: int = 100
    oracle: Oracle = field(default_factory=Oracle)

    def replay_of(self, batch_size: int, seed: int) -> Replay:
        """Return the settings of one replay; start and total number of items do not depend on the batch size.

        >>> settings = Experiment("x.csv", {}, batch_sizes=(30, 100), iterations=2).replay_of(30, seed=0)
        >>> settings.iterations, [settings.size(k) for k in range(settings.iterations)]
        (7, [30, 30, 30, 30, 30, 30, 20])
        """
        largest = max(self.batch_sizes)
        total = self.iterations * largest
        return Replay(self.start, batch_size, math.ceil(total / batch_size), seed, total, largest)


@dataclass(frozen=True)
class _Run:
    """One replay, and the path of its results."""

    mix: str
    encoder: str
    settings: Replay
    path: Path


def run_all(experiment: Experiment, output: Path, jobs: int | None = None) -> tuple[pa.Table, Material]:
    """Replay every mix, encoder and batch size with every seed; replays whose results exist are not repeated.

    Args:
        experiment: What to replay.
        output: The folder of the results: `runs/` has a file for each replay, results.parquet all of them.
        jobs: Number of processes; None for one per core. With one, it is this process.

    Returns:
        A table of one row per step, and the items as the first encoder reads them. Columns: mix, encoder, batch_size,
        seed, iteration, n_asked, n_labels, n_positive, one for each of METRICS, training_s, choosing_s, asked
        (positions of the queried items among the rows of the file that are not held out), probabilities
        (n_held_out * n_labels, row by row).

    Raises:
        SourceError: The file cannot be read or has no labels.
        SamplingError: The file has too few items.
    """
    first = material(experiment, experiment.encoders[0])  # report a faulty file before processes start
    mixes = {name: mix or weights(default_mix(first.n_labels)) for name, mix in experiment.mixes.items()}
    experiment = replace(experiment, mixes=mixes)
    (output / "runs").mkdir(parents=True, exist_ok=True)
    runs = list(_runs(experiment, output / "runs"))
    missing = list({run.path: run for run in runs if not run.path.is_file()}.values())
    missing.sort(key=lambda run: -run.settings.iterations)  # the longest first, so that all cores end about together
    others = {run.encoder for run in missing} - {experiment.encoders[0]}
    materials = {experiment.encoders[0]: first, **{name: material(experiment, name) for name in others}}
    jobs = min(jobs or os.cpu_count() or 1, len(missing))
    with progress("replaying", len(missing)) as advance, _one_thread_each():
        if jobs < 2:  # a process would load PyTorch again
            for done, run in enumerate(missing, start=1):
                _replay_and_save(experiment, run, materials[run.encoder])
                advance(done)
        else:
            with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
                futures = [pool.submit(_replay_and_save, experiment, run, materials[run.encoder]) for run in missing]
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    advance(done)
    table = pa.concat_tables(map(_load, runs))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    write_whole(output / "results.parquet", sink.getvalue())
    return table, first


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let this process and those that are started in the body use a single thread: there is one process per core."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def material(experiment: Experiment, encoder_name: str) -> Material:
    """Return the items of an experiment, tokenized for an encoder.

    Raises:
        SourceError: The files cannot be read, or their labels do not fit.
    """
    texts = read_labelled(Path(experiment.file), experiment.text_column, experiment.label_column)
    rows, description = texts.table, [*texts.layout.lines(), *texts.notes]
    names = sorted(set(rows["label"].to_pylist()))
    if len(names) < 2:
        message = f"A simulation needs at least two labels; {experiment.file} has {len(names)}."
        raise SourceError(message, hint="Name another column: pal simulate FILE --label-column NAME")
    if experiment.evaluation:
        other = read_labelled(Path(experiment.evaluation), experiment.text_column, experiment.label_column)
        held_out = _with_spellings_of(other.table, names)
        description += [*other.layout.lines(), *other.notes]
        if unknown := sorted(set(held_out["label"].to_pylist()) - set(names)):
            raise SourceError(
                f"{experiment.evaluation} has the label {unknown[0]!r}, which {experiment.file} does not have.",
                hint=f"Use these labels: {', '.join(names)}.",
            )
        rows = rows.filter(pc.invert(pc.is_in(rows["folded"], held_out["folded"].combine_chunks())))
    else:
        order = np.random.default_rng(0).permutation(rows.num_rows)
        n = min(MAX_HELD_OUT, int(HELD_OUT_SHARE * rows.num_rows))
        held_out, rows = rows.take(pa.array(order[:n])), rows.take(pa.array(np.sort(order[n:])))
    encoder = _encoder(encoder_name, rows)
    labels = _numbers(rows, names)
    with_characters = encoder.vectors() is not None
    tokens, held_out_tokens = (read_column(encoder, _texts(part), with_characters) for part in (rows, held_out))
    evaluation = Examples(held_out_tokens, _numbers(held_out, names))
    positive = _positive_label(experiment.positive, names, labels)
    return Material(encoder, len(names), tokens, labels, evaluation, positive, tuple(description))


def _with_spellings_of(rows: pa.Table, names: list[str]) -> pa.Table:
    """Spell the labels of some rows as in `names`."""
    spellings = {folded_label(name): name for name in names}
    labels = [spellings.get(folded_label(label), label) for label in rows["label"].to_pylist()]
    return rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(labels, pa.string()))


def _runs(experiment: Experiment, folder: Path) -> Iterator[_Run]:
    """Yield every run. The name of its file is a hash of everything that determines its steps, and of nothing else."""
    content = [
        hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in (experiment.file, experiment.evaluation) if file
    ]
    common = {**asdict(experiment), "file": content, "evaluation": None, "mixes": None, "seeds": None}
    del common["encoders"], common["batch_sizes"]
    for encoder, batch_size in product(experiment.encoders, experiment.batch_sizes):
        for (name, mix), seed in product(experiment.mixes.items(), range(experiment.seeds)):
            settings = experiment.replay_of(batch_size, seed)
            options = {**common, "encoder": encoder, "batch_size": batch_size, "iterations": settings.iterations}
            if settings.total != settings.iterations * batch_size:
                options["total"] = settings.total
            if settings.more != batch_size:
                options["more"] = settings.more
            facts = [options, dict(mix), seed, installed_version("pytorch-active-learning")]
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
            yield _Run(name, encoder, settings, folder / f"{digest}.parquet")


def _replay_and_save(experiment: Experiment, run: _Run, data: Material) -> None:
    """Replay one run and save its steps; called in a worker process."""
    steps = list(replay(data, experiment.mixes[run.mix], run.settings, experiment.oracle))
    rows = [
        {
            "seed": run.settings.seed,
            "iteration": iteration,
            "n_asked": step.n_asked,
            "n_labels": step.n_labels,
            "n_positive": step.n_positive,
            **_metrics(data, step),
            "training_s": step.seconds[0],
            "choosing_s": step.seconds[1],
            "asked": step.asked.tolist(),
            "probabilities": step.probabilities.ravel().tolist(),
        }
        for iteration, step in enumerate(steps)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), sink)
    write_whole(run.path, sink.getvalue())


def _load(run: _Run) -> pa.Table:
    """Load the steps of a finished run, with columns that identify it: two equal mixes of other names share a file."""
    steps = pq.read_table(run.path, columns=_SCHEMA.names)
    keys = {
        "mix": pa.scalar(run.mix, pa.string()),
        "encoder": pa.scalar(run.encoder, pa.string()),
        "batch_size": pa.scalar(run.settings.batch_size, pa.int64()),
    }
    columns = {name: pa.repeat(value, steps.num_rows) for name, value in keys.items()}
    return pa.table({**columns, **dict(zip(steps.column_names, steps.columns, strict=True))})


def _metrics(data: Material, step: Step) -> dict[str, float | None]:
    """Return the metrics of the positive label, or without one their means over all labels; None if undefined."""
    truth = data.held_out.labels
    ones = np.ones((1, len(truth)))
    per_label = [
        label_figures(step.probabilities[:, k].astype(np.float64), truth == k, step.decisions == k)
        for k in (range(data.n_labels) if data.positive is None else [data.positive])
    ]
    metrics: dict[str, float | None] = {}
    for name in ("f1", "auc", "ap"):
        values = [functions[name](ones)[0] for functions in per_label]
        metrics[name] = None if np.isnan(values).any() else float(np.mean(values))
    return {**metrics, "accuracy": float(np.mean(step.decisions == truth))}


def _encoder(name: str, rows: pa.Table) -> Encoder:
    return (
        fit_bag_of_words([_texts(rows)])
        if name == BAG_OF_WORDS
        else StaticVectors(ARTEFACT if name == MINILM_STATIC else Path(name))
    )


def _texts(rows: pa.Table) -> pa.Array:
    return pa.array(rows["text"].to_pylist(), pa.string())


def _numbers(rows: pa.Table, names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(pc.index_in(rows["label"].combine_chunks(), pa.array(names)).to_pylist(), np.int64)


def _positive_label(
    name: str | None, names: list[str], labels: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> int | None:
    """Return the number of the positive label: the named one, else the rarer of two."""
    if name is None:
        return int(np.bincount(labels, minlength=2).argmin()) if len(names) == 2 else None
    spelling = {folded_label(label): label for label in names}.get(folded_label(name), name)
    if spelling not in names:
        raise SourceError(f"No item has the label {name!r}.", hint=f"Use one of the labels: {', '.join(names)}.")
    return names.index(spelling)


_SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in ("seed", "iteration", "n_asked", "n_labels", "n_positive")),
        *((name, pa.float64()) for name in (*METRICS, "training_s", "choosing_s")),
        ("asked", pa.list_(pa.int64())),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
