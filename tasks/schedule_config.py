"""`[schedule]` and `[server]` of pal.toml: when the nightly run fires, and where Prefect's server is."""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from cronsim import CronSim, CronSimError


@dataclass(frozen=True)
class ScheduleConfig:
    """When the nightly run fires.

    Attributes:
        nightly: A cron expression: minute, hour, day of the month, month, day of the week.
        timezone: By its name in the tz database.
    """

    nightly: str = "0 2 * * *"
    timezone: str = "UTC"

    def faults(self) -> list[str]:
        """Everything that is wrong, in words; empty when it can be used."""
        found = []
        try:
            CronSim(self.nightly, datetime(2026, 1, 1))
        except CronSimError as error:
            found.append(
                f"nightly = {self.nightly!r}: {str(error).lower()}; minute hour day month weekday, such as '0 2 * * *'"
            )
        zones = zoneinfo.available_timezones()
        if self.timezone not in zones:
            near = get_close_matches(self.timezone, sorted(zones), n=1)
            found.append(
                f"timezone = {self.timezone!r}: there is no such zone; "
                + (f"did you mean {near[0]!r}?" if near else "such as 'Europe/Berlin'")
            )
        return found

    def next_night(self, after: datetime) -> datetime:
        """When the nightly run fires next, in its zone.

        >>> from datetime import UTC
        >>> print(ScheduleConfig("30 2 * * *", "Europe/Berlin").next_night(datetime(2026, 1, 1, tzinfo=UTC)))
        2026-01-01 02:30:00+01:00
        """
        return next(CronSim(self.nightly, after.astimezone(zoneinfo.ZoneInfo(self.timezone))))


@dataclass(frozen=True)
class ServerConfig:
    """Where Prefect's server is.

    Attributes:
        host: It listens there; 0.0.0.0 lets other machines in, without a password.
        port: Of the UI and the API.
        home: The folder with its database and logs; a relative one starts at the workspace.
    """

    host: str = "127.0.0.1"
    port: int = 4200
    home: str = ".prefect"

    def faults(self) -> list[str]:
        """Everything that is wrong, in words; empty when it can be used."""
        return [] if 1 <= self.port <= 65_535 else [f"port = {self.port}; 1 to 65535"]
