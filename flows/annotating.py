"""A person at the terminal: one batch, or the original's whole loop in one process."""

from __future__ import annotations

import sys

from annotation.batch import contents_of, handouts, write_batch
from annotation.formats.journal import Journal, journal_path
from annotation.inbox import waiting_answers
from annotation.keys import line_keys, terminal_keys
from annotation.terminal import Tally, annotate
from flows.ingest import ingest
from flows.next_batch import next_batch
from flows.run import start
from storage.errors import BatchError
from storage.files.folders import MANIFEST
from storage.lake.batches import answered_in, find_batch, published_batches
from storage.lake.models import metrics_of, production_model
from storage.records import BatchStatus, Split
from tasks.project import Project


def annotate_batch(project: Project, batch_id: str | None, annotator: str) -> Tally:
    """Ask for a batch's unanswered items; the answers go to a journal in the batch's folder.

    Raises:
        BatchError: No batch is open, or there is none with this id.
    """
    project.workspace.pull()
    store = project.workspace.store()
    if batch_id is None:
        opened = published_batches(store)
        if not opened:
            raise BatchError("no batch is open.", hint="publish one: pal next")
        batch_id = opened[0].batch_id
    batch = find_batch(store, batch_id).batch
    folder, task = project.workspace.batches / batch_id, project.config.task
    contents = contents_of(store, batch)
    if batch.status is BatchStatus.PUBLISHED:  # its files may have been lost
        write_batch(folder, batch, contents, task)
    elif not (folder / MANIFEST).is_file():
        raise BatchError(
            f"batch {batch_id} has no files: it was imported, or its folder is gone.", hint="open batches: pal status"
        )
    mine = {handout.annotator: handout.items for handout in handouts(batch, contents, task)}
    whose = annotator if contents.assignments else None
    if whose is not None and whose not in mine:
        raise BatchError(
            f"batch {batch_id} asks {annotator!r} about nothing.",
            hint=f"its annotators: --annotator {' | '.join(mine)}",
        )
    answered = answered_in(store, batch_id, whose)
    for answer in waiting_answers(project.workspace, batch_id, task):
        if whose in (None, answer.annotator):
            answered[answer.item_id] = answer.answer
    try:
        with Journal(journal_path(folder, annotator)) as journal:
            return annotate(
                mine[whose or ""],
                answered,
                task,
                journal,
                batch_id=batch_id,
                annotator=annotator,
                keys=terminal_keys(sys.stdin) if sys.stdin.isatty() else line_keys(sys.stdin),
                out=sys.stdout,
            )
    finally:
        project.workspace.push()


def loop_at_terminal(project: Project, annotator: str, n: int | None) -> None:
    """Next batch, questions, ingest, train and report, until the annotator leaves before the end of a batch."""
    while True:
        batch_id = start(project, next_batch, n or 0)
        _report(project)
        tally = annotate_batch(project, batch_id, annotator)
        start(project, ingest)
        if not tally.finished:
            print("saved; go on with: pal loop")
            return


def _report(project: Project) -> None:
    """F-score and AUC of the production model, as the original told them after every iteration."""
    store = project.workspace.store()
    model = production_model(store)
    if model is not None:
        figures = metrics_of(store, model.model_id, Split.EVALUATION)
        said = ", ".join(str(figures[name]) for name in ("f1", "auc") if name in figures)
        print(f"model of {model.n_training:,} labels: {said}")
