"""What `pal up` left is found again, one alone holds a workspace, and somebody else's processes are left alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from waiting import until

from flows.server.processes import command_of, start
from flows.server.service import Service
from flows.server.up_state import Up, end_left, found_up, held, stop_up, up_file, write_up
from storage.errors import ServiceError
from tasks.project import Project

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)  # prefect"]
GONE = "http://127.0.0.1:9/api"


@pytest.fixture
def folder(project: Project) -> Path:
    """Where the state lies."""
    up_file(project).parent.mkdir()
    return up_file(project).parent


def test_the_state_reads_back_and_a_damaged_one_is_none(project: Project, folder: Path) -> None:
    assert found_up(project) is None
    up = Up(7, GONE, "http://127.0.0.1:9/v2", True, {"server": (8, "prefect server")})
    write_up(project, up)
    assert found_up(project) == up
    for damaged in ("", "[]", '{"pid": 1}', '{"groups": 3}'):
        up_file(project).write_text(damaged, encoding="utf-8")
        assert found_up(project) is None


def test_only_one_holds_a_workspace(project: Project) -> None:
    with held(project) as first, held(project) as second:
        assert (first, second) == (True, False)
    with held(project) as again:
        assert again


@pytest.mark.skipif(os.name == "nt", reason="groups of processes are POSIX")
def test_what_a_killed_one_left_is_ended_but_not_what_has_its_number_by_now(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    ours, other = (start(SLEEP, tmp_path / f"{k}.log", os.environ, tmp_path) for k in range(2))
    until(lambda: command_of(ours.process.pid) and command_of(other.process.pid))
    groups = {"server": (ours.process.pid, " ".join(SLEEP)), "worker": (other.process.pid, "prefect worker start")}
    write_up(project, Up(1, GONE, "", True, groups))
    assert end_left(project) == 1
    assert (command_of(ours.process.pid), found_up(project)) == (None, None)
    assert command_of(other.process.pid) is not None
    for child in (ours, other):
        child.stop()
    assert stop_up(project) is False


def test_a_port_in_use_is_told_with_the_next_one(project: Project) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"\b{port}\b.*127\.0\.0\.1") as raised:
            Service(project, port=port)._start_server()
    assert f"pal up --port {port + 1}" in raised.value.hint
