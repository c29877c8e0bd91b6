"""How flows run: settings, which Prefect server, and log lines; no server is started here."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows.engine import ROOMS, SETTINGS, listen, running_server, say
from storage.errors import ServiceError
from tasks.project import Project

ROOT = Path(__file__).parents[2]


class Healthy(BaseHTTPRequestHandler):
    """Answers as a Prefect server's health check."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def healthy() -> Iterator[str]:
    """The address of a server that answers."""
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


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


@pytest.fixture
def loggers() -> Iterator[None]:
    """The rooms' loggers without a handler, and afterwards as they were."""
    before = {room: (logging.getLogger(room).level, logging.getLogger(room).propagate) for room in ROOMS}
    handlers = {room: logging.getLogger(room).handlers for room in ROOMS}
    for room in ROOMS:
        logging.getLogger(room).handlers = []
    yield
    for room in ROOMS:
        logger = logging.getLogger(room)
        logger.level, logger.propagate = before[room]
        logger.handlers = handlers[room]
        logger.manager._clear_cache()  # type: ignore[attr-defined]


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


@pytest.mark.usefixtures("loggers")
def test_log_lines_of_our_rooms_come_once_each_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    others = io.StringIO()
    console = logging.StreamHandler(others)
    logging.getLogger().addHandler(console)
    try:
        listen()
        listen()
        logging.getLogger("tasks.collect").info("%d new", 3)
        logging.getLogger("storage.store").warning("slow")
        logging.getLogger("annotation").debug("too much")
    finally:
        logging.getLogger().removeHandler(console)
    assert capsys.readouterr() == ("", "  3 new\n  warning: slow\n")
    assert others.getvalue() == "", "nor a second time by somebody else's handler"


@pytest.mark.usefixtures("loggers")
def test_log_lines_are_json_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAL_LOG", "json")
    listen()
    say("Prefect run: somewhere")
    logging.getLogger("tasks.train").warning('%s "items"\nleft out', 3)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [("INFO", "flows.engine"), ("WARNING", "tasks.train")]
    assert lines[1]["message"] == '3 "items"\nleft out'
    assert all(line["time"].endswith("+00:00") for line in lines)
