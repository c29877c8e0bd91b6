"""Flows `review` and `adjudicate`: query answered items again, those probably mislabeled or those disputed."""

from __future__ import annotations

from flows.run import FormatName, Run, Size
from tasks.ask_again import Method, draw_disputed, draw_review
from tasks.prepare import make_features
from tasks.project import refuse_lost_labels
from tasks.sample import publish_batches


def review(
    run: Run, n: Size = 0, method: Method = "confident-learning", formats: tuple[FormatName, ...] = ()
) -> str | None:
    """Publish training items for another answer; returns the batch's id, or None if no item needs one.

    Args:
        n: Maximum number of items; 0 for `[batch] size` in pal.toml.
        method: How items are chosen: by labels that cross-validated models contradict, or by the value of an answer.
        formats: Formats of the batch files; none for those in pal.toml.
    """
    project = run.project.with_formats(formats)
    refuse_lost_labels(project)
    run.stage(make_features, project)
    run.batch_id = run.stage(draw_review, project, n, method)
    run.stage(publish_batches, project)
    run.rename(f"review {run.batch_id or ''}".strip())
    run.say(f"Published batch {run.batch_id}." if run.batch_id else "No training item needs another answer.")
    return run.batch_id


def adjudicate(run: Run, n: Size = 0, formats: tuple[FormatName, ...] = ()) -> str | None:
    """Publish the disputed items for an adjudicator; returns the batch's id, or None if no item is disputed.

    Args:
        n: Maximum number of items; 0 for `[batch] size` in pal.toml.
        formats: Formats of the batch files; none for those in pal.toml.
    """
    project = run.project.with_formats(formats)
    refuse_lost_labels(project)
    run.batch_id = run.stage(draw_disputed, project, n)
    run.stage(publish_batches, project)
    run.rename(f"adjudicate {run.batch_id or ''}".strip())
    run.say(f"Published batch {run.batch_id}." if run.batch_id else "Nothing is disputed.")
    return run.batch_id
