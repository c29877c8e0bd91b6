"""A command of a process of its own whose `ingest` run takes as long as a file is there: `WORKSPACE FILE API`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flows.log_lines import listen
from flows.run import Run
from flows.server.command_runs import run_deployment
from tasks.project import open_project


def wait_until_gone(path: Path) -> None:
    print("In the stage.", flush=True)
    while path.exists():
        time.sleep(0.1)


def ingest(run: Run, path: str) -> str:
    """Wait.

    Args:
        path: The file.
    """
    run.rename(f"ingest while {Path(path).name} is there")
    run.stage(wait_until_gone, Path(path))
    return path


if __name__ == "__main__":
    listen()
    print(run_deployment(sys.argv[3], open_project(Path(sys.argv[1])), ingest, path=sys.argv[2]))
