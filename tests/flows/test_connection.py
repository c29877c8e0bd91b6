"""Which Prefect server commands use, and its settings; no server is started here."""

from __future__ import annotations

import json
import socket
import tomllib
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest
from waiting import QuietHandler, serving

from flows.server.command_runs import SETTINGS, running_server
from storage.errors import ServiceError
from tasks.project import Project

ROOT = Path(__file__).parents[2]


class Healthy(QuietHandler):
    """Answers as a Prefect server's health check."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()


@pytest.fixture
def healthy() -> Iterator[str]:
    """The address of a server that answers."""
    with serving(HTTPServer(("127.0.0.1", 0), Healthy)) as server:
        yield f"http://127.0.0.1:{server.server_port}/api"


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nothing answers: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/api"


@pytest.fixture
def no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """PREFECT_API_URL is not set, and afterwards as it was."""
    monkeypatch.setenv("PREFECT_API_URL", "")
    monkeypatch.delenv("PREFECT_API_URL")


def test_a_url_where_nothing_answers_is_an_error_with_both_ways_out(
    project: Project, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", nobody)
    with pytest.raises(ServiceError) as raised:
        running_server(project)
    assert nobody in raised.value.what
    assert "prefect server start" in raised.value.hint
    assert "unset PREFECT_API_URL" in raised.value.hint


@pytest.mark.usefixtures("no_url")
def test_without_a_url_and_pal_up_there_is_no_server(project: Project) -> None:
    assert running_server(project) is None


def test_settings_are_ones_that_prefect_knows() -> None:
    import prefect.settings

    assert [name for name in SETTINGS if name.startswith("PREFECT") and not hasattr(prefect.settings, name)] == []


def test_settings_agree_with_pyproject() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["prefect"]

    def flat(prefix: str, value: object) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from flat(f"{prefix}_{name.upper()}", inner)
        else:
            yield prefix, value if isinstance(value, str) else json.dumps(value)

    there = dict(flat("PREFECT", table))
    shared = SETTINGS.keys() & there.keys()
    assert len(shared) >= 4
    assert {name: there[name] for name in shared} == {name: SETTINGS[name] for name in shared}


def test_a_server_that_answers_at_the_url_is_used(
    project: Project, healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", healthy)
    assert running_server(project) == healthy


def test_what_answers_but_is_no_prefect_server_is_refused(
    project: Project, healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", healthy.replace("/api", "/else"))
    with pytest.raises(ServiceError):
        running_server(project)
