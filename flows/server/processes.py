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

from filelock import FileLock, Timeout

from storage.errors import ServiceError
from tasks.project import Project

MAX_LOG_BYTES = 20_000_000
PATIENCE_S = 30.0


@dataclass
class Child:
    """A process with a log file, at the head of a group of its own.

    Attributes:
        log: Its output, from the start of this process on after what was there.
    """

    command: Sequence[str]
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
        end_group(self.process.pid)
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
    return Child(command, log, process)


def command_of(pid: int) -> str | None:
    """The command line of a process; None where there is none of that number."""
    path = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self").exists():
        try:
            return path.read_bytes().decode(errors="replace").rstrip("\0").replace("\0", " ") or None
        except OSError:
            return None
    if os.name == "nt":
        return None
    found = subprocess.run(["ps", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def group_of(leader: int) -> list[int]:
    """The living processes of a group, the leader included, that run Prefect."""
    if os.name == "nt":
        return []
    if Path("/proc/self").exists():
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    else:
        listed = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=False).stdout
        pids = [int(word) for word in listed.split()]
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            if os.getpgid(pid) == leader and "prefect" in (command_of(pid) or ""):
                found.append(pid)
    return found


def end_group(leader: int) -> int:
    """End the processes of a group at once; returns how many there were."""
    found = group_of(leader)
    for pid in found:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and any(command_of(pid) for pid in found):
        time.sleep(0.05)
    return len(found)


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
