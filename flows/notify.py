"""Notify the recipients in `[notify]` of new batches, promotions and failures; errors never make a run fail."""

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
    """Send an event; log a warning if that fails.

    Args:
        project: The project with the recipients.
        event: The kind of event.
        text: A sentence for people; chat programs show the `text` of a webhook.
        facts: Details for programs, as JSON values.
    """
    config = project.config.notify
    if event not in config.on or not (config.webhook or config.command):
        return
    time = datetime.now(UTC).isoformat(timespec="seconds")
    message = {"event": event, "text": text, "workspace": str(project.workspace.root), "at": time, **facts}
    payload = json.dumps(message, ensure_ascii=False).encode()
    if config.webhook:
        _try_to_send("webhook", lambda: _post(os.path.expandvars(config.webhook), payload))
    if config.command:
        _try_to_send("command", lambda: _run(config.command, payload, project.workspace.root))


def _try_to_send(channel: str, send: Callable[[], None]) -> None:
    try:
        send()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.warning("[notify] %s failed: %s", channel, error)


def _post(address: str, payload: bytes) -> None:
    if urlsplit(address).scheme not in ("http", "https"):
        raise ValueError("the address is not an http(s) URL; check that its environment variable is set")
    request = urllib.request.Request(address, payload, {"Content-Type": "application/json"}, method="POST")
    try:
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()
    except urllib.error.HTTPError as error:  # without the URL, which may contain a secret
        raise OSError(f"{urlsplit(address).hostname} answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise OSError(f"{urlsplit(address).hostname} did not answer: {error.reason}") from None


def _run(command: tuple[str, ...], payload: bytes, folder: Path) -> None:
    ran = subprocess.run(command, input=payload, cwd=folder, capture_output=True, timeout=PATIENCE_S, check=False)
    if ran.returncode:
        output = ran.stderr.decode(errors="replace").strip()[-300:]
        raise OSError(f"{command[0]} ended with exit code {ran.returncode}: {output}")
