"""An ingest in a process of its own; a module of few imports, since each such process begins with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.config import open_project


def ingest_there(root: Path, gate: Any) -> None:
    """Ingest all that waits in a workspace, at the same moment as another process at this gate."""
    from tasks.collect import collect_answers

    project = open_project(root)
    gate.wait(120)
    project.workspace.pull()
    collect_answers(project)
    project.workspace.push()
