"""Flow `change-labels`: labels renamed, merged, split, retired or added, and the items to ask again published."""

from __future__ import annotations

import dataclasses

from flows.run import Run
from tasks.config.load import read_config
from tasks.project import refuse_lost_labels
from tasks.relabel import Relabeling, relabel
from tasks.sample import publish_batches


def change_labels(run: Run, planned: Relabeling, ask: bool) -> str | None:
    """Make a change of labels; returns the id of the batch of items to ask again, if one was published.

    Args:
        ask: Publish the items to ask again.
    """
    project = run.project
    run.rename(f"{planned.edit.kind} {', '.join(planned.edit.labels or planned.edit.into)}")
    run.batch_id = run.stage(relabel, project, planned, ask=ask)
    if run.batch_id:
        changed = dataclasses.replace(project, config=read_config(project.workspace.config_file))
        run.stage(publish_batches, changed)
        run.say(f"Published batch {run.batch_id}.")
    return run.batch_id


def ask_again(run: Run) -> str | None:
    """Publish the items whose label was retired or split; returns the batch's id, or nothing where there are none."""
    from tasks.ask_again import draw_unlabelled  # torch takes seconds to import

    refuse_lost_labels(run.project)
    run.batch_id = run.stage(draw_unlabelled, run.project)
    run.stage(publish_batches, run.project)
    run.say(f"Published batch {run.batch_id}." if run.batch_id else "No item lost its label.")
    return run.batch_id
