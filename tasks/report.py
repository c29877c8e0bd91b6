"""Stage `report`: placeholder until the real one is written."""

from __future__ import annotations

from pathlib import Path

from prefect import task

from annotation.label_set import LabelSet
from storage.workspace import Workspace


@task
def write_report(workspace: Workspace, label_set: LabelSet, run_id: str) -> Path:
    """Placeholder."""
    return workspace.reports / f"{run_id}.html"
