"""Flow `next-batch`: train, evaluate, promote or keep, sample, publish - or, before that, a random batch."""

from __future__ import annotations

import logging
from dataclasses import replace

from flows.forms import FormatName, Seed, Size
from flows.notify import notify
from flows.run import Run
from storage.annotations import label_counts
from storage.batches import find_batch, open_batches
from storage.items import count_items, count_pending
from tasks.compare import compare_with_previous
from tasks.evaluate import evaluate_model
from tasks.plan import Plan, fitting_minimums, next_batch_plan
from tasks.prepare import make_features
from tasks.project import Project
from tasks.promote import promote_or_keep
from tasks.publish import publish_batches
from tasks.report import write_report
from tasks.run_log import RunLog, run_log
from tasks.sample import sample_batch
from tasks.train import train_model

log = logging.getLogger(__name__)


def next_batch(
    run: Run,
    n: Size = 0,
    another: bool = False,
    formats: tuple[FormatName, ...] = (),
    seed: Seed | None = None,
) -> str:
    """Publish the next batch of items to annotate; returns its id.

    What the batch is for follows from the labels there are: evaluation, validation and training items first, drawn
    at random; then items that the model chooses. An open batch is returned as it is.

    Args:
        n: Number of items; 0 for the number in pal.toml.
        another: Publish one beside those that are open.
        formats: Of its files; none for those in pal.toml.
        seed: Of the draw; None for the one in pal.toml.
    """
    project = run.project
    project = replace(project, config=replace(project.config, batch=project.config.batch.with_formats(formats)))
    with run_log(project.workspace, "next-batch", project.settings) as remembered:
        remembered.stage("publish")
        run.stage(publish_batches.fn, project.workspace, project.config.task)
        run.rename("next")
        opened = open_batches(project.workspace.store(), again=False)
        if opened and not another:
            remembered.batch_id = opened[0].batch.batch_id
            remembered.say(f"{remembered.batch_id} is still open")
        else:
            remembered.stage("features")
            run.stage(make_features.fn, project.workspace, project.config.model.encoder, project.config.scale)
            plan = plan_of(project)
            if plan.active:
                remembered.model_id = improve_model(project, remembered)
            remembered.batch_id = publish_next(project, plan, remembered, n, seed, beside_open=another)
        run.rename(f"next {remembered.batch_id}")
        remembered.through()
        remembered.stage("report")
        write_report(project.workspace, project.config.task, remembered.run_id)
    return remembered.batch_id


def plan_of(project: Project) -> Plan:
    """What the next batch is for."""
    store, asked, names = project.workspace.store(), project.config.minimums, project.config.task.names
    minimums = fitting_minimums(asked, count_items(store))
    if minimums != asked:
        log.warning("[minimums] in pal.toml ask for as many items as there are or more; for now %s", minimums)
    counts = {
        split: {name: n for name, n in found.items() if name in names} for split, found in label_counts(store).items()
    }
    return next_batch_plan(counts, minimums, project.config.batch.size, count_pending(store))


def improve_model(project: Project, run: RunLog) -> str:
    """Train, evaluate, promote or keep; returns the id of the model in production afterwards."""
    config, workspace = project.config, project.workspace
    run.stage("train")
    candidate = train_model(workspace, config.task, config.model.encoder, config.model.training)
    run.stage("evaluate")
    evaluate_model(workspace, candidate, config.task.names)
    compare_with_previous(workspace, candidate, config.task)
    run.stage("promote")
    decision = promote_or_keep(workspace, candidate, config.task.names, config.promotion)
    if decision.model_id != candidate:  # the evaluation items may be more than when it was measured last
        evaluate_model(workspace, decision.model_id, config.task.names)
    if decision.promoted:
        notify(project, "promotion", f"{candidate} is in production: {decision.reason}", model_id=candidate)
    return decision.model_id


def publish_next(
    project: Project,
    plan: Plan,
    run: RunLog,
    n: int = 0,
    seed: int | None = None,
    *,
    beside_open: bool = False,
) -> str:
    """Sample and publish a batch, chosen by the run's model where it has one; returns its id.

    Args:
        n: Number of items in place of the plan's, where not 0.
    """
    config, workspace = project.config, project.workspace
    if n:
        plan = replace(plan, n=n)
    run.stage("sample")
    batch_id = sample_batch.with_options(task_run_name="sample_batch")(
        workspace,
        plan,
        config.sampling,
        config.model.seed if seed is None else seed,
        config.task,
        config.model.encoder,
        run.model_id,
        batch_config=config.batch,
        beside_open=beside_open,
        scale=config.scale,
    )
    run.stage("publish")
    publish_batches(workspace, config.task)
    batch = find_batch(workspace.store(), batch_id).batch
    run.say(f"batch {batch_id} waits for answers: {batch.n} items for {batch.purpose}")
    notify(project, "batch", run.message, batch_id=batch_id, n=batch.n, folder=str(workspace.batches / batch_id))
    return batch_id
