"""Log lines on stderr: once each, plain or JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from flows.log_lines import ROOMS, listen, say


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """The packages' loggers without a handler, and afterwards as they were."""
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


def test_log_lines_of_our_packages_come_once_each_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    others = io.StringIO()
    console = logging.StreamHandler(others)
    logging.getLogger().addHandler(console)
    try:
        listen()
        listen()
        logging.getLogger("tasks.collect").info("%d new", 3)
        logging.getLogger("storage.lake.store").warning("slow")
        logging.getLogger("annotation").debug("too much")
        logging.getLogger("tasks").info("%s: 3 rows", "a\nb.csv")
        say("a line")
    finally:
        logging.getLogger().removeHandler(console)
    assert capsys.readouterr() == ("", "  3 new\n  warning: slow\n  a b.csv: 3 rows\n  a line\n")
    assert others.getvalue() == "", "nor a second time by somebody else's handler"


def test_log_lines_are_json_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAL_LOG", "json")
    listen()
    say("a line")
    logging.getLogger("tasks.train").warning('%s "items"\nleft out', 3)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("INFO", "flows.log_lines"),
        ("WARNING", "tasks.train"),
    ]
    assert lines[1]["message"] == '3 "items"\nleft out'
    assert all(line["time"].endswith("+00:00") for line in lines)
