"""Flow `adjudicate`: publish items on which annotators disagree or were unsure, with the answers so far."""

from __future__ import annotations

from flows.run import FormatName, Run, Size
from tasks.ask_again import draw_disputed
from tasks.project import refuse_lost_labels
from tasks.sample import publish_batches


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
