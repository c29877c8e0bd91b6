"""`[schedule]` and `[server]` of pal.toml: when the nightly run fires, and where Prefect's server is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScheduleConfig:
    """When the nightly run fires."""

    nightly: str = "0 2 * * *"
    timezone: str = "UTC"

    def faults(self) -> list[str]:
        """Everything that is wrong, in words; empty when it can be used."""
        return []


@dataclass(frozen=True)
class ServerConfig:
    """Where Prefect's server is."""

    host: str = "127.0.0.1"
    port: int = 4200
    home: str = ".prefect"

    def faults(self) -> list[str]:
        """Everything that is wrong, in words; empty when it can be used."""
        return []
