"""What `pal up` left is found again, one alone holds a workspace, and somebody else's processes are left alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from waiting import until

from flows.server.processes import Up, born_at, end_left, found_up, held, start, stop_up, up_file, write_up
from flows.server.service import Service
from storage.errors import ServiceError
from tasks.project import Project

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
GONE = "http://127.0.0.1:9/api"


@pytest.fixture
def folder(project: Project) -> Path:
    """Where the state lies."""
    up_file(project).parent.mkdir()
    return up_file(project).parent


def test_the_state_reads_back_and_a_damaged_one_is_none(project: Project, folder: Path) -> None:
    assert found_up(project) is None
    up = Up(7, GONE, "http://127.0.0.1:9/v2", True, {"server": (8, 1764489600.25)})
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


def test_what_a_killed_one_left_is_ended_but_not_what_has_its_number_by_now_nor_a_copys(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    root = project.workspace.root
    ours, later, original = (
        start(SLEEP, tmp_path / f"{k}.log", os.environ, place) for k, place in enumerate((root, root, tmp_path))
    )
    pids = [child.process.pid for child in (ours, later, original)]
    until(lambda: all(map(born_at, pids)))
    born = born_at(pids[0]), born_at(pids[1]) - 60, born_at(pids[2])
    write_up(project, Up(1, GONE, "", True, dict(zip("abc", zip(pids, born, strict=True), strict=True))))
    assert end_left(project) == 1
    assert (born_at(pids[0]), found_up(project)) == (0.0, None)
    assert born_at(pids[1])
    assert born_at(pids[2])
    for child in (ours, later, original):
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


def test_a_server_for_the_network_needs_a_password(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    with pytest.raises(ServiceError, match=r"0\.0\.0\.0") as raised:
        Service(project, host="0.0.0.0")._check_access()
    assert "export PREFECT_SERVER_API_AUTH_STRING=" in raised.value.hint
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "admin:secret")
    Service(project, host="0.0.0.0")._check_access()
