"""Stage `compare`: how much a new model's decisions differ from those of the model trained before it."""

from __future__ import annotations

import logging

from prefect import task

from annotation.label_set import LabelSet
from storage.errors import ModelError
from storage.items import fixed_sample
from storage.models import add_metrics, metrics_of, model_to_compare_with
from storage.records import SUCCESSIVE, Metric
from storage.workspace import Workspace
from tasks.learning.model_files import load_model
from tasks.learning.stopping import change_of_f, cohen_kappa

log = logging.getLogger(__name__)

N_SAMPLE = 2_000

MIN_NEW_LABELS = 20
"""Fewer new training items change no model, whatever they are; a comparison waits for so many."""


@task
def compare_with_previous(workspace: Workspace, model_id: str, label_set: LabelSet) -> None:
    """How much a model's decisions on 2,000 fixed items differ from those of a model with 20 fewer labels or less."""
    store = workspace.store()
    before = model_to_compare_with(store, model_id, MIN_NEW_LABELS)
    if before is None or metrics_of(store, model_id, SUCCESSIVE):
        return
    texts = fixed_sample(store, N_SAMPLE)
    try:
        old, new = (load_model(workspace.model_folder(each), label_set.names) for each in (before.model_id, model_id))
    except ModelError as error:
        log.warning("not compared with the model before it: %s", error.what)
        return
    first, second = (model.calibration.decisions(model.predict(texts)) for model in (old, new))
    kappa = cohen_kappa(first, second)
    metrics = [Metric("kappa", kappa, reason=None if kappa is not None else "both give all items one label")]
    if label_set.positive:
        change = change_of_f(first, second, label_set.names.index(label_set.positive))
        reason = None if change is not None else "neither finds a positive"
        metrics.append(Metric("change_of_f", change, reason=reason))
    add_metrics(store, model_id, SUCCESSIVE, metrics, n=len(texts), lake_version=store.version())
