"""Processes that `pal up` starts: known again after it was killed itself, and ended with all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
