"""Flow `adapt`: an encoder of this workspace's own, from its pool and its training items."""

from __future__ import annotations

from flows.forms import Count, Seed
from flows.run import Run
from tasks.adapt import Adaptation, adapt_encoder


def adapt(
    run: Run,
    texts: Count = Adaptation.texts,
    labels: bool = True,
    teacher: str = "",
    seed: Seed = 0,
) -> str:
    """Adapt an encoder; run again after it was cut off, it goes on. Returns its encoder_id.

    Args:
        texts: The most texts of the pool to read; a random sample, where it has more.
        labels: Whether the sentence encoder learns from the training items first.
        teacher: The directory of another sentence encoder; a relative one starts at the workspace.
        seed: Of everything random.
    """
    project = run.project
    folder = project.workspace.root / teacher if teacher else None
    how = Adaptation(texts=texts, labels=labels, seed=seed)
    return adapt_encoder(project.workspace, project.config.task, how, folder, project.config.scale)
