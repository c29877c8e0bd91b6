"""Flow `adjudicate`: what annotators disagree on, or were unsure of, goes out again with the answers so far."""

from __future__ import annotations

from flows.forms import FormatName, Size
from flows.run import Run
from tasks.adjudicate import draw_disputed
from tasks.publish import publish_batches


def adjudicate(run: Run, n: Size = 0, formats: tuple[FormatName, ...] = ()) -> str | None:
    """Publish the disputed items for an adjudicator; returns the batch's id, or nothing where nothing is disputed.

    Args:
        n: Most items; 0 for `[batch] size` in pal.toml.
        formats: Of its files; none for those in pal.toml.
    """
    project = run.project
    asking = project.config.batch.with_formats(formats)
    batch_id = run.stage(draw_disputed.fn, project.workspace, project.config.task, asking, n or None)
    run.stage(publish_batches.fn, project.workspace, project.config.task)
    run.rename(f"adjudicate {batch_id}")
    return batch_id
