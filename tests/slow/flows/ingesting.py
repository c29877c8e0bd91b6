"""An ingest in a process of its own; a module of few imports, since each such process begins with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from waiting import PATIENCE_S

from tasks.project import open_project


def ingest_there(root: Path, gate: Any) -> None:
    """Ingest all that waits in a workspace, at the same moment as another process at this gate."""
    from flows.ingest import ingest
    from flows.run import run_here

    project = open_project(root)
    gate.wait(PATIENCE_S)
    run_here(project, ingest)
