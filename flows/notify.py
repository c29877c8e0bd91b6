"""Tells whoever `[notify]` names about new batches, promotions and failures; never the reason that a run fails."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tasks.config.settings import Event
from tasks.project import Project

log = logging.getLogger(__name__)

PATIENCE_S = 30


def notify(project: Project, event: Event, text: str, **facts: Any) -> None:
    """Send one event; what does not arrive is a warning.

    Args:
        text: What happened, for people: chat programs show a webhook's `text`.
        facts: What else a program may want to know, as JSON values.
    """
    config = project.config.notify
    if event not in config.on or not (config.webhook or config.command):
        return
    at = datetime.now(UTC).isoformat(timespec="seconds")
    named = {"event": event, "text": text, "workspace": str(project.workspace.root), "at": at, **facts}
    payload = json.dumps(named, ensure_ascii=False).encode()
    if config.webhook:
        _told("webhook", lambda: _post(os.path.expandvars(config.webhook), payload))
    if config.command:
        _told("command", lambda: _run(config.command, payload, project.workspace.root))


def _told(way: str, send: Callable[[], None]) -> None:
    try:
        send()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("[notify] %s: not told: %s", way, error)


def _post(address: str, payload: bytes) -> None:
    if urlsplit(address).scheme not in ("http", "https"):
        raise ValueError("the address is not one of the web; is the environment variable in it set?")
    request = urllib.request.Request(address, payload, {"Content-Type": "application/json"}, method="POST")
    try:
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()
    except urllib.error.HTTPError as error:  # not its URL: that may hold a secret
        raise OSError(f"{urlsplit(address).hostname} answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise OSError(f"{urlsplit(address).hostname} does not answer: {error.reason}") from None


def _run(command: tuple[str, ...], payload: bytes, folder: Path) -> None:
    ran = subprocess.run(command, input=payload, cwd=folder, capture_output=True, timeout=PATIENCE_S, check=False)
    if ran.returncode:
        raise OSError(f"{command[0]} ends with {ran.returncode}: {ran.stderr.decode(errors='replace').strip()[-300:]}")
