"""The processes that `pal up` starts, and its state in `.prefect/`, by which they are found after it was killed."""

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
from storage.files.folders import write_whole
from tasks.project import Project

MAX_LOG_BYTES = 20_000_000
PATIENCE_S = 30.0
CLOCK_S = 1.0
"""Maximum difference between two readings of the start time of a process."""


@dataclass
class Child:
    """A process with a log file, the leader of its own process group.

    Attributes:
        log: The file that its output is appended to.
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
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Terminate the process, wait, and kill the remaining processes of its group."""
        if not self.ended:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
        end_group(self.process.pid, self.folder)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_S)


def start(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> Child:
    """Start a process in its own group, so that Ctrl-C in the terminal does not reach it."""
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
    """Return the start time of a process in s since 1970, which identifies it together with its pid; 0 without one."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return 0.0


def is_same(pid: int, born: float) -> bool:
    """Whether a process is the one that was started then, and not a later one with the same pid."""
    return born > 0 and abs(born_at(pid) - born) < CLOCK_S


def group_of(leader: int, folder: Path) -> list[psutil.Process]:
    """Return the running processes of a group that `start` created in a folder, including the leader.

    The folder distinguishes them from those of a copy of the workspace, whose `.prefect/up.json` has the same pids.
    """
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has just ended, or belongs to another user
            if os.getpgid(process.pid) == leader and Path(process.cwd()) == folder and born_at(process.pid):
                members.append(process)
    return members


def end_group(leader: int, folder: Path) -> int:
    """Kill the processes of a group; return their number."""
    members = group_of(leader, folder)
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(members, PATIENCE_S)
    return len(members)


@dataclass(frozen=True)
class Up:
    """The state of `pal up`, as saved in `.prefect/up.json`.

    Attributes:
        pid: The process of `pal up`.
        api: The API URL of the server.
        ui: The URL of the UI.
        ready: Whether server and worker are running.
        groups: The process groups of server and worker: name -> pid and start time of the leader.
    """

    pid: int
    api: str
    ui: str
    ready: bool = False
    groups: dict[str, tuple[int, float]] = field(default_factory=dict)


def up_file(project: Project) -> Path:
    """Return the path of the state of `pal up`."""
    return project.workspace.root / ".prefect" / "up.json"


def write_up(project: Project, up: Up) -> None:
    """Save the state of `pal up`, completely or not at all."""
    write_whole(up_file(project), json.dumps(asdict(up), indent=1).encode())


@contextmanager
def held(project: Project) -> Iterator[bool]:
    """Hold the lock of `pal up` of a workspace; yields False if another process holds it."""
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
    """Return the last saved state of `pal up`; None if it was stopped or never started."""
    try:
        values = json.loads(up_file(project).read_text(encoding="utf-8"))
        groups = {name: (int(pid), float(born)) for name, (pid, born) in values.pop("groups").items()}
        return Up(**values, groups=groups)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def is_running(project: Project, up: Up) -> bool:
    """Whether the server that `pal up` started (or for an external server the worker) is still the same process.

    After a crash of the machine, its pid may belong to another process; in a copy of a workspace, to the original.
    """
    pid, born = up.groups.get("server") or up.groups.get("worker") or (0, 0.0)
    return is_same(pid, born) and any(process.pid == pid for process in group_of(pid, project.workspace.root))


def end_left(project: Project) -> int:
    """Kill the server and the worker that a killed `pal up` left running; return the number of processes."""
    up = found_up(project)
    ended = 0
    for pid, born in up.groups.values() if up else ():
        if not born_at(pid) or is_same(pid, born):  # else the pid now belongs to another process
            ended += end_group(pid, project.workspace.root)
    up_file(project).unlink(missing_ok=True)
    return ended


def stop_up(project: Project) -> bool:
    """Stop the `pal up` of a workspace and wait until all processes have ended; return False if nothing was up."""
    with held(project) as free:
        if free:
            return end_left(project) > 0
    up = found_up(project)
    if up is not None:
        os.kill(up.pid, signal.SIGTERM)
    deadline = time.monotonic() + 3 * PATIENCE_S
    while time.monotonic() < deadline:
        with held(project) as free:
            if free:
                return True
        time.sleep(0.2)
    pid = up.pid if up else "PID"
    raise ServiceError(f"Process {pid} of pal up does not stop.", hint=f"Kill it: kill -9 {pid}")
