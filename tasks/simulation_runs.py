"""Many replays of the loop over the cores, each kept once it is done. No flow: nobody waits for a server."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from annotation.progress import progress
from storage.errors import SourceError
from storage.folders import write_whole
from storage.labelled_file import read_labelled
from tasks.learning.encoder import ARTEFACT, BAG_OF_WORDS, MINILM_STATIC, Encoder, fit_bag_of_words, static_vectors
from tasks.learning.metrics import label_figures
from tasks.learning.training import Examples
from tasks.sampling.simulation import Material, Oracle, Replay, Step, replay

HELD_OUT_SHARE, MOST_HELD_OUT = 0.25, 2_000
FIGURES = ("f1", "auc", "ap", "accuracy")


@dataclass(frozen=True)
class Experiment:
    """What is replayed on what.

    Attributes:
        file: Texts with labels; `evaluation` another one to measure on, else a quarter of it, at most 2,000.
        positive: The label that is looked for; None for the rarer one of two, and none of more.
        mixes: Name -> strategy -> weight.
    """

    file: str
    mixes: Mapping[str, Mapping[str, float]]
    text_column: str | None = None
    label_column: str | None = None
    evaluation: str | None = None
    positive: str | None = None
    encoder: str = MINILM_STATIC
    seeds: int = 5
    iterations: int = 10
    batch_size: int = 100
    start: int = 100
    oracle: Oracle = field(default_factory=Oracle)


@dataclass(frozen=True)
class _Run:
    """One mix under one seed, and where it is kept."""

    mix: str
    seed: int
    place: Path


def run_all(experiment: Experiment, output: Path, jobs: int | None = None) -> pa.Table:
    """Replay every mix under every seed, those that are there already left as they are; returns all steps.

    Columns: mix, seed, iteration, n_asked, n_labels, n_positive, one for each of FIGURES, training_s, choosing_s, asked
    (positions in the file's rows that are not held out), probabilities (of the held-out items, row by row).

    Raises:
        SourceError: The file cannot be read or has no labels.
        SamplingError: It has too few items.
    """
    material(experiment)  # what is wrong with the file is told before any process starts
    (output / "runs").mkdir(parents=True, exist_ok=True)
    runs = list(_runs(experiment, output / "runs"))
    missing = [run for run in runs if not run.place.is_file()]
    jobs = min(jobs or os.cpu_count() or 1, max(1, len(missing)))
    context = multiprocessing.get_context("spawn")
    with (
        progress("replaying", len(missing)) as advance,
        _one_thread_each(),
        ProcessPoolExecutor(jobs, context) as pool,
    ):
        waiting = [pool.submit(_replayed, experiment, run.mix, run.seed, run.place) for run in missing]
        for done, future in enumerate(as_completed(waiting), start=1):
            future.result()
            advance(done)
    table = pa.concat_tables(pq.read_table(run.place) for run in runs)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    write_whole(output / "results.parquet", sink.getvalue())
    return table


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start meanwhile use one thread each: there is one for every core."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


@lru_cache(maxsize=1)
def _material(key: str) -> Material:
    experiment = json.loads(key)
    rows = read_labelled(Path(experiment["file"]), experiment["text_column"], experiment["label_column"])
    names = sorted(set(rows["label"].to_pylist()))
    if len(names) < 2:
        raise SourceError(f"{experiment['file']} has {len(names)} label(s).", hint="replaying needs at least two")
    if experiment["evaluation"]:
        held_out = read_labelled(Path(experiment["evaluation"]), experiment["text_column"], experiment["label_column"])
        if unknown := sorted(set(held_out["label"].to_pylist()) - set(names)):
            raise SourceError(
                f"{experiment['evaluation']} has the label {unknown[0]!r}, which {experiment['file']} has not.",
                hint=f"labels there: {', '.join(names)}",
            )
        rows = rows.filter(pc.invert(pc.is_in(rows["text"], held_out["text"].combine_chunks())))
    else:
        order = np.random.default_rng(0).permutation(rows.num_rows)
        n = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * rows.num_rows))
        held_out, rows = rows.take(pa.array(order[:n])), rows.take(pa.array(np.sort(order[n:])))
    encoder = _encoder(experiment["encoder"], rows)
    labels = _numbers(rows, names)
    held = Examples(encoder.tokenize(_texts(held_out)), _numbers(held_out, names))
    positive = _positive(experiment["positive"], names, labels)
    return Material(encoder, len(names), encoder.tokenize(_texts(rows)), labels, held, positive)


def material(experiment: Experiment) -> Material:
    """The items of an experiment, read once in a process."""
    return _material(json.dumps({**asdict(experiment), "mixes": None, "oracle": None}))


def _runs(experiment: Experiment, folder: Path) -> Iterator[_Run]:
    """Every run; its place follows from everything that its steps follow from."""
    content = [
        hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in (experiment.file, experiment.evaluation) if file
    ]
    same = {**asdict(experiment), "file": content, "evaluation": None, "mixes": None, "seeds": None}
    for name, mix in experiment.mixes.items():
        for seed in range(experiment.seeds):
            facts = [same, dict(mix), seed, installed_version("pytorch-active-learning")]
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
            yield _Run(name, seed, folder / f"{digest}.parquet")


def _replayed(experiment: Experiment, mix: str, seed: int, place: Path) -> None:
    """Replay one run and keep it, in a process of its own."""
    on = material(experiment)
    how = Replay(experiment.start, experiment.batch_size, experiment.iterations, seed)
    steps = list(replay(on, experiment.mixes[mix], how, experiment.oracle))
    rows = [
        {
            "mix": mix,
            "seed": seed,
            "iteration": iteration,
            "n_asked": step.n_asked,
            "n_labels": step.n_labels,
            "n_positive": step.n_positive,
            **_figures(on, step),
            "training_s": step.seconds[0],
            "choosing_s": step.seconds[1],
            "asked": step.asked.tolist(),
            "probabilities": step.probabilities.ravel().tolist(),
        }
        for iteration, step in enumerate(steps)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), sink)
    write_whole(place, sink.getvalue())


def _figures(on: Material, step: Step) -> dict[str, float | None]:
    """The figures of the positive label, else their means over the labels; None where undefined."""
    ones = np.ones((1, len(on.held_out.labels)))
    counted = range(on.n_labels) if on.positive is None else [on.positive]
    found: dict[str, float | None] = {}
    for name in ("f1", "auc", "ap"):
        values = [
            label_figures(step.probabilities[:, k].astype(np.float64), on.held_out.labels == k, step.decisions == k)[
                name
            ](ones)[0]
            for k in counted
        ]
        found[name] = None if np.isnan(values).any() else float(np.mean(values))
    return {**found, "accuracy": float(np.mean(step.decisions == on.held_out.labels))}


def _encoder(name: str, rows: pa.Table) -> Encoder:
    return (
        fit_bag_of_words([_texts(rows)])
        if name == BAG_OF_WORDS
        else static_vectors(ARTEFACT if name == MINILM_STATIC else Path(name))
    )


def _texts(rows: pa.Table) -> pa.Array:
    return pa.array(rows["text"].to_pylist(), pa.string())


def _numbers(rows: pa.Table, names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(pc.index_in(rows["label"].combine_chunks(), pa.array(names)).to_pylist(), np.int64)


def _positive(asked: str | None, names: list[str], labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int | None:
    if asked is not None:
        if asked not in names:
            raise SourceError(f"no item has the label {asked!r}.", hint=f"labels there: {', '.join(names)}")
        return names.index(asked)
    return int(np.bincount(labels, minlength=2).argmin()) if len(names) == 2 else None


_SCHEMA = pa.schema(
    [
        ("mix", pa.string()),
        *((name, pa.int64()) for name in ("seed", "iteration", "n_asked", "n_labels", "n_positive")),
        *((name, pa.float64()) for name in (*FIGURES, "training_s", "choosing_s")),
        ("asked", pa.list_(pa.int64())),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
