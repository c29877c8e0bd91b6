"""`pal demo`: the whole loop on synthetic headlines, with a simulated annotator who fills the batch files in."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotation.batch import batch_files
from annotation.synthetic import fill_csv, synthetic_headlines
from flows.import_texts import import_items
from flows.ingest import ingest
from flows.next_batch import next_batch
from flows.nightly import nightly
from flows.run import start
from flows.server.processes import stop_up
from flows.server.service import start_in_background
from storage.errors import WorkspaceError
from storage.lake.annotations import label_counts
from storage.lake.batches import find_batch, items_of
from storage.lake.models import metrics_of, production_model
from storage.records import Split
from storage.workspace import CONFIG_NAME, Workspace
from tasks.config.template import config_text, find_preset
from tasks.project import Project, open_project

N_HEADLINES = 20_000
ITERATIONS = 5
MARKER = ".pal-demo"


@dataclass(frozen=True)
class Iteration:
    """One row of the demo's table.

    Attributes:
        n_training: Labels to train on, and `n_evaluation` to measure on.
    """

    n_training: int
    n_evaluation: int
    positives: int
    batch_size: int
    f1: float | None
    auc: float | None
    ap: float | None


def make_workspace(root: Path, *, fresh: bool) -> Project:
    """A demo workspace with its file of headlines.

    Args:
        fresh: Remove an earlier demo there first; anything else is never removed.

    Raises:
        WorkspaceError: The folder has other contents.
    """
    if root.exists() and any(root.iterdir()):
        if not (fresh and (root / MARKER).is_file()):
            raise WorkspaceError(
                f"{root} is not empty.", hint="Name another directory (pal demo DIR), or replace the old demo: --fresh"
            )
        stop_up(Project(Workspace(root), find_preset("demo")))
        shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).write_text("made by pal demo\n", encoding="utf-8")
    text = config_text(find_preset("demo"))
    (root / CONFIG_NAME).write_text(text, encoding="utf-8", newline="\n")
    with (root / "headlines.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "headline"))
        table = synthetic_headlines(N_HEADLINES)
        writer.writerows(zip(table["item_id"].to_pylist(), table["text"].to_pylist(), strict=True))
    return open_project(root)


@contextmanager
def prefect_server(project: Project) -> Iterator[None]:
    """A Prefect server of the demo's own, stopped at the end; nothing where $PREFECT_API_URL names one."""
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    _tell("starting Prefect's server (it takes a moment)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        start_in_background(project, None, port)
        yield
    finally:
        stop_up(project)


def run_demo(root: Path, *, fresh: bool) -> list[Iteration]:
    """Run the loop as Prefect flow runs; returns a row for each of its five active iterations, and one for the end."""
    project = make_workspace(root, fresh=fresh)
    with prefect_server(project):
        return run_loop(project)


def run_loop(project: Project) -> list[Iteration]:
    """Import, random batches until a first model can learn, five active iterations, a night."""
    root, truth = project.workspace.root, _truth()
    _tell(f"importing {N_HEADLINES:,} synthetic headlines into {root}")
    start(project, import_items, ("headlines.csv",))
    rows: list[Iteration] = []
    while len(rows) < ITERATIONS:
        if (batch_id := start(project, next_batch)) is None:
            break
        if find_batch(project.store, batch_id).batch.model_id:
            rows.append(_row(project, batch_id, truth))
        _tell(f"iteration {len(rows)}" if rows else "random items for a first model and to measure it on")
        folder = project.workspace.batches / batch_id
        for handout in batch_files(folder):
            if handout.format == "csv":
                fill_csv(folder / handout.file, truth)
        start(project, ingest)
    _tell("the model with all labels, and a batch for you")
    if open_batch := start(project, nightly):
        rows.append(_row(project, open_batch, truth))
    return rows


def table_text(rows: list[Iteration]) -> str:
    """The table per iteration: what each model was trained on, how good it is, what its batch brought."""
    lines = ["iteration  training  evaluation    F1    AUC     AP   related in its batch"]
    for k, row in enumerate(rows, start=1):
        figures = "  ".join("  -  " if value is None else f"{value:.3f}" for value in (row.f1, row.auc, row.ap))
        labels = f"{row.n_training:>8,}  {row.n_evaluation:>10,}"
        lines.append(f"{k:>9}  {labels}  {figures}   {row.positives:>3} of {row.batch_size}")
    return "\n".join(lines)


def _row(project: Project, batch_id: str, truth: dict[str, str]) -> Iteration:
    store, task = project.store, project.label_set
    model = production_model(store)
    figures: dict[str, Any] = metrics_of(store, model.model_id, Split.EVALUATION) if model else {}
    items = items_of(store, batch_id)
    n_labels = {split: sum(counts.values()) for split, counts in label_counts(store).items()}
    return Iteration(
        n_training=n_labels[Split.TRAINING],
        n_evaluation=n_labels[Split.EVALUATION],
        positives=sum(truth[item.item_id] == task.positive for item in items),
        batch_size=len(items),
        **{name: figures[name].value if name in figures else None for name in ("f1", "auc", "ap")},
    )


def _truth() -> dict[str, str]:
    table = synthetic_headlines(N_HEADLINES)
    return dict(zip(table["item_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def _tell(line: str) -> None:
    """A heading among the log lines."""
    print(f"\n{line}", file=sys.stderr, flush=True)
