"""What `pal up` of a workspace left in `.prefect/`: where its server is, and which processes are its own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from flows.server.processes import PATIENCE_S, command_of, end_group
from storage.errors import ServiceError
from tasks.project import Project


@dataclass(frozen=True)
class Up:
    """What is up, as it stands in `.prefect/up.json`.

    Attributes:
        pid: Of `pal up`.
        ready: Whether everything is there.
        groups: Of the server's and the worker's processes: name -> pid of the leader, and its command.
    """

    pid: int
    api: str
    ui: str
    ready: bool = False
    groups: dict[str, tuple[int, str]] = field(default_factory=dict)


def up_file(project: Project) -> Path:
    """Where it is written down."""
    return project.workspace.root / ".prefect" / "up.json"


def write_up(project: Project, up: Up) -> None:
    """Write it down, whole or not at all."""
    path = up_file(project)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(up), indent=1), encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105


@contextmanager
def held(project: Project) -> Iterator[bool]:
    """Hold the place of the one `pal up` of a workspace; gives False where another holds it."""
    folder = up_file(project).parent
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / "up.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def found_up(project: Project) -> Up | None:
    """What the `pal up` of a workspace wrote down last; None where nothing was left up."""
    try:
        values = json.loads(up_file(project).read_text(encoding="utf-8"))
        groups = {name: (int(pid), str(command)) for name, (pid, command) in values.pop("groups").items()}
        return Up(**values, groups=groups)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def is_running(up: Up) -> bool:
    """Whether the server that `pal up` started (of a server of one's own: the worker) is the process it was.

    After a crash of the machine its address may be another workspace's.
    """
    pid, command = up.groups.get("server") or up.groups.get("worker") or (0, "")
    return bool(pid) and command_of(pid) == command


def end_left(project: Project) -> int:
    """End the server and the worker that a killed `pal up` left; returns how many processes that were."""
    left = found_up(project)
    ended = 0
    for pid, command in left.groups.values() if left else ():
        leader = command_of(pid)
        if leader is None or leader == command:  # else the number is somebody else's by now
            ended += end_group(pid)
    up_file(project).unlink(missing_ok=True)
    return ended


def stop_up(project: Project) -> bool:
    """Stop the `pal up` of a workspace and wait until everything is gone; False where nothing was up."""
    with held(project) as free:
        if free:
            return end_left(project) > 0
    left = found_up(project)
    if left is not None:
        os.kill(left.pid, signal.SIGTERM)
    deadline = time.monotonic() + 3 * PATIENCE_S
    while time.monotonic() < deadline:
        with held(project) as free:
            if free:
                return True
        time.sleep(0.2)
    raise ServiceError(
        f"process {left.pid if left else '?'} does not stop.", hint=f"end it: kill -9 {left.pid if left else 'PID'}"
    )
