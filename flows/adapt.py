"""Flow `adapt`: an encoder of this workspace's own, from its pool and its training items."""

from __future__ import annotations

from prefect import flow

from flows.engine import begin
from flows.forms import Count, Seed
from flows.notify import failure_told
from tasks.adapt import Adaptation, adapt_encoder


@flow(name="adapt", flow_run_name="adapt to {texts} texts", on_failure=[failure_told], on_crashed=[failure_told])
def adapt(
    workspace: str,
    texts: Count = Adaptation.texts,
    labels: bool = True,
    teacher: str = "",
    seed: Seed = 0,
) -> str:
    """Adapt an encoder; run again after it was cut off, it goes on. Returns its encoder_id.

    Args:
        workspace: The project's directory.
        texts: The most texts of the pool to read; a random sample, where it has more.
        labels: Whether the sentence encoder learns from the training items first.
        teacher: The directory of another sentence encoder; a relative one starts at the workspace.
        seed: Of everything random.
    """
    project = begin(workspace)
    folder = project.workspace.root / teacher if teacher else None
    how = Adaptation(texts=texts, labels=labels, seed=seed)
    return adapt_encoder(project.workspace, project.config.task, how, folder, project.config.scale)
