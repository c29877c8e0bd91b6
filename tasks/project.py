"""A project: a workspace and the settings of its pal.toml, as every stage and every flow gets them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from annotation.label_set import LabelSet
from storage.errors import ConfigError, WorkspaceError
from storage.lake.annotations import label_counts
from storage.records import Split
from storage.workspace import Workspace, find_root
from tasks.config.load import read_config
from tasks.config.settings import Config


@dataclass(frozen=True)
class Project:
    """A workspace and its settings."""

    workspace: Workspace
    config: Config

    @cached_property
    def label_set(self) -> LabelSet:
        """What annotators are asked, `[task]`, with the words that `[batch] highlight` marks."""
        return dataclasses.replace(self.config.task.label_set, highlight=self.config.batch.highlight)

    def with_formats(self, formats: Sequence[str]) -> Project:
        """The same project with other formats of batch files; none for those of pal.toml."""
        return self.with_config(batch=self.config.batch.with_formats(tuple(formats)))

    def with_config(self, **sections: Any) -> Project:
        """The same project with other sections of pal.toml, such as `model=...`."""
        return dataclasses.replace(self, config=self.config.model_copy(update=sections))

    @property
    def settings(self) -> str:
        """Everything that a run follows besides the lake: pal.toml and the version of the code."""
        return f"{installed_version('pytorch-active-learning')} {self.config!r}"


def lost_labels(project: Project, counts: Mapping[Split, Mapping[str, int]]) -> dict[str, int]:
    """The labels that items have and pal.toml no longer has, and how many items have each.

    Args:
        counts: What `label_counts` gives.
    """
    lost: Counter[str] = Counter()
    for by_label in counts.values():
        lost.update({name: n for name, n in by_label.items() if name not in project.label_set.names})
    return dict(lost)


def refuse_lost_labels(project: Project) -> None:
    """Go on only where pal.toml has every label that items have.

    Raises:
        ConfigError: It lacks one: a label that has answers was renamed or removed.
    """
    if lost := lost_labels(project, label_counts(project.workspace.store())):
        labels = ", ".join(f"{name!r} ({n:,})" for name, n in lost.items())
        raise ConfigError(
            f"Items have labels that pal.toml no longer has: {labels}.",
            hint="In pal.toml, give the label its old name. A label that has answers cannot be renamed or removed.",
        )


def open_project(path: Path | None = None) -> Project:
    """The workspace at `path`, else the one meant by the environment or the current directory.

    Raises:
        WorkspaceError: There is none.
        ConfigError: Its pal.toml has faults.
    """
    root = find_root(path)
    bare = Workspace(root)
    config = read_config(bare.config_file)
    workspace = Workspace(root, config.lake.catalog, config.lake.data, config.files.root)
    workspace.make()
    return Project(workspace, config)


def project_here(path: Path | None = None) -> Project | None:
    """The project that `open_project` would open; None where there is none."""
    try:
        find_root(path)
    except WorkspaceError:
        return None
    return open_project(path)
