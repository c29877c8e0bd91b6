"""Many replays of the loop over the cores, each kept once it is done. No flow: nobody waits for a server."""

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
from functools import lru_cache
from importlib.metadata import version as installed_version
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.errors import SourceError
from storage.files.folders import write_whole
from storage.readers.labelled import read_labelled
from storage.readers.spellings import folded_label
from tasks.config.mix_checks import weights
from tasks.config.settings import default_mix
from tasks.learning.encoders import ARTEFACT, BAG_OF_WORDS, MINILM_STATIC, Encoder, fit_bag_of_words, static_vectors
from tasks.learning.metrics import label_figures
from tasks.learning.stored_model import read_column
from tasks.learning.tokens import Examples
from tasks.reporting.progress import progress
from tasks.simulation.replay import Material, Oracle, Replay, Step, replay

HELD_OUT_SHARE, MOST_HELD_OUT = 0.25, 2_000
FIGURES = ("f1", "auc", "ap", "accuracy")


@dataclass(frozen=True)
class Experiment:
    """What is replayed on what.

    Attributes:
        file: Texts with labels; `evaluation` another one to measure on, else a quarter of it, at most 2,000.
        positive: The label that is looked for; None for the rarer one of two, and none of more.
        mixes: Name -> strategy -> weight, no strategy for the default mix; each is replayed with each encoder, in
            batches of each size, under each seed.
        iterations: Batches after the start, of the largest size; in smaller ones as many items are asked about.
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
        """How the loop is replayed in batches of a size: from the start, and to the number of items, of every other.

        >>> how = Experiment("x.csv", {}, batch_sizes=(30, 100), iterations=2).replay_of(30, seed=0)
        >>> how.iterations, [how.size(k) for k in range(how.iterations)]
        (7, [30, 30, 30, 30, 30, 30, 20])
        """
        largest = max(self.batch_sizes)
        total = self.iterations * largest
        return Replay(self.start, batch_size, math.ceil(total / batch_size), seed, total, largest)


@dataclass(frozen=True)
class _Run:
    """One replay, and where it is kept."""

    mix: str
    encoder: str
    how: Replay
    place: Path


def run_all(experiment: Experiment, output: Path, jobs: int | None = None) -> pa.Table:
    """Replay every mix, encoder and batch size under every seed; what is there already is left as it is.

    Returns:
        All steps. Columns: mix, encoder, batch_size, seed, iteration, n_asked, n_labels, n_positive, one for each of
        FIGURES, training_s, choosing_s, asked (positions in the file's rows that are not held out), probabilities (of
        the held-out items, row by row).

    Raises:
        SourceError: The file cannot be read or has no labels.
        SamplingError: It has too few items.
    """
    n_labels = material(experiment, experiment.encoders[0]).n_labels  # a faulty file fails before any process starts
    mixes = {name: mix or weights(default_mix(n_labels)) for name, mix in experiment.mixes.items()}
    experiment = replace(experiment, mixes=mixes)
    (output / "runs").mkdir(parents=True, exist_ok=True)
    runs = list(_runs(experiment, output / "runs"))
    missing = list({run.place: run for run in runs if not run.place.is_file()}.values())
    missing.sort(key=lambda run: -run.how.iterations)  # the longest first, so that no core waits for one in the end
    jobs = min(jobs or os.cpu_count() or 1, max(1, len(missing)))
    context = multiprocessing.get_context("spawn")
    with (
        progress("replaying", len(missing)) as advance,
        _one_thread_each(),
        ProcessPoolExecutor(jobs, context) as pool,
    ):
        waiting = [pool.submit(_replayed, experiment, run) for run in missing]
        for done, future in enumerate(as_completed(waiting), start=1):
            future.result()
            advance(done)
    table = pa.concat_tables(map(_kept, runs))
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


@lru_cache(maxsize=4)
def _material(key: str) -> Material:
    experiment = json.loads(key)
    found = read_labelled(Path(experiment["file"]), experiment["text_column"], experiment["label_column"])
    rows, read = found.table, [*found.layout.lines(), *found.notes]
    names = sorted(set(rows["label"].to_pylist()))
    if len(names) < 2:
        raise SourceError(
            f"{experiment['file']} has {len(names)} {'label' if len(names) == 1 else 'labels'}.",
            hint="replaying needs at least two",
        )
    if experiment["evaluation"]:
        other = read_labelled(Path(experiment["evaluation"]), experiment["text_column"], experiment["label_column"])
        held_out, read = _named_alike(other.table, names), [*read, *other.layout.lines(), *other.notes]
        if unknown := sorted(set(held_out["label"].to_pylist()) - set(names)):
            raise SourceError(
                f"{experiment['evaluation']} has the label {unknown[0]!r}, which {experiment['file']} has not.",
                hint=f"labels there: {', '.join(names)}",
            )
        rows = rows.filter(pc.invert(pc.is_in(rows["folded"], held_out["folded"].combine_chunks())))
    else:
        order = np.random.default_rng(0).permutation(rows.num_rows)
        n = min(MOST_HELD_OUT, int(HELD_OUT_SHARE * rows.num_rows))
        held_out, rows = rows.take(pa.array(order[:n])), rows.take(pa.array(np.sort(order[n:])))
    encoder = _encoder(experiment["encoder"], rows)
    labels = _numbers(rows, names)
    with_characters = encoder.vectors() is not None
    tokens, held_tokens = (read_column(encoder, _texts(part), with_characters) for part in (rows, held_out))
    held = Examples(held_tokens, _numbers(held_out, names))
    positive = _positive(experiment["positive"], names, labels)
    return Material(encoder, len(names), tokens, labels, held, positive, tuple(read))


def _named_alike(rows: pa.Table, names: list[str]) -> pa.Table:
    """Rows whose labels are spelled as in another file."""
    spelled = {folded_label(name): name for name in names}
    labels = [spelled.get(folded_label(label), label) for label in rows["label"].to_pylist()]
    return rows.set_column(rows.schema.get_field_index("label"), "label", pa.array(labels, pa.string()))


def material(experiment: Experiment, encoder: str) -> Material:
    """The items of an experiment as an encoder sees them, read once in a process."""
    facts = {**asdict(experiment), "mixes": None, "oracle": None, "encoders": None, "encoder": encoder}
    return _material(json.dumps(facts))


def _runs(experiment: Experiment, folder: Path) -> Iterator[_Run]:
    """Every run; its place follows from everything that its steps follow from, and from nothing else."""
    content = [
        hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in (experiment.file, experiment.evaluation) if file
    ]
    same = {**asdict(experiment), "file": content, "evaluation": None, "mixes": None, "seeds": None}
    del same["encoders"], same["batch_sizes"]
    for encoder, batch_size in product(experiment.encoders, experiment.batch_sizes):
        for (name, mix), seed in product(experiment.mixes.items(), range(experiment.seeds)):
            how = experiment.replay_of(batch_size, seed)
            own = {**same, "encoder": encoder, "batch_size": batch_size, "iterations": how.iterations}
            if how.total != how.iterations * batch_size:
                own["total"] = how.total
            if how.more != batch_size:
                own["more"] = how.more
            facts = [own, dict(mix), seed, installed_version("pytorch-active-learning")]
            digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
            yield _Run(name, encoder, how, folder / f"{digest}.parquet")


def _replayed(experiment: Experiment, run: _Run) -> None:
    """Replay one run and keep it, in a process of its own."""
    on = material(experiment, run.encoder)
    steps = list(replay(on, experiment.mixes[run.mix], run.how, experiment.oracle))
    rows = [
        {
            "seed": run.how.seed,
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
    write_whole(run.place, sink.getvalue())


def _kept(run: _Run) -> pa.Table:
    """The steps of a run that is done, named by what was asked for: one run may be that of two mixes of other names."""
    steps = pq.read_table(run.place, columns=_SCHEMA.names)
    names = (("mix", run.mix, pa.string()), ("encoder", run.encoder, pa.string()))
    named = [(name, pa.repeat(pa.scalar(value, kind), steps.num_rows)) for name, value, kind in names]
    named.append(("batch_size", pa.repeat(pa.scalar(run.how.batch_size, pa.int64()), steps.num_rows)))
    return pa.table({**dict(named), **dict(zip(steps.column_names, steps.columns, strict=True))})


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
        asked = {folded_label(name): name for name in names}.get(folded_label(asked), asked)
        if asked not in names:
            raise SourceError(f"no item has the label {asked!r}.", hint=f"labels there: {', '.join(names)}")
        return names.index(asked)
    return int(np.bincount(labels, minlength=2).argmin()) if len(names) == 2 else None


_SCHEMA = pa.schema(
    [
        *((name, pa.int64()) for name in ("seed", "iteration", "n_asked", "n_labels", "n_positive")),
        *((name, pa.float64()) for name in (*FIGURES, "training_s", "choosing_s")),
        ("asked", pa.list_(pa.int64())),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
