"""Stage `compare_with_previous`: how much a new model's decisions differ from those of the model trained before it."""

from __future__ import annotations

import logging

from storage.errors import ModelError
from storage.lake.items import fixed_sample
from storage.lake.models import Measurement, metrics_of, model_to_compare_with
from storage.records import SUCCESSIVE, Metric
from tasks.learning.model_files import LoadedModel, load_model
from tasks.learning.stopping import change_of_f, cohen_kappa
from tasks.project import Project

log = logging.getLogger(__name__)

N_SAMPLE = 2_000

MIN_NEW_LABELS = 20
"""Fewer new training items change no model, whatever they are; a comparison waits for so many."""


def compare_with_previous(project: Project, model: LoadedModel) -> Measurement | None:
    """Compare a model's decisions on 2,000 fixed items with those of a model with at least 20 fewer labels.

    Returns:
        What to record; None where it is recorded already or there is no model to compare with.
    """
    workspace, label_set = project.workspace, project.config.task
    store = workspace.store()
    before = model_to_compare_with(store, model.model_id, MIN_NEW_LABELS)
    if before is None or metrics_of(store, model.model_id, SUCCESSIVE):
        return None
    texts = fixed_sample(store, N_SAMPLE)
    try:
        previous = load_model(workspace.model_folder(before.model_id), label_set.names)
    except ModelError as error:
        log.warning("Not compared with the previous model: %s", error.what)
        return None
    first, second = (each.calibration.decisions(each.predict(texts)) for each in (previous, model))
    kappa = cohen_kappa(first, second)
    metrics = [Metric("kappa", kappa, reason=None if kappa is not None else "both give all items one label")]
    if label_set.positive:
        change = change_of_f(first, second, label_set.names.index(label_set.positive))
        reason = None if change is not None else "neither finds a positive"
        metrics.append(Metric("change_of_f", change, reason=reason))
    return Measurement(model.model_id, SUCCESSIVE, metrics, len(texts), store.version())
