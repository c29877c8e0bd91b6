"""Projects for tests of stages: a workspace with chosen settings, without a pal.toml."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from annotation.label_set import LabelSet
from storage.workspace import Workspace
from tasks.config.settings import Config, MinimumsConfig, ModelConfig, TaskConfig
from tasks.config.template import DISASTER, config_text
from tasks.learning.training import TrainingConfig
from tasks.project import Project


def project_of(
    workspace: Workspace,
    label_set: LabelSet = DISASTER,
    encoder: str = "minilm-static",
    training: TrainingConfig | None = None,
    **sections: Any,
) -> Project:
    """A project on a workspace.

    Args:
        sections: Other sections of pal.toml by name, such as `batch=BatchConfig(size=2)`.
    """
    model = ModelConfig(**asdict(training or TrainingConfig()), encoder=encoder)
    return Project(workspace, Config(task=TaskConfig.of(label_set), model=model, **sections))


def pal_toml(evaluation: int = 1200, validation: int = 200, training: int = 100, label_set: LabelSet = DISASTER) -> str:
    """What `pal init` writes, with these minimums; evaluation items come first."""
    minimums = MinimumsConfig(evaluation=evaluation, evaluation_share=0, validation=validation, training=training)
    return config_text(Config(task=TaskConfig.of(label_set), minimums=minimums))
