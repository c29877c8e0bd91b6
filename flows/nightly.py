"""Flow `nightly`: ingest, train, evaluate, promote or keep, the next batch when none is open, and a report."""

from __future__ import annotations

import logging

from flows.next_batch import improve_model, plan_of, publish_next
from flows.run import Run
from storage.batches import open_batches
from storage.items import count_pool
from tasks.collect import collect_answers
from tasks.prepare import make_features
from tasks.project import Project
from tasks.publish import publish_batches
from tasks.report import write_report
from tasks.run_log import RunLog, run_log

log = logging.getLogger(__name__)


def nightly(run: Run) -> str | None:
    """The whole loop but the annotators; returns the id of the batch that is open afterwards, if there is one.

    Where nothing is new since the last time that it was through, it says so and ends. What an earlier run was killed
    in is finished.

    Args:
    """
    project = run.project
    with run_log(project.workspace, "nightly", project.settings) as remembered:
        remembered.stage("ingest")
        publish_batches(project.workspace, project.config.task)
        collect_answers(project.workspace, project.config.task)
        before = remembered.nothing_new()
        if before is None:
            improve_and_publish(project, remembered)
        else:
            remembered.model_id, remembered.batch_id = before.model_id, before.batch_id
            since = f"nothing new since the run of {before.started_at:%Y-%m-%d %H:%M} UTC"
            remembered.say(f"{since}; waiting for answers to {remembered.batch_id}" if remembered.batch_id else since)
        remembered.through()
        if before is None:
            remembered.stage("report")
            write_report(project.workspace, project.config.task, remembered.run_id)
    return remembered.batch_id


def improve_and_publish(project: Project, run: RunLog) -> None:
    """Train and promote where there are labels enough, and publish the next batch where none is open."""
    run.stage("features")
    make_features(project.workspace, project.config.model.encoder, project.config.scale)
    plan = plan_of(project)
    if plan.active:
        run.model_id = improve_model(project, run)
    store = project.workspace.store()
    if opened := open_batches(store, again=False):
        run.batch_id = opened[0].batch.batch_id
    elif count_pool(store):
        run.batch_id = publish_next(project, plan, run)
    else:
        log.warning("the pool is empty: nothing is left to ask about; add texts: pal import FILE")
