"""Stage `evaluate`: a model's figures on the held-out items, into the lake and beside its weights."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from storage.annotations import labelled_texts
from storage.models import add_metrics, metrics_of
from storage.records import Split
from storage.store import Store
from storage.workspace import Workspace
from tasks.learning.metrics import evaluate
from tasks.learning.model_files import LoadedModel, load_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """What a model says of the evaluation items of one lake version: probabilities (n, n_labels), truth (n,)."""

    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    lake_version: int


@task
def evaluate_model(workspace: Workspace, model_id: str, labels: Sequence[str]) -> None:
    """Measure a model on all evaluation items there are now."""
    started = time.monotonic()
    store = workspace.store()
    model = load_model(workspace.model_folder(model_id), labels)
    held_out = predict_held_out(store, model, store.version())
    found = evaluate(held_out.probabilities, held_out.labels, labels, model.calibration)
    add_metrics(store, model_id, Split.EVALUATION, found.metrics, n=found.n, lake_version=held_out.lake_version)
    text = json.dumps({"n": found.n, "metrics": [asdict(metric) for metric in found.metrics]}, indent=1)
    folder = workspace.models / model_id
    (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    workspace.share(folder)
    log.info(
        "evaluated on %s items: %s (%.1f s)", f"{found.n:,}", figures_of(store, model_id), time.monotonic() - started
    )


def predict_held_out(store: Store, model: LoadedModel, version: int) -> HeldOut:
    """A model's probabilities for the evaluation items of a lake version, by item_id."""
    table = labelled_texts(store, Split.EVALUATION, version)
    table = table.filter(pc.is_in(table["label"], pa.array(model.labels, pa.string())))
    numbers = [model.labels.index(label) for label in table["label"].to_pylist()]
    return HeldOut(model.predict(table["text"].to_pylist()), np.array(numbers, np.int64), version)


def figures_of(store: Store, model_id: str) -> str:
    """The three figures that people ask for, in words."""
    metrics = metrics_of(store, model_id, Split.EVALUATION)
    return ", ".join(str(metrics[name]) for name in ("f1", "auc", "ap") if name in metrics)
