"""Projects for tests of stages, a workspace with chosen settings, without a pal.toml; and the pal command."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from waiting import PATIENCE_S

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
    sentence: Literal["auto", "off"] = "off",
    **sections: Any,
) -> Project:
    """A project on a workspace.

    Args:
        sections: Other sections of pal.toml by name, such as `batch=BatchConfig(size=2)`.
    """
    model = ModelConfig(**asdict(training or TrainingConfig()), encoder=encoder, sentence=sentence)
    return Project(workspace, Config(task=TaskConfig.of(label_set), model=model, **sections))


def pal_toml(evaluation: int = 1200, validation: int = 200, training: int = 100, label_set: LabelSet = DISASTER) -> str:
    """What `pal init` writes, with these minimums and no sentence vectors; evaluation items come first."""
    minimums = MinimumsConfig(evaluation=evaluation, evaluation_share=0, validation=validation, training=training)
    model = ModelConfig(sentence="off")
    return config_text(Config(task=TaskConfig.of(label_set), minimums=minimums, model=model))


def pal(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without a terminal."""
    environment = {name: value for name, value in os.environ.items() if name != "PAL_WORKSPACE"}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli.main", *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        timeout=PATIENCE_S,
        check=False,
    )
