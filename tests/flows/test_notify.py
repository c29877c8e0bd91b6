"""Whoever [notify] names is told once of each event, and what does not arrive is a warning."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from waiting import QuietHandler, serving

from flows.next_batch import next_batch
from flows.notify import notify
from flows.run import run_here
from storage.errors import SamplingError
from tasks.config.settings import NotifyConfig
from tasks.project import Project, open_project


class Listener(HTTPServer):
    """Keeps what is posted; answers 500 to `/broken`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class Handler(QuietHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Listener)
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(500 if self.path.startswith("/broken") else 204)
        self.end_headers()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with serving(Listener()) as server:
        yield server


def telling(project: Project, **config: Any) -> Project:
    return project.with_config(notify=NotifyConfig(**config))


def test_a_webhook_gets_the_event_its_text_and_the_facts(project: Project, listener: Listener) -> None:
    notify(telling(project, webhook=f"{listener.address}/in"), "batch", "batch b1 waits", batch_id="b1", n=3)
    (heard,) = listener.heard
    assert heard.pop("at").endswith("+00:00")
    root = str(project.workspace.root)
    assert heard == {"event": "batch", "text": "batch b1 waits", "workspace": root, "batch_id": "b1", "n": 3}


def test_the_address_may_stand_in_the_environment(
    project: Project, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAL_TEST_WEBHOOK", f"{listener.address}/in")
    notify(telling(project, webhook="$PAL_TEST_WEBHOOK"), "batch", "x")
    assert len(listener.heard) == 1


def test_a_command_gets_the_same_on_its_standard_input(project: Project, tmp_path: Path) -> None:
    program = tmp_path / "tell.py"
    program.write_text("import sys; open('told.json', 'wb').write(sys.stdin.buffer.read())", encoding="utf-8")
    notify(telling(project, command=(sys.executable, str(program))), "promotion", "Flut: m2 ist da ✓")
    told = json.loads((project.workspace.root / "told.json").read_text(encoding="utf-8"))
    assert (told["event"], told["text"]) == ("promotion", "Flut: m2 ist da ✓")


def test_only_what_is_asked_for_is_told(project: Project, listener: Listener) -> None:
    asked = telling(project, webhook=listener.address, on=("failure",))
    notify(asked, "batch", "x")
    notify(asked, "failure", "y")
    assert [each["text"] for each in listener.heard] == ["y"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"webhook": "{listener}/broken?token=secret"}, "500"),
        ({"webhook": "http://127.0.0.1:9/?token=secret"}, "127.0.0.1"),
        ({"webhook": "$PAL_TEST_NOT_SET"}, "[notify] webhook"),
        ({"command": (sys.executable, "-c", "import sys; sys.exit('no mail today')")}, "no mail today"),
        ({"command": ("no-such-program",)}, "no-such-program"),
    ],
)
def test_what_does_not_arrive_is_a_warning_without_the_secrets_of_the_address(
    project: Project, listener: Listener, caplog: pytest.LogCaptureFixture, config: dict[str, Any], said: str
) -> None:
    if "webhook" in config:
        config = {"webhook": config["webhook"].format(listener=listener.address)}
    with caplog.at_level(logging.WARNING):
        notify(telling(project, **config), "batch", "x")
    assert said in caplog.text
    assert "secret" not in caplog.text


def test_a_flow_that_fails_is_told(project: Project, listener: Listener) -> None:
    path = project.workspace.config_file
    text = path.read_text(encoding="utf-8").replace('webhook = ""', f'webhook = "{listener.address}"')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SamplingError):
        run_here(open_project(project.workspace.root), next_batch)
    (heard,) = listener.heard
    assert (heard["event"], heard["flow"]) == ("failure", "next-batch")
    assert "pal import FILE" in heard["text"], "the way out"
