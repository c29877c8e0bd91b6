"""The prompts of `pal init` on a terminal."""

from __future__ import annotations

from pathlib import Path

import typer

from annotation.label_set import LabelSet
from storage.errors import ConfigError
from tasks.config.template import label_names, named_labels


def ask_directory() -> Path:
    """Prompt for the directory of the new project."""
    return Path(typer.prompt("Directory of the new project", default="my-project"))


def ask_labels() -> LabelSet:
    """Prompt for labels, rare label, question and definition, again if they are invalid."""
    while True:
        names = label_names(typer.prompt("Labels, with commas between them (such as spam,ham)"))
        positive = _optional("Which of them is the rare one that you look for? (Enter: none)")
        question = _optional("What do you ask annotators? (Enter: which label fits)")
        definition = _optional("What does each label mean? Annotators can read it. (Enter: leave it out)")
        try:
            return named_labels(names, positive or None, question, definition)
        except ConfigError as error:
            print(error)


def _optional(question: str) -> str:
    return str(typer.prompt(question, default="", show_default=False)).strip()
