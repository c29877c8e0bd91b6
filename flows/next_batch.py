"""Flow `next-batch`: train, evaluate, promote or keep, sample, publish - or, before that, a random batch."""

from __future__ import annotations

import logging
from dataclasses import replace

from prefect import flow

from flows.config import Project
from flows.engine import begin
from storage.annotations import label_counts
from storage.batches import open_batches
from storage.items import count_items, count_pending
from tasks.compare import compare_with_previous
from tasks.evaluate import evaluate_model
from tasks.plan import Plan, fitting_minimums, next_batch_plan
from tasks.prepare import make_features
from tasks.promote import promote_or_keep
from tasks.publish import publish_batches
from tasks.sample import sample_batch
from tasks.train import train_model

log = logging.getLogger(__name__)


@flow(name="next-batch", flow_run_name="next batch")
def next_batch(
    workspace: str,
    n: int | None = None,
    seed: int | None = None,
    another: bool = False,
    formats: list[str] | None = None,
) -> str:
    """Publish the next batch of items to annotate; returns its id.

    What the batch is for follows from the labels there are: evaluation, validation and training items first, drawn
    at random; then items that the model chooses. An open batch is returned as it is.

    Args:
        workspace: The project's directory.
        n: Number of items; from pal.toml where left empty.
        seed: Of the draw; from pal.toml where left empty.
        another: Publish one beside those that are open.
        formats: Of its files; from pal.toml where left empty.
    """
    project = begin(workspace)
    project = replace(project, config=replace(project.config, batch=project.config.batch.with_formats(formats)))
    publish_batches(project.workspace, project.config.task)
    opened = open_batches(project.workspace.store(), again=False)
    if opened and not another:
        return opened[0].batch.batch_id
    make_features(project.workspace, project.config.model.encoder)
    plan = plan_of(project)
    model_id = improve_model(project) if plan.active else None
    return publish_next(project, plan, model_id, n, seed, beside_open=another)


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


def improve_model(project: Project) -> str:
    """Train, evaluate, promote or keep; returns the id of the model in production afterwards."""
    config, workspace = project.config, project.workspace
    candidate = train_model(workspace, config.task, config.model.encoder, config.model.training)
    evaluate_model(workspace, candidate, config.task.names)
    compare_with_previous(workspace, candidate, config.task)
    decision = promote_or_keep(workspace, candidate, config.task.names, config.promotion)
    if decision.model_id != candidate:  # the evaluation items may be more than when it was measured last
        evaluate_model(workspace, decision.model_id, config.task.names)
    return decision.model_id


def publish_next(
    project: Project,
    plan: Plan,
    model_id: str | None,
    n: int | None = None,
    seed: int | None = None,
    *,
    beside_open: bool = False,
) -> str:
    """Sample and publish a batch; returns its id.

    Args:
        n: Number of items in place of the plan's.
    """
    config, workspace = project.config, project.workspace
    if n is not None:
        plan = replace(plan, n=n)
    batch_id = sample_batch(
        workspace,
        plan,
        config.sampling,
        config.model.seed if seed is None else seed,
        config.task,
        config.model.encoder,
        model_id,
        batch_config=config.batch,
        beside_open=beside_open,
    )
    publish_batches(workspace, config.task)
    return batch_id
