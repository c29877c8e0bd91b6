"""Checks a project, and regenerates what can be derived from the rest of it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from annotation.batch import contents_of, write_again
from storage.errors import ModelError, PalError
from storage.files.folders import MANIFEST, remove_left_parts
from storage.lake.batches import find_batch
from storage.run_records import RUNS_FILE
from storage.upkeep.check import Checked, Damage, check_workspace
from storage.upkeep.maintenance import forget_files
from tasks.learning.stored_model import read_model
from tasks.project import Project


def check_project(project: Project) -> Checked:
    """Run `check_workspace`, and check that models and encoders can be loaded.

    Raises:
        PalError: The lake cannot be read for a reason other than damage.
    """
    workspace = project.workspace
    checked = check_workspace(workspace)
    damaged = {damage.path.split("/")[1] for damage in checked.damaged if damage.path.startswith("models/")}
    for path in sorted(workspace.models.glob(f"[!.]*/{MANIFEST}")):
        if path.parent.name not in damaged:
            try:
                read_model(path.parent)
            except ModelError as error:
                checked.damaged.append(Damage(f"models/{path.parent.name}", error.what.rstrip("."), error.hint))
    return checked


def repair(project: Project, found: Checked) -> list[str]:
    """Regenerate what can be derived; returns what was done, in sentences."""
    workspace, actions = project.workspace, []
    for folder in (workspace.models, workspace.batches, workspace.encoders):
        unfinished = set(folder.glob(".*.part"))
        remove_left_parts(folder)
        if n := len(unfinished - set(folder.glob(".*.part"))):
            actions.append(f"Removed {n} unfinished folder{'s' if n > 1 else ''} from {folder.name}.")
    if any(damage.repair == "runs" for damage in found.damaged):
        (workspace.root / RUNS_FILE).replace(workspace.root / f"{RUNS_FILE}.damaged")
        actions.append(f"Moved the damaged record of runs to {RUNS_FILE}.damaged; a new one begins with the next run.")
    steps: list[Callable[[], str]] = [
        functools.partial(_write_batch_again, project, batch_id)
        for batch_id in dict.fromkeys(damage.name for damage in found.damaged if damage.repair == "batch")
    ]
    if files := [damage.name for damage in found.damaged if damage.repair == "features"]:
        steps.append(functools.partial(_make_features_again, project, files))
    for step in steps:
        try:
            actions.append(step())
        except PalError as error:  # its source is damaged, too
            actions.append(f"Not repaired: {error.what}")
    return actions


def _write_batch_again(project: Project, batch_id: str) -> str:
    store = project.store
    batch = find_batch(store, batch_id).batch
    write_again(
        project.workspace.batches / batch_id,
        batch,
        contents_of(store, batch, project.config.batch.context),
        project.label_set,
    )
    return f"Wrote the missing files of batch {batch_id} again."


def _make_features_again(project: Project, files: list[str]) -> str:
    from tasks.prepare import make_features  # imports torch and Arrow

    forget_files(project.store, files)
    encoder_id = make_features(project)
    files_text = "1 damaged file" if len(files) == 1 else f"{len(files)} damaged files"
    return f"Removed {files_text} of features from the lake and computed the features again with {encoder_id}."
