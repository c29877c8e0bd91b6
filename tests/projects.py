"""Projects for tests of stages, a workspace with chosen settings, without a pal.toml; and the pal command."""

from __future__ import annotations

import io
import logging
import signal
import subprocess
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pytest

from annotation.label_set import LabelSet
from flows.cli.main import main
from flows.log_lines import ROOMS
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
    """Run the command in this process as its entry point does, without a terminal: to start one takes a second."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8") for name in ("stdin", "stdout", "stderr")}
    streams["stdin"].write(stdin)
    streams["stdin"].seek(0)
    handlers = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    loggers = [logging.getLogger(room) for room in ROOMS]
    states = [(logger.level, logger.propagate, [*logger.handlers]) for logger in loggers]
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pal", *arguments])
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        patch.chdir(cwd)
        patch.delenv("PAL_WORKSPACE", raising=False)
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        except Exception:  # noqa: BLE001  # with --debug
            traceback.print_exc()
            code = 1
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            for logger, (level, propagate, its_handlers) in zip(loggers, states, strict=True):
                logger.setLevel(level)
                logger.propagate, logger.handlers = propagate, its_handlers
    said = []
    for name in ("stdout", "stderr"):
        streams[name].seek(0)
        said.append(streams[name].read())
    return subprocess.CompletedProcess(arguments, code, *said)
