"""Stage `evaluate_model`: a model's metrics on the held-out items, written beside its weights."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.lake.annotations import labelled_texts
from storage.lake.models import Measurement
from storage.lake.store import Store
from storage.records import Split
from tasks.learning.metrics import evaluate
from tasks.learning.model_files import LoadedModel
from tasks.project import Project

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """A model's probabilities (n, n_labels) for the evaluation items of one lake version, and their labels (n,)."""

    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    lake_version: int


@dataclass(frozen=True)
class Evaluation:
    """A model on the evaluation items: what it says of them, and its metrics."""

    held_out: HeldOut
    measurement: Measurement


def evaluate_model(project: Project, model: LoadedModel) -> Evaluation:
    """Measure a model on all evaluation items there are now."""
    started = time.monotonic()
    store = project.workspace.store()
    evaluation = measured(model, predict_held_out(store, model, store.version()))
    n, metrics = evaluation.measurement.n, evaluation.measurement.metrics
    text = json.dumps({"n": n, "metrics": [asdict(metric) for metric in metrics]}, indent=1)
    path = project.workspace.models / model.model_id / "evaluation.json"
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    summary = ", ".join(str(metric) for metric in metrics if metric.name in ("f1", "auc", "ap"))
    log.info("Evaluated on %s items: %s (%.1f s).", f"{n:,}", summary, time.monotonic() - started)
    return evaluation


def measured(model: LoadedModel, held_out: HeldOut) -> Evaluation:
    """A model's metrics with their intervals, from what it says of the evaluation items."""
    report = evaluate(held_out.probabilities, held_out.labels, model.labels, model.calibration)
    measurement = Measurement(model.model_id, Split.EVALUATION, report.metrics, report.n, held_out.lake_version)
    return Evaluation(held_out, measurement)


def predict_held_out(store: Store, model: LoadedModel, version: int) -> HeldOut:
    """A model's probabilities for the evaluation items of a lake version, by item_id."""
    table = labelled_texts(store, Split.EVALUATION, version)
    table = table.filter(pc.is_in(table["label"], pa.array(model.labels, pa.string())))
    numbers = [model.labels.index(label) for label in table["label"].to_pylist()]
    return HeldOut(model.predict(table["text"].to_pylist()), np.array(numbers, np.int64), version)
