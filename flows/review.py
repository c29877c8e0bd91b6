"""Flow `review`: training items that are probably mislabelled go out again."""

from __future__ import annotations

from prefect import flow

from flows.engine import begin
from tasks.prepare import make_features
from tasks.publish import publish_batches
from tasks.review import Method, draw_review


@flow(name="review", flow_run_name="review")
def review(
    workspace: str, n: int | None = None, method: Method = "confident-learning", formats: list[str] | None = None
) -> str | None:
    """Publish training items to ask about again; returns the batch's id, or nothing where nothing is to be asked again.

    Args:
        workspace: The project's directory.
        n: Most items; `[batch] size` from pal.toml where left empty.
        method: How items are chosen: labels that cross-validated models hold for wrong, or what an answer is worth.
        formats: Of its files; from pal.toml where left empty.
    """
    project = begin(workspace)
    config, asking = project.config, project.config.batch.with_formats(formats)
    make_features(project.workspace, config.model.encoder)
    batch_id = draw_review(
        project.workspace, config.task, config.model.encoder, config.model.training, asking, n, method
    )
    publish_batches(project.workspace, config.task)
    return batch_id
