"""How flows run: settings, which Prefect server, and log lines; no server is started here."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from flows import engine
from flows.engine import ROOMS, SETTINGS, listen
from storage.errors import PalError
from tasks.project import Project

ROOT = Path(__file__).parents[2]
RUN = """
import json, os, sys
from pathlib import Path
from flows.config import open_project
from flows.engine import SETTINGS, run
from storage.errors import PalError
try:
    run("ingest", open_project(Path(sys.argv[1])))
except PalError as error:
    found = {name: os.environ.get(name) for name in (*SETTINGS, "PREFECT_LOGGING_LEVEL")}
    print(json.dumps([error.what, error.hint, "prefect" in sys.modules, found]))
"""


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


def test_a_url_where_nothing_answers_is_told_before_prefect_is_imported_and_settings_are_made(
    project: Project, nobody: str
) -> None:
    cleared = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "PAL", "DO_NOT"))}
    given = {"PREFECT_API_URL": nobody, "PREFECT_TASKS_DEFAULT_NO_CACHE": "false", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(project.workspace.root)],
        capture_output=True,
        text=True,
        env=cleared | given,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    what, hint, imported, settings = json.loads(ran.stdout)
    assert what == f"no Prefect server answers at PREFECT_API_URL={nobody}."
    assert "prefect server start" in hint
    assert "unset PREFECT_API_URL" in hint
    assert not imported
    mine = {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_TASKS_DEFAULT_NO_CACHE": "false"}
    assert settings == SETTINGS | mine, "what the user has set stays"


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
    assert len(shared) >= 5
    assert {name: there[name] for name in shared} == {name: SETTINGS[name] for name in shared}


@pytest.mark.usefixtures("no_url")
def test_a_server_that_answers_is_used_and_named(
    project: Project, healthy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", healthy)
    engine._choose_server(project)
    assert os.environ["PREFECT_API_URL"] == healthy
    assert capsys.readouterr() == ("", f"  Prefect server: {healthy}\n")


@pytest.mark.usefixtures("no_url")
def test_a_server_at_the_default_address_is_used_without_being_asked_for(
    project: Project, healthy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "DEFAULT_SERVER", healthy)
    engine._choose_server(project)
    assert os.environ["PREFECT_API_URL"] == healthy
    assert capsys.readouterr() == ("", f"  Prefect server: {healthy}\n")


@pytest.mark.usefixtures("no_url")
def test_without_any_a_temporary_one_is_announced_and_its_home_made(
    project: Project, nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "DEFAULT_SERVER", nobody)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "deep" / "home"))
    engine._choose_server(project)
    assert "PREFECT_API_URL" not in os.environ
    assert "starting a temporary Prefect server" in capsys.readouterr().err
    assert (tmp_path / "deep" / "home").is_dir()


def test_what_answers_but_is_no_prefect_server_is_refused(
    project: Project, healthy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", healthy.replace("/api", "/else"))
    with pytest.raises(PalError, match="no Prefect server answers"):
        engine._choose_server(project)


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


@pytest.mark.usefixtures("loggers", "no_url")
def test_log_lines_are_json_where_that_is_asked_for(
    project: Project, healthy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAL_LOG", "json")
    monkeypatch.setenv("PREFECT_API_URL", healthy)
    listen()
    engine._choose_server(project)
    logging.getLogger("tasks.train").warning('%s "items"\nleft out', 3)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [("INFO", "flows.engine"), ("WARNING", "tasks.train")]
    assert lines[1]["message"] == '3 "items"\nleft out'
    assert all(line["time"].endswith("+00:00") for line in lines)
