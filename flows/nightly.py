"""Flow `nightly`: ingest, train, evaluate, promote or keep, and the next batch when none is open."""

from __future__ import annotations

import logging

from prefect import flow

from flows.engine import begin
from flows.next_batch import improve_model, plan_of, publish_next
from storage.batches import open_batches
from storage.items import count_pool
from tasks.collect import collect_answers
from tasks.prepare import make_features
from tasks.publish import publish_batches

log = logging.getLogger(__name__)


@flow(name="nightly", flow_run_name="nightly")
def nightly(workspace: str) -> str | None:
    """The whole loop but the annotators; returns the id of the batch that is open afterwards, if there is one.

    Args:
        workspace: The project's directory.
    """
    project = begin(workspace)
    publish_batches(project.workspace, project.config.task)
    collect_answers(project.workspace, project.config.task)
    make_features(project.workspace, project.config.model.encoder)
    plan = plan_of(project)
    model_id = improve_model(project) if plan.active else None
    store = project.workspace.store()
    opened = open_batches(store, again=False)
    if opened:
        return opened[0].batch.batch_id
    if not count_pool(store):
        log.warning("the pool is empty: nothing is left to ask about; add texts: pal import FILE")
        return None
    return publish_next(project, plan, model_id)
