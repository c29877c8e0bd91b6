"""Flow `adjudicate`: what annotators disagree on, or were unsure of, goes out again with the answers so far."""

from __future__ import annotations

from prefect import flow

from flows.engine import begin
from tasks.adjudicate import draw_disputed
from tasks.publish import publish_batches


@flow(name="adjudicate", flow_run_name="adjudicate")
def adjudicate(workspace: str, n: int | None = None, formats: list[str] | None = None) -> str | None:
    """Publish the disputed items for an adjudicator; returns the batch's id, or nothing where nothing is disputed.

    Args:
        workspace: The project's directory.
        n: Most items; `[batch] size` from pal.toml where left empty.
        formats: Of its files; from pal.toml where left empty.
    """
    project = begin(workspace)
    asking = project.config.batch.with_formats(formats)
    batch_id = draw_disputed(project.workspace, project.config.task, asking, n)
    publish_batches(project.workspace, project.config.task)
    return batch_id
