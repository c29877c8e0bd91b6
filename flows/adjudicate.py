"""Flow `adjudicate`: what annotators disagree on, or were unsure of, goes out again with the answers so far."""

from __future__ import annotations

from prefect import flow

from flows.engine import begin
from flows.forms import FormatName, Size
from flows.notify import failure_told
from flows.run_names import name_after, name_at_start
from tasks.adjudicate import draw_disputed
from tasks.publish import publish_batches


@flow(name="adjudicate", flow_run_name=name_at_start, on_failure=[failure_told], on_crashed=[failure_told])
def adjudicate(workspace: str, n: Size = 0, formats: tuple[FormatName, ...] = ()) -> str | None:
    """Publish the disputed items for an adjudicator; returns the batch's id, or nothing where nothing is disputed.

    Args:
        workspace: The project's directory.
        n: Most items; 0 for `[batch] size` in pal.toml.
        formats: Of its files; none for those in pal.toml.
    """
    project = begin(workspace)
    asking = project.config.batch.with_formats(formats)
    batch_id = draw_disputed(project.workspace, project.config.task, asking, n or None)
    publish_batches(project.workspace, project.config.task)
    name_after(project.workspace.store(), batch_id)
    return batch_id
