"""Stages `evaluate_model` and `compare_with_previous`: metrics on held-out items, and change from the last model.

Metrics are also computed on parts of the evaluation items: the slices of imports, and the values of columns.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import ModelError
from storage.lake.annotations import labelled_texts
from storage.lake.context import column_sql
from storage.lake.items import fixed_sample
from storage.lake.models import Measurement, metrics_of, model_to_compare_with
from storage.lake.slices import SlicedItems, by_slice
from storage.lake.store import Store
from storage.records import SUCCESSIVE, Metric, Split
from tasks.learning.metrics import evaluate
from tasks.learning.model_files import LoadedModel
from tasks.learning.stopping import change_of_f, cohen_kappa
from tasks.prepare import open_model
from tasks.project import Project
from tasks.reporting.report_page import Slice
from tasks.sentence_vectors import predict_stored

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOut:
    """A model's probabilities (n, n_labels) for the evaluation items of one lake version, and their labels (n,).

    Attributes:
        items: The items (item_id, text, label), by item_id.
        sliced: The items by the imports that they came with; None if there is one slice.
    """

    items: pa.Table
    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    lake_version: int
    sliced: SlicedItems | None = None

    @property
    def weights(self) -> npt.NDArray[np.float64] | None:
        """What each item counts, (n,); None where all count alike."""
        return np.array(self.sliced.weights) if self.sliced and self.sliced.weights else None


@dataclass(frozen=True)
class Evaluation:
    """A model on the evaluation items: what it says of them, and its metrics."""

    held_out: HeldOut
    measurement: Measurement


def evaluate_model(project: Project, model: LoadedModel) -> Evaluation:
    """Measure a model on all evaluation items there are now."""
    started = time.monotonic()
    store = project.store
    evaluation = measured(model, predict_held_out(store, model, store.version(), project.config.sampling.where))
    n, metrics = evaluation.measurement.n, evaluation.measurement.metrics
    text = json.dumps({"n": n, "metrics": [asdict(metric) for metric in metrics]}, indent=1)
    path = project.workspace.models / model.model_id / "evaluation.json"
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    if not n:
        log.warning("There are no evaluation items, so the model was not measured. Import some: --split evaluation")
        return evaluation
    summary = ", ".join(str(metric) for metric in metrics if metric.name in ("f1", "auc", "ap", "accuracy"))
    log.info("Evaluated on %s items: %s (%.1f s).", f"{n:,}", summary, time.monotonic() - started)
    return evaluation


def measured(model: LoadedModel, held_out: HeldOut) -> Evaluation:
    """A model's metrics with their intervals, from what it says of the evaluation items."""
    report = evaluate(
        held_out.probabilities, held_out.labels, model.labels, model.calibration, item_weights=held_out.weights
    )
    measurement = Measurement(model.model_id, Split.EVALUATION, report.metrics, report.n, held_out.lake_version)
    return Evaluation(held_out, measurement)


def predict_held_out(store: Store, model: LoadedModel, version: int, where: str = "") -> HeldOut:
    """A model's probabilities for the evaluation items of a lake version, by item_id.

    Args:
        where: Condition on the columns of the texts that the items stand for.
    """
    table = labelled_texts(store, Split.EVALUATION, version)
    table = table.filter(pc.is_in(table["label"], pa.array(model.labels, pa.string())))
    numbers = [model.labels.index(label) for label in table["label"].to_pylist()]
    probabilities = predict_stored(store, model, table["text"].to_pylist())
    sliced = by_slice(store, table["item_id"].to_pylist(), where)
    return HeldOut(table, probabilities, np.array(numbers, np.int64), version, sliced)


def held_out_of(project: Project, model: LoadedModel, predicted: dict[str, HeldOut]) -> HeldOut:
    """A model's probabilities for the evaluation items, which are the same for all models of a run.

    Args:
        predicted: Model id -> what was predicted so far in this run; the result is added.
    """
    store = project.store
    if model.model_id not in predicted:
        if first := next(iter(predicted.values()), None):
            probabilities = predict_stored(store, model, first.items["text"].to_pylist())
            predicted[model.model_id] = replace(first, probabilities=probabilities)
        else:
            predicted[model.model_id] = predict_held_out(store, model, store.version(), project.config.sampling.where)
    return predicted[model.model_id]


N_SAMPLE = 2_000

MIN_NEW_LABELS = 20
"""Fewer new training items change no model, whatever they are; a comparison waits for so many."""


def compare_with_previous(project: Project, model: LoadedModel) -> Measurement | None:
    """Compare a model's decisions on 2,000 fixed items with those of a model with at least 20 fewer labels.

    Returns:
        What to record; None where it is recorded already or there is no model to compare with.
    """
    store, label_set = project.store, project.label_set
    before = model_to_compare_with(store, model.model_id, MIN_NEW_LABELS)
    if before is None or metrics_of(store, model.model_id, SUCCESSIVE):
        return None
    texts = fixed_sample(store, N_SAMPLE)
    try:
        previous = open_model(project, before.model_id)
    except ModelError as error:
        log.warning("Not compared with the previous model: %s", error.what)
        return None
    first, second = (either.calibration.decisions(predict_stored(store, either, texts)) for either in (previous, model))
    kappa = cohen_kappa(first, second)
    metrics = [
        Metric("kappa", kappa, reason=None if kappa is not None else "both models give all items the same label")
    ]
    if label_set.positive:
        change = change_of_f(first, second, label_set.names.index(label_set.positive))
        reason = None if change is not None else "neither model finds a positive"
        metrics.append(Metric("change_of_f", change, reason=reason))
    return Measurement(model.model_id, SUCCESSIVE, metrics, len(texts), store.version())


MOST_VALUES = 12
"""Maximum number of values of a column; rarer ones are combined."""
METRICS = ("f1", "ap", "accuracy")
IMPORTED = "imported"
"""In place of a column name for slices of imports; the value is the time of the first import."""


def slices_of(store: Store, columns: Sequence[str], model: LoadedModel, held_out: HeldOut) -> list[Slice]:
    """The slices of imports by time if there are several, then the values of each column by frequency.

    Items without a value are `(none)`.
    """
    item_ids = held_out.items["item_id"].to_pylist()
    parts: list[tuple[str, str, npt.NDArray[np.bool_]]] = []
    if held_out.sliced:
        places = np.array(held_out.sliced.at, np.int64)
        for k, part in enumerate(held_out.sliced.slices):
            parts.append((IMPORTED, f"{part.imports[0]:%Y-%m-%d %H:%M} UTC", places == k))
    for column in columns:
        sql = f"SELECT item_id, {column_sql(column)} FROM lake.items WHERE item_id IN (SELECT unnest($ids))"
        values = dict(store.rows(sql, {"ids": item_ids}))
        of = ["(none)" if values.get(item_id) is None else str(values[item_id]) for item_id in item_ids]
        frequent = [value for value, _ in Counter(of).most_common(MOST_VALUES)]
        rest = np.array([value if value in frequent else "(others)" for value in of], dtype=object)
        parts += [(column, value, rest == value) for value in dict.fromkeys([*frequent, *rest])]
    slices, weights = [], held_out.weights
    for column, value, within in parts:
        if not (at := np.flatnonzero(within)).size:
            continue
        measured = evaluate(
            held_out.probabilities[at],
            held_out.labels[at],
            model.labels,
            model.calibration,
            item_weights=weights[at] if weights is not None else None,
        )
        metrics = tuple(metric for name in METRICS for metric in measured.metrics if metric.name == name)
        slices.append(Slice(column, value, len(at), metrics))
    return slices
