"""Flow bodies that publish batches.

- `next_batch`: train, evaluate, promote or keep, sample, publish; without a model, publish a random batch.
- `publish_found`: items of the pool that a search finds become a training batch.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from flows.notify import notify
from flows.run import Artifact, Count, FormatName, Markdown, Run, SeedOrOurs, Size, Table
from storage.files.folders import MANIFEST
from storage.lake.annotations import label_counts
from storage.lake.batches import published_batches
from storage.lake.evaluation_reserve import RESERVE
from storage.lake.items import count_pool
from storage.records import Batch
from tasks.draw_found import draw_found
from tasks.find import By, Search
from tasks.plan import Plan, check_context, has_untrained_labels, plan_next_batch
from tasks.prepare import make_features
from tasks.project import Project, refuse_lost_labels
from tasks.report import batch_rows, learning_curve_rows, write_report
from tasks.sample import empty_pool, publish_batches, sample_batch
from tasks.sentence_vectors import FEW, MANY, make_sentence_vectors, vectors_are_due

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.learning.model_files import LoadedModel
    from tasks.promote import Outcome
    from tasks.reporting.report_page import Report

log = logging.getLogger(__name__)


def next_batch(
    run: Run, n: Size = 0, another: bool = False, formats: tuple[FormatName, ...] = (), seed: SeedOrOurs = -1
) -> str | None:
    """Publish the next batch of items to annotate; returns its id.

    The existing labels determine its purpose: random training items until a model can be trained, then items that the
    model chooses; evaluation items are included until there are enough. If a batch is open, it is returned instead.
    From an empty pool no batch is published, but a model is trained on the last labels.

    Args:
        n: Number of items; 0 for the number in pal.toml.
        another: Publish a batch even if others are open.
        formats: Formats of the batch files; none for those in pal.toml.
        seed: Random seed; -1 for the one in pal.toml.
    """
    project = run.project.with_formats(formats)
    run.rename("next")
    refuse_lost_labels(project)
    check_context(project)
    run.stage(publish_batches, project)  # files that a crashed run did not write
    if (batch := find_open_batch(project)) and not another:
        run.batch_id = batch.batch_id
        run.rename(f"next {batch.batch_id}")
        run.say(f"Batch {batch.batch_id} is still open.")
        return batch.batch_id
    run.stage(make_features, project)
    plan = plan_next_batch(project, n)
    outcome = train_and_promote(run) if plan.active else None
    if outcome and not count_pool(project.store):
        run.say("The pool is empty, so there is nothing to annotate. Add texts: pal import FILE")
    else:
        model = outcome.model if outcome else None
        batch = publish_next(run, project, plan, model, seed=seed if seed >= 0 else None, beside_open=another)
        run.rename(f"next {batch.batch_id}")
    run.complete_work()
    report(run, outcome)
    return run.batch_id


def check_next(project: Project, another: bool) -> str | None:
    """Return the id of an open batch whose files exist, for which no run is needed; None if a run is needed.

    Raises:
        SamplingError: No batch is open, the pool is empty, and there are no new labels to train on.
        ConfigError: pal.toml lacks a label that items have, or names a column that none has.
    """
    refuse_lost_labels(project)
    check_context(project)
    store = project.store
    if (batch := find_open_batch(project)) and not another:
        has_files = (project.workspace.batches / batch.batch_id / MANIFEST).is_file()
        return batch.batch_id if has_files else None
    if not count_pool(store) and not has_untrained_labels(project, label_counts(store)):
        raise empty_pool()
    return None


def find_open_batch(project: Project) -> Batch | None:
    """Return the oldest open batch of new items (not of items that are queried again); None if there is none."""
    opened = published_batches(project.store, again=False)
    return opened[0] if opened else None


def train_and_promote(run: Run, *, at_night: bool = False) -> Outcome:
    """Train and evaluate a model, promote it or keep the previous one.

    Args:
        run: The run.
        at_night: Whether there is time to introduce sentence vectors, or to compute many.
    """
    from tasks.evaluate import compare_with_previous, evaluate_model
    from tasks.promote import promote_or_keep
    from tasks.train import train_model  # torch takes seconds to import

    project = run.project
    if vectors_are_due(project, MANY if at_night else FEW, begin=at_night):
        run.stage(make_sentence_vectors, project)
    candidate = run.stage(train_model, project)
    evaluation = run.stage(evaluate_model, project, candidate)
    comparison = run.stage(compare_with_previous, project, candidate)
    outcome = run.stage(promote_or_keep, project, candidate, evaluation, comparison)
    run.model_id = outcome.model.model_id
    run.share(project.workspace.models / candidate.model_id)
    if outcome.promoted:
        text = f"{candidate.model_id} is in production: {outcome.reason}"
        notify(project, "promotion", text, model_id=candidate.model_id)
    return outcome


def publish_next(
    run: Run, project: Project, plan: Plan, model: LoadedModel | None, *, seed: int | None, beside_open: bool
) -> Batch:
    """Sample and publish a batch, chosen by the model if there is one."""
    batch = run.stage(sample_batch, project, plan, model, seed=seed, beside_open=beside_open)
    run.batch_id = batch.batch_id
    run.stage(publish_batches, project)
    n_reserve = batch.mix.get(RESERVE, 0)
    items = f"{batch.n} {batch.purpose} items" if not n_reserve else f"{batch.n} items, {n_reserve} for evaluation"
    run.say(f"Published batch {batch.batch_id} ({items}).")
    folder = project.workspace.batches / batch.batch_id
    notify(project, "batch", run.record.message, batch_id=batch.batch_id, n=batch.n, folder=str(folder))
    return batch


def report(run: Run, outcome: Outcome | None = None) -> None:
    """Write the report and show its tables beside the run.

    Args:
        outcome: The outcome of the training in this run.
    """
    written = run.stage(write_report, run.project, run.record.run_id, outcome.held_out if outcome else None)
    run.share(*written.pages)
    if written.report.drift_is_news:
        notify(run.project, "drift", written.report.drift)
    run.show(lambda: report_artifacts(written.report))


def report_artifacts(report: Report) -> Iterator[Artifact]:
    """The report as a text and its tables."""
    from tasks.reporting.report_page import report_markdown

    yield Markdown("report", report.state, report_markdown(report))
    yield Table("learning-curve", "Every model on the evaluation items.", learning_curve_rows(report))
    yield Table("batches", "The answers of each batch.", batch_rows(report))


def publish_found(
    run: Run, words: str = "", like: str = "", n: Count = 50, by: By = "both", formats: tuple[FormatName, ...] = ()
) -> str:
    """Publish the items of the pool that match a search best; returns the batch's id.

    They are for training, and never count as drawn at random.

    Args:
        words: What to look for.
        like: The id of an item to find similar ones to, in place of words.
        n: Most items.
        by: What ranks them: words, meaning, or both.
        formats: Of its files; none for those in pal.toml.
    """
    project = run.project.with_formats(formats)
    refuse_lost_labels(project)
    run.stage(make_features, project)
    run.batch_id = run.stage(draw_found, project, Search(words, like, by), plan_next_batch(project), n)
    run.stage(publish_batches, project)
    run.rename(f"find {run.batch_id}")
    run.say(f"Published batch {run.batch_id}.")
    return run.batch_id
