"""Projects for tests of stages: a workspace with chosen settings, without a pal.toml."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from annotation.label_set import LabelSet
from storage.workspace import Workspace
from tasks.config.settings import Config, ModelConfig
from tasks.config.template import DISASTER
from tasks.learning.training_config import TrainingConfig
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
    return Project(workspace, Config(task=label_set, model=model, **sections))
