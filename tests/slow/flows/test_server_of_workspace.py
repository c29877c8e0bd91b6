"""The server that pal up started for a workspace is the one that commands use."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from test_up_state import GONE, folder

from flows.server.command_runs import running_server
from flows.server.processes import Up, born_at, start, write_up
from storage.errors import ServiceError
from tasks.project import Project


def test_the_server_of_the_workspace_is_used_where_it_answers(
    project: Project, folder: Path, prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings import PREFECT_API_URL

    api = str(PREFECT_API_URL.value())
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert running_server(project) is None
    root = project.workspace.root
    child = start(["sleep", "600"], root / "child.log", os.environ, root)
    born = born_at(child.process.pid)
    mine = {"server": (child.process.pid, born)}
    write_up(project, Up(1, api, "", True, mine))
    assert running_server(project) == api
    write_up(project, Up(1, api, "", True, {"server": (child.process.pid, born - 60)}))
    assert running_server(project) is None, "left by a crash; somebody else's server answers there"
    write_up(project, Up(1, api, "", True, {"server": (os.getpid(), born_at(os.getpid()))}))
    assert running_server(project) is None, "a copy of the workspace: the process runs in another folder"
    write_up(project, Up(1, GONE, "", True, mine))
    assert running_server(project) is None
    child.stop()
    monkeypatch.setenv("PREFECT_API_URL", GONE)
    with pytest.raises(ServiceError, match=re.escape(GONE)):
        running_server(project)
