"""Flow `publish-found`: items of the pool that a search finds become a training batch."""

from __future__ import annotations

from flows.run import Count, FormatName, Run
from tasks.draw_found import draw_found
from tasks.find import By, Search
from tasks.plan import plan_next_batch
from tasks.prepare import make_features
from tasks.project import refuse_lost_labels
from tasks.sample import publish_batches


def publish_found(
    run: Run, words: str = "", like: str = "", n: Count = 50, by: By = "both", formats: tuple[FormatName, ...] = ()
) -> str:
    """Publish the items of the pool that match a search best; returns the batch's id.

    They are for training, and never count as drawn at random.

    Args:
        words: What to look for.
        like: The id of an item to find similar ones to, in place of words.
        n: Most items.
        by: What ranks them: words, meaning, or both.
        formats: Of its files; none for those in pal.toml.
    """
    project = run.project.with_formats(formats)
    refuse_lost_labels(project)
    run.stage(make_features, project)
    run.batch_id = run.stage(draw_found, project, Search(words, like, by), plan_next_batch(project), n)
    run.stage(publish_batches, project)
    run.rename(f"find {run.batch_id}")
    run.say(f"Published batch {run.batch_id}.")
    return run.batch_id
