"""All of pal.toml: its sections with their defaults, and what is wrong with values that cannot be."""

from __future__ import annotations

import dataclasses
import math
import re
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from cronsim import CronSim, CronSimError
from pydantic import ConfigDict

from annotation.formats.registry import FORMATS, find_formats
from annotation.label_set import LabelSet
from storage.records import ORIGINAL, UNNAMED
from storage.workspace import Workspace
from tasks.learning.encoder_names import MINILM_STATIC
from tasks.learning.promotion_config import PromotionConfig
from tasks.learning.training_config import TrainingConfig
from tasks.plan import Minimums

if TYPE_CHECKING:
    from tasks.sampling.strategy import Strategy

Option = bool | int | float | str
"""The value of a strategy's option."""

Mix = Mapping[str, int | str]

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class SamplingConfig:
    """Who chooses the items of a training batch.

    Attributes:
        mix: Strategy -> number of items, or share of the batch ("80%"); other batch sizes keep the proportions.
        start: The same for training batches before there is a model; empty: half `keyword` and half `random` where
            there are keywords, else `random`.
        keywords: Words that hint at the positive label, for the strategy `keyword`.
        options: Strategy -> option -> value, in place of the defaults that `pal strategies` lists.
    """

    mix: dict[str, int | str] = field(default_factory=lambda: {"random": 10, "least_confidence": 80, "outlier": 10})
    start: dict[str, int | str] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()
    options: dict[str, dict[str, Option]] = field(default_factory=dict)

    @property
    def active(self) -> dict[str, float]:
        """Strategy -> weight in a batch with a model."""
        return weights(self.mix)

    @property
    def cold(self) -> dict[str, float]:
        """Strategy -> weight in a training batch without a model."""
        if self.start:
            return weights(self.start)
        return {"random": 50, "keyword": 50} if self.keywords else {"random": 100}

    def faults(self) -> list[str]:
        """What is wrong, one line each with its place."""
        if self == SamplingConfig():
            return []
        found = _mix_faults("mix", self.mix) + (_mix_faults("start", self.start) if self.start else [])
        found += [f"keywords: {word!r} is empty" for word in self.keywords if not word.strip()]
        strategies = _registry()
        for name, values in self.options.items():
            if name not in strategies:
                found.append(f"options.{name}: there is no such strategy{_nearest(name)}")
                continue
            for option, value in values.items():
                found += _option_faults(name, option, value)
        return found


def weights(mix: Mix) -> dict[str, float]:
    """Numbers and shares as weights.

    >>> weights({"random": "20%", "entropy": "80%"})
    {'random': 20.0, 'entropy': 80.0}
    """
    return {name: _share(value) if isinstance(value, str) else float(value) for name, value in mix.items()}


def _share(value: str) -> float:
    match = _SHARE.fullmatch(value.strip())
    return float(match[1]) if match else -1.0


def _registry() -> Mapping[str, Strategy]:
    """Every strategy by name: numpy and all that they compute with, imported only where settings are to be checked."""
    from tasks.sampling.catalogue import REGISTRY

    return REGISTRY


def _mix_faults(where: str, mix: Mix) -> list[str]:
    strategies = _registry()
    found = [f"{where}: no strategy {name!r}{_nearest(name)}" for name in mix if name not in strategies]
    shares = {name: value for name, value in mix.items() if isinstance(value, str)}
    found += [
        f'{where}: {name} = {value!r}; write a share as "80%"' for name, value in shares.items() if _share(value) < 0
    ]
    found += [
        f"{where}: {name} = {value}; numbers start at 0"
        for name, value in mix.items()
        if not isinstance(value, str) and value < 0
    ]
    if shares and len(shares) < len(mix):
        found.append(f"{where}: numbers and shares are mixed; give all strategies the one or the other")
    elif not found and shares and abs(sum(map(_share, shares.values())) - 100) > 0.01:
        found.append(f"{where}: the shares add up to {sum(map(_share, shares.values())):g}%, not 100%")
    elif not found and not sum(weights(mix).values()):
        found.append(f"{where}: no strategy has a number above 0")
    return found


def _option_faults(name: str, option: str, value: Option) -> list[str]:
    strategies = _registry()
    known = strategies[name].options
    if option not in known:
        choices = f"it has: {', '.join(known)}" if known else "it has none"
        return [f"options.{name}: no option {option!r}; {choices}"]
    default = known[option]
    fits = isinstance(value, (int, float) if isinstance(default, float) else type(default))
    if not fits or isinstance(value, bool) != isinstance(default, bool):
        return [f"options.{name}: {option} = {value!r}; write {_KINDS[type(default)]}, as the default {default!r} is"]
    if option == "score" and value not in strategies:
        return [f"options.{name}: no strategy {value!r}{_nearest(str(value))}"]
    if option == "score" and value == name:
        return [f"options.{name}: score = {value!r} is itself; name another"]
    if not isinstance(value, str) and not 0 <= value < math.inf:
        return [f"options.{name}: {option} = {value}; a number from 0 on"]
    if option in ("share", "dropout", "radius") and not isinstance(value, str) and value > 1:
        return [f"options.{name}: {option} = {value}; at most 1"]
    return []


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _registry(), n=1)
    return f"; did you mean {near[0]!r}?" if near else "; see those there are: pal strategies"


@dataclass(frozen=True)
class BatchConfig:
    """Batches.

    Attributes:
        size: Items of an active batch.
        formats: Of its files.
        annotators: Each gets files of their own; with none, whoever takes the batch answers it.
        overlap: How many of them are asked about each item.
        gold: Settled items mixed in for each item of an annotator's own, 0 to 1.
    """

    size: int = 100
    formats: tuple[str, ...] = ("csv", "xlsx", "html")
    annotators: tuple[str, ...] = ()
    overlap: int = 1
    gold: float = 0.0

    def with_formats(self, names: Sequence[str] | None) -> BatchConfig:
        """The same with other formats; with its own where there are none.

        Raises:
            BatchError: There is no such format.
        """
        return replace(self, formats=tuple(form.name for form in find_formats(names))) if names else self

    def faults(self) -> list[str]:
        """Everything that is wrong, in words; empty when it can be used."""
        found = []
        if unknown := [name for name in self.formats if name not in FORMATS]:
            found.append(f"formats = {unknown[0]!r}: there is no such format; known: {', '.join(FORMATS)}")
        if not self.formats:
            found.append(f"formats is empty; choose from: {', '.join(FORMATS)}")
        for name in self.annotators:
            if not name.strip() or name != name.strip() or not name.isprintable():
                found.append(f"annotators: {name!r} is empty, has spaces around it or cannot be shown")
            if name in (UNNAMED, ORIGINAL):
                found.append(f"annotators: {name!r} is kept for answers without a name")
        if len({name.casefold() for name in self.annotators}) < len(self.annotators):
            found.append("annotators: a name stands there twice")
        if not 1 <= self.overlap <= max(1, len(self.annotators)):
            found.append(f"overlap = {self.overlap}; from 1 to the number of annotators, {len(self.annotators)}")
        if not 0 <= self.gold <= 1:
            found.append(f"gold = {self.gold}; 0 to 1")
        if self.gold and not self.annotators:
            found.append(f"gold = {self.gold} needs annotators: settled items are mixed into the files of each")
        return found


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


@dataclass(frozen=True)
class ScaleConfig:
    """Who makes features and scores the pool.

    Attributes:
        runner: `threads` of the flow's own process; or `dask`, the workers of a scheduler.
        address: Of the scheduler, such as tcp://10.0.0.5:8786.
        resource: What workers that read texts with a sentence encoder have, such as "GPU" (`dask worker --resources
            "GPU=1"`); empty: any worker reads.
    """

    runner: Literal["threads", "dask"] = "threads"
    address: str = ""
    resource: str = ""

    @property
    def shared(self) -> bool:
        """Whether workers do it."""
        return self.runner != "threads"

    def faults(self) -> list[str]:
        """What is wrong, one line each with its place."""
        if self.runner == "dask" and not self.address:
            return ['address is missing: runner = "dask" needs that of a scheduler, such as "tcp://10.0.0.5:8786"']
        if self.runner == "threads" and self.address:
            return [f'address = {self.address!r} is for runner = "dask", and runner is "threads"']
        return []


@dataclass(frozen=True)
class ModelConfig(TrainingConfig):
    """The encoder, and how to train."""

    encoder: str = MINILM_STATIC

    @property
    def training(self) -> TrainingConfig:
        """Without the encoder."""
        names = [part.name for part in dataclasses.fields(TrainingConfig)]
        return TrainingConfig(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class LakeConfig:
    """Where the lake is: a catalog, and a folder or bucket of Parquet files."""

    catalog: str = Workspace.catalog
    data: str = Workspace.data

    def faults(self) -> list[str]:
        """What is wrong with it; a secret is not repeated."""
        faults = []
        kind, _, where = self.catalog.partition(":")
        if kind not in ("sqlite", "postgres") or not where:
            faults.append("catalog: write sqlite:<path>, or postgres:host=... dbname=...")
        elif kind == "postgres" and re.search(r"(?i)password\s*=|://[^/@\s]*:[^/@\s]*@", where):
            faults.append("catalog holds a password: leave it out, and set PGPASSWORD or write it to ~/.pgpass")
        if "://" in self.data:
            address = urlsplit(self.data)
            if address.scheme != "s3" or not address.netloc:
                faults.append("data: write a folder, or s3://bucket/folder")
            elif "@" in address.netloc or address.query:
                faults.append("data holds a key: leave it out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        return faults


@dataclass(frozen=True)
class FilesConfig:
    """Where several machines share batches, inbox, models, encoders and reports; empty: nowhere."""

    root: str = Workspace.files


@dataclass(frozen=True)
class Config:
    """All of pal.toml; every table but [task] may be missing."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    task: LabelSet
    minimums: Minimums = field(default_factory=Minimums)
    batch: BatchConfig = field(default_factory=BatchConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    promotion: PromotionConfig = field(default_factory=PromotionConfig)
    lake: LakeConfig = field(default_factory=LakeConfig)
    files: FilesConfig = field(default_factory=FilesConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
