"""Flow `review`: training items that are probably mislabelled go out again."""

from __future__ import annotations

from flows.forms import FormatName, Size
from flows.run import Run
from tasks.prepare import make_features
from tasks.publish import publish_batches
from tasks.review import Method, draw_review


def review(
    run: Run, n: Size = 0, method: Method = "confident-learning", formats: tuple[FormatName, ...] = ()
) -> str | None:
    """Publish training items to ask about again; returns the batch's id, or nothing where nothing is to be asked again.

    Args:
        n: Most items; 0 for `[batch] size` in pal.toml.
        method: How items are chosen: labels that cross-validated models hold for wrong, or what an answer is worth.
        formats: Of its files; none for those in pal.toml.
    """
    project = run.project
    config, asking = project.config, project.config.batch.with_formats(formats)
    make_features(project.workspace, config.model.encoder)
    batch_id = draw_review(
        project.workspace, config.task, config.model.encoder, config.model.training, asking, n or None, method
    )
    publish_batches(project.workspace, config.task)
    return batch_id
