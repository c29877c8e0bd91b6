"""Processes that `pal up` starts, found again after it was killed itself, and the state it keeps in `.prefect/`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from storage.errors import ServiceError
from tasks.project import Project

MAX_LOG_BYTES = 20_000_000
PATIENCE_S = 30.0
CLOCK_S = 1.0
"""By how much two readings of the time at which a process began may differ."""


@dataclass
class Child:
    """A process with a log file, at the head of a group of its own.

    Attributes:
        log: Its output, from the start of this process on after what was there.
    """

    command: Sequence[str]
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ask it to end, wait, and end what is left of its group."""
        if not self.ended:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
        end_group(self.process.pid, self.folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_S)


def start(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> Child:
    """Start a process in a group of its own, so that Ctrl-C in the terminal is not meant for it."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        os.replace(log, log.with_suffix(".old.log"))  # noqa: PTH105
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Child(command, folder.resolve(), log, process)


def born_at(pid: int) -> float:
    """When a process began, in seconds since 1970; 0 where there is none. With its number, that identifies it."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0.0


def is_same(pid: int, born: float) -> bool:
    """Whether a process is still the one that began then, and not a later one with its number."""
    return born > 0 and abs(born_at(pid) - born) < CLOCK_S


def group_of(leader: int, folder: Path) -> list[psutil.Process]:
    """The living processes of a group that `start` began in a folder, the leader included.

    The folder tells them from those of a copy of the workspace, whose `.prefect/up.json` names the same numbers.
    """
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has just ended, or is somebody else's
            if os.getpgid(process.pid) == leader and Path(process.cwd()) == folder and born_at(process.pid):
                members.append(process)
    return members


def end_group(leader: int, folder: Path) -> int:
    """End the processes of a group at once; returns how many there were."""
    members = group_of(leader, folder)
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(members, PATIENCE_S)
    return len(members)


@dataclass(frozen=True)
class Up:
    """What is up, as it stands in `.prefect/up.json`.

    Attributes:
        pid: Of `pal up`.
        ready: Whether everything is there.
        groups: Of the server's and the worker's processes: name -> pid of the leader, and when it began.
    """

    pid: int
    api: str
    ui: str
    ready: bool = False
    groups: dict[str, tuple[int, float]] = field(default_factory=dict)


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
        groups = {name: (int(pid), float(born)) for name, (pid, born) in values.pop("groups").items()}
        return Up(**values, groups=groups)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def is_running(project: Project, up: Up) -> bool:
    """Whether the server that `pal up` started (of a server of one's own: the worker) is the process it was.

    After a crash of the machine its address may be another workspace's; in a copy of a workspace it is the original's.
    """
    pid, born = up.groups.get("server") or up.groups.get("worker") or (0, 0.0)
    return is_same(pid, born) and any(process.pid == pid for process in group_of(pid, project.workspace.root))


def end_left(project: Project) -> int:
    """End the server and the worker that a killed `pal up` left; returns how many processes that were."""
    left = found_up(project)
    ended = 0
    for pid, born in left.groups.values() if left else ():
        if not born_at(pid) or is_same(pid, born):  # else the number is somebody else's by now
            ended += end_group(pid, project.workspace.root)
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
