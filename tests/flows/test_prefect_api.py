"""What is asked by REST: a busy server is asked again, another error is one, and what is not there does not answer."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from http.server import HTTPServer

import pytest
from waiting import QuietHandler, serving

from flows.server import prefect_api
from flows.server.prefect_api import answers, ask


class Busy(HTTPServer):
    """Answers with the codes that are laid up, then with 200."""

    codes: list[int]


class Handler(QuietHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Busy)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        code = self.server.codes.pop(0) if self.server.codes else 200
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(422 if "/csrf-token" in self.path else 200)  # no such protection
        self.end_headers()


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Busy, str]]:
    monkeypatch.setattr(prefect_api.time, "sleep", lambda _: None)
    with serving(Busy(("127.0.0.1", 0), Handler)) as server:
        server.codes = []
        yield server, f"http://127.0.0.1:{server.server_port}/api"


def test_a_server_whose_database_is_busy_is_asked_again(busy: tuple[Busy, str]) -> None:
    server, api = busy
    server.codes = [503, 503]
    assert ask(api, "/x", {"a": 1}) == {"a": 1}
    assert ask(api, "/x") is None, "an empty answer"
    server.codes = [503] * 7
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(api, "/x", {})
    raised.value.close()


def test_another_refusal_is_told_at_once(busy: tuple[Busy, str]) -> None:
    server, api = busy
    server.codes = [409, 200]
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(api, "/x", {})
    assert (raised.value.code, json.loads(raised.value.read()), server.codes) == (409, {}, [200])
    raised.value.close()


def test_what_listens_answers_and_what_does_not_does_not(busy: tuple[Busy, str]) -> None:
    assert answers(busy[1])
    assert not answers("http://127.0.0.1:9/api")
