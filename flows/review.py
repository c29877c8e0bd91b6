"""Flow `review`: training items that are probably mislabelled go out again."""

from __future__ import annotations

from prefect import flow

from flows.engine import begin
from flows.forms import FormatName, Size
from flows.notify import failure_told
from flows.run_names import name_after, name_at_start
from tasks.prepare import make_features
from tasks.publish import publish_batches
from tasks.review import Method, draw_review


@flow(name="review", flow_run_name=name_at_start, on_failure=[failure_told], on_crashed=[failure_told])
def review(
    workspace: str, n: Size = 0, method: Method = "confident-learning", formats: tuple[FormatName, ...] = ()
) -> str | None:
    """Publish training items to ask about again; returns the batch's id, or nothing where nothing is to be asked again.

    Args:
        workspace: The project's directory.
        n: Most items; 0 for `[batch] size` in pal.toml.
        method: How items are chosen: labels that cross-validated models hold for wrong, or what an answer is worth.
        formats: Of its files; none for those in pal.toml.
    """
    project = begin(workspace)
    config, asking = project.config, project.config.batch.with_formats(formats)
    make_features(project.workspace, config.model.encoder)
    batch_id = draw_review(
        project.workspace, config.task, config.model.encoder, config.model.training, asking, n or None, method
    )
    publish_batches(project.workspace, config.task)
    name_after(project.workspace.store(), batch_id)
    return batch_id
