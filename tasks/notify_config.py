"""`[notify]` of pal.toml: who is told, and of what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

Event = Literal["batch", "promotion", "failure"]
EVENTS: tuple[Event, ...] = get_args(Event)


@dataclass(frozen=True)
class NotifyConfig:
    """Notifications.

    Attributes:
        webhook: An address that gets each event as JSON by POST; `$NAME` in it is taken from the environment.
        command: A program with its arguments that gets the same JSON on its standard input.
        on: What is told.
    """

    webhook: str = ""
    command: tuple[str, ...] = ()
    on: tuple[Event, ...] = EVENTS

    def faults(self) -> list[str]:
        """Everything that is wrong, in words; empty when it can be used."""
        found = []
        if self.webhook and not self.webhook.startswith("$") and urlsplit(self.webhook).scheme not in ("http", "https"):
            found.append(f"webhook = {self.webhook!r}: begin it with https:// or http://")
        return found
