"""A project: a workspace and the settings of its pal.toml, as every stage and every flow gets them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import ConfigDict

from annotation.batch_config import BatchConfig
from annotation.label_set import LabelSet
from storage.workspace import Workspace
from tasks.learning.encoder_names import MINILM_STATIC
from tasks.learning.promotion_config import PromotionConfig
from tasks.learning.training_config import TrainingConfig
from tasks.notify_config import NotifyConfig
from tasks.plan import Minimums
from tasks.sampling.sampling_config import SamplingConfig
from tasks.scale_config import ScaleConfig
from tasks.schedule_config import ScheduleConfig, ServerConfig


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


@dataclass(frozen=True)
class Project:
    """A workspace and its settings."""

    workspace: Workspace
    config: Config

    def with_formats(self, formats: Sequence[str]) -> Project:
        """The same project with other formats of batch files; none for those of pal.toml."""
        return self.with_config(batch=self.config.batch.with_formats(tuple(formats)))

    def with_config(self, **sections: Any) -> Project:
        """The same project with other sections of pal.toml, such as `model=...`."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **sections))

    @property
    def settings(self) -> str:
        """Everything that a run follows besides the lake: pal.toml and the version of the code."""
        return f"{installed_version('pytorch-active-learning')} {self.config!r}"
