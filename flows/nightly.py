"""Flow `nightly`: ingest, train, evaluate, promote or keep, the next batch when none is open, and a report."""

from __future__ import annotations

import logging

from prefect import flow

from flows.engine import begin
from flows.missed import cancel_missed
from flows.next_batch import improve_model, plan_of, publish_next
from flows.notify import failure_told
from flows.run_names import name_after, name_at_start
from storage.batches import open_batches
from storage.items import count_pool
from tasks.collect import collect_answers
from tasks.prepare import make_features
from tasks.project import Project
from tasks.publish import publish_batches
from tasks.report import write_report
from tasks.run_log import RunLog, run_log

log = logging.getLogger(__name__)


@flow(name="nightly", flow_run_name=name_at_start, on_failure=[failure_told], on_crashed=[failure_told])
def nightly(workspace: str) -> str | None:
    """The whole loop but the annotators; returns the id of the batch that is open afterwards, if there is one.

    Where nothing is new since the last time that it was through, it says so and ends. What an earlier run was killed
    in is finished.

    Args:
        workspace: The project's directory.
    """
    project = begin(workspace)
    cancel_missed()
    with run_log(project.workspace, "nightly", project.settings) as run:
        run.stage("ingest")
        publish_batches(project.workspace, project.config.task)
        project.workspace.pull()
        collect_answers(project)
        project.workspace.push()
        before = run.nothing_new()
        if before is None:
            improve_and_publish(project, run)
        else:
            run.model_id, run.batch_id = before.model_id, before.batch_id
            since = f"nothing new since the run of {before.started_at:%Y-%m-%d %H:%M} UTC"
            run.say(f"{since}; waiting for answers to {run.batch_id}" if run.batch_id else since)
        run.through()
        if before is None:
            run.stage("report")
            write_report(project.workspace, project.config.task, run.run_id)
    name_after(project.workspace.store(), run.batch_id)
    return run.batch_id


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
