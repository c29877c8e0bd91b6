"""A project: a workspace and the settings of its pal.toml, as every stage and every flow gets them."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotation.label_set import SKIP, UNSURE, LabelSet
from storage.errors import ConfigError, WorkspaceError
from storage.lake.codebook import answered_labels, codebook_of, given_answers
from storage.lake.store import Store
from storage.workspace import Workspace, find_root
from tasks.config.load import read_config
from tasks.config.settings import Config

if TYPE_CHECKING:
    from tasks.learning.encoders import Encoders
    from tasks.learning.model_files import LoadedModel

RELABELING = "lake/label-change.json"
"""What `tasks.relabel` notes of a change of labels before it begins."""


@dataclass(frozen=True)
class Project:
    """A workspace and its settings."""

    workspace: Workspace
    config: Config

    @cached_property
    def store(self) -> Store:
        """The lake, open until this program ends."""
        return self.workspace.store()

    @cached_property
    def encoders(self) -> Encoders:
        """The encoders of this workspace, read once each."""
        from tasks.learning.encoders import Encoders  # NumPy takes a tenth of a second to import

        return Encoders(self.workspace.encoders)

    @cached_property
    def models(self) -> dict[str, LoadedModel]:
        """The models that were loaded so far, by id."""
        return {}

    @cached_property
    def label_set(self) -> LabelSet:
        """What annotators are asked, `[task]`, with the words that `[batch] highlight` marks."""
        return dataclasses.replace(self.config.task.label_set, highlight=self.config.batch.highlight)

    def with_formats(self, formats: Sequence[str]) -> Project:
        """The same project with other formats of batch files; none for those of pal.toml."""
        return self.with_config(batch=self.config.batch.with_formats(tuple(formats))) if formats else self

    def with_config(self, **sections: Any) -> Project:
        """The same project with other sections of pal.toml, such as `model=...`."""
        return dataclasses.replace(self, config=self.config.model_copy(update=sections))

    @property
    def settings(self) -> str:
        """Everything that a run follows besides the lake: pal.toml and the version of the code."""
        return f"{installed_version('pytorch-active-learning')} {self.config!r}"


def lost_labels(project: Project) -> dict[str, int]:
    """Labels of answers or label changes that pal.toml lacks, with their numbers of items."""
    store = project.store
    with store.reading():
        added, given = codebook_of(store).added, given_answers(store)
    if added | given <= {*project.label_set.names, UNSURE, SKIP}:  # the usual case, without all answers
        return {}
    answered = dict.fromkeys(sorted(added), 0) | answered_labels(store)
    return {name: n for name, n in answered.items() if name not in project.label_set.names}


def refuse_lost_labels(project: Project) -> None:
    """Check that pal.toml has every label of answers.

    Raises:
        ConfigError: It lacks one, since it was edited by hand or labels were changed on another machine.
    """
    if lost := lost_labels(project):
        labels = ", ".join(f"{name!r} ({n:,})" for name, n in lost.items())
        raise ConfigError(
            f"pal.toml lacks these labels of items: {labels}.",
            hint=f"Run the command that matches the change: {'; '.join(possible_changes(project, lost))}",
        )


def possible_changes(project: Project, lost: Iterable[str]) -> list[str]:
    """Commands that would explain why pal.toml lacks these labels."""
    store = project.store
    codebook, answered = codebook_of(store), answered_labels(store)
    new = [name for name in project.label_set.names if name not in answered]
    commands = []
    for name in lost:
        rows = codebook.made_by(name)
        old = [row.label for row in rows if row.label is not None]
        if rows and {*old} <= {*project.label_set.names}:  # changed on another machine; here only pal.toml changes
            added = ",".join(row.becomes or "" for row in rows if row.label is None)
            into = {"merge": name, "split": added}.get(rows[0].kind, "")
            commands.append(command_of(rows[0].kind, old if into else [*old, name], into))
        nearest = get_close_matches(name, new, n=1, cutoff=0.0)
        commands += [command_of("rename", (name, *nearest))] if nearest else []
        commands.append(command_of("retire", [name]))
    return list(dict.fromkeys(commands))


def command_of(kind: str, names: Sequence[str], into: str = "") -> str:
    """The command for a change of labels, quoted for a shell."""
    option = ["--into", into] if into else []
    is_dashed = any(name.startswith("-") for name in names)
    return f"pal labels {kind} {shlex.join([*option, '--', *names] if is_dashed else [*names, *option])}"


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
    if (root / RELABELING).exists():
        from tasks.relabel import finish_relabeling  # which is rarely needed

        finish_relabeling(workspace)
        config = read_config(bare.config_file)
    return Project(workspace, config)


def project_here(path: Path | None = None) -> Project | None:
    """The project that `open_project` would open; None where there is none."""
    try:
        find_root(path)
    except WorkspaceError:
        return None
    return open_project(path)
