"""Flow `nightly`: ingest, train, evaluate, promote or keep, publish a batch if none is open, and write a report."""

from __future__ import annotations

import logging
from datetime import datetime

from flows.next_batch import find_open_batch, publish_next, report, train_and_promote
from flows.run import Run
from storage.lake.items import count_pool
from storage.records import RunRecord
from tasks.collect import collect_answers
from tasks.plan import plan_next_batch
from tasks.prepare import make_features
from tasks.project import refuse_lost_labels
from tasks.sample import publish_batches
from tasks.sentence_vectors import make_sentence_vectors, vectors_are_due

log = logging.getLogger(__name__)


def nightly(run: Run) -> str | None:
    """Do everything except annotation; returns the id of the batch that is open afterwards, or None.

    If nothing is new since the last complete run, it ends early. The work of a crashed run is completed.
    """
    project = run.project
    run.rename(f"nightly {datetime.now(project.config.schedule.zone):%Y-%m-%d}")
    refuse_lost_labels(project)
    run.stage(publish_batches, project)
    run.stage(collect_answers, project)
    if last := run.last_without_news():
        repeat(run, last)
        run.complete_work()
        make_missing_vectors(run)
        return run.batch_id
    run.stage(make_features, project)
    plan = plan_next_batch(project)
    outcome = train_and_promote(run, at_night=True) if plan.active else None
    if batch := find_open_batch(project):
        run.batch_id = batch.batch_id
        run.say(f"Batch {batch.batch_id} is still open.")
    elif count_pool(project.store):
        publish_next(run, project, plan, outcome.model if outcome else None, seed=None, beside_open=False)
    else:
        log.warning("The pool is empty, so there is nothing to annotate. Add texts: pal import FILE")
    run.complete_work()
    report(run, outcome)
    make_missing_vectors(run)
    return run.batch_id


def make_missing_vectors(run: Run) -> None:
    """Make the sentence vectors for which there was no time before."""
    if vectors_are_due(run.project):
        run.stage(make_sentence_vectors, run.project)


def repeat(run: Run, last: RunRecord) -> None:
    """Report that nothing is new, and keep the model and the batch of the last run."""
    run.model_id, run.batch_id = last.model_id, last.batch_id
    since = f"Nothing new since the run of {last.started_at:%Y-%m-%d %H:%M} UTC"
    run.say(f"{since}; batch {last.batch_id} is still open." if last.batch_id else f"{since}.")
