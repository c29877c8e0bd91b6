"""Stage `change_labels`: renames, merges, splits, retires or adds labels in the lake and pal.toml atomically.

The change is noted in a file first; the commit in the lake decides. After a kill before the commit, nothing has
changed; after a kill later, the next command that opens the project writes pal.toml.
"""

from __future__ import annotations

import getpass
import json
import logging
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from filelock import FileLock

from annotation.label_set import LabelSet
from storage.errors import ConfigError
from storage.files.folders import write_whole
from storage.lake.annotations import recent_seconds
from storage.lake.batches import Draft, count_batches
from storage.lake.codebook import (
    Codebook,
    Effect,
    NewChange,
    answered_labels,
    change_labels,
    codebook_of,
    forecast,
)
from storage.records import Proposal, Purpose
from storage.workspace import Workspace
from tasks.config.settings import Config
from tasks.config.template import LabelEdit, edited
from tasks.config.values import suggest
from tasks.project import RELABELING, Project, command_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Relabeling:
    """A planned change of labels.

    Attributes:
        label_set: The label set of pal.toml after the change.
        change: The change of the lake; None if the lake has it already.
        effect: Its effect; None if the lake does not change.
        seconds: Median duration of an answer; None if unknown.
        edits_file: Whether pal.toml changes.
    """

    edit: LabelEdit
    label_set: LabelSet
    change: NewChange | None
    effect: Effect | None
    seconds: float | None
    edits_file: bool


def plan_relabeling(project: Project, edit: LabelEdit, reason: str = "", ask_about: str | None = None) -> Relabeling:
    """Plan a change of labels in pal.toml and the lake; a change that was made before has no effect.

    Args:
        ask_about: A label whose items are queried again although they keep it.

    Raises:
        ConfigError: There is no such label, the new one exists, or a name is invalid.
    """
    workspace, store = project.workspace, project.store
    content = workspace.config_file.read_bytes()
    codebook, answered = codebook_of(store), answered_labels(store)
    has_both = edit.kind == "rename" and {*edit.labels, *edit.into} <= {*project.label_set.names}
    is_made = not has_both and _is_made(codebook, edit)
    if not is_made:
        _check(project.label_set, answered, edit)
    after = edited(content, edit, workspace.config_file)
    label_set = Config.model_validate(tomllib.loads(after.decode("utf-8-sig"))).task.label_set
    edits_file = after != content
    if is_made or (edit.kind == "add" and not edits_file):
        return Relabeling(edit, label_set, None, None, None, edits_file)
    if ask_about is not None and ask_about not in project.label_set.names:
        raise _no_label(ask_about, project.label_set)
    change = NewChange(
        edit.kind,
        _going(edit),
        _added(edit),
        _labels_before(project.label_set, answered, edit),
        getpass.getuser(),
        reason,
        ask_about,
    )
    seconds = recent_seconds(store)
    return Relabeling(
        edit, label_set, change, forecast(store, change), median(seconds) if seconds else None, edits_file
    )


def relabel(project: Project, planned: Relabeling, *, ask: bool) -> str | None:
    """Make the change; returns the id of the batch of items to query again, if any.

    Raises:
        StoreError: The effect differs from the plan, since answers were ingested meanwhile; nothing is changed.
    """
    workspace, store = project.workspace, project.store
    note = _note(workspace)
    with FileLock(f"{note}.lock"):
        batch_id = None
        if planned.change is not None and planned.effect is not None:
            write_whole(note, json.dumps({"codebook": planned.effect.codebook, **asdict(planned.edit)}).encode())
            to_ask = planned.effect.to_ask if ask else ()
            review = _review(project, planned, to_ask) if to_ask else None
            batch_id = change_labels(store, planned.change, planned.effect, review)
        _write(workspace.config_file, planned.edit)
        note.unlink(missing_ok=True)
    return batch_id


def finish_relabeling(workspace: Workspace) -> None:
    """Finish a change of labels after a kill, or discard it if it was not committed to the lake."""
    note = _note(workspace)
    if not note.exists():
        return
    with FileLock(f"{note}.lock"):
        if not note.exists():  # its process has finished meanwhile
            return
        noted = json.loads(note.read_text(encoding="utf-8"))
        edit = LabelEdit(noted["kind"], tuple(noted["labels"]), tuple(noted["into"]))
        codebook = codebook_of(workspace.store())
        committed = {(row.label, row.becomes) for row in codebook.changes if row.codebook == noted["codebook"]}
        if committed == {*_going(edit).items(), *((None, name) for name in _added(edit))}:
            _write(workspace.config_file, edit)
            log.info("Finished an interrupted change of labels (%s) in pal.toml.", edit.kind)
        else:
            log.info("An interrupted change of labels (%s) had no effect.", edit.kind)
        note.unlink()


def _note(workspace: Workspace) -> Path:
    return workspace.root / RELABELING


def _write(path: Path, edit: LabelEdit) -> None:
    before = path.read_bytes()
    if (after := edited(before, edit, path)) != before:
        write_whole(path, after)


def _heir(edit: LabelEdit) -> str | None:
    """The replacement of the removed labels."""
    return edit.into[0] if edit.kind in ("rename", "merge") else None


def _going(edit: LabelEdit) -> dict[str, str | None]:
    """The removed labels with their replacements."""
    return {name: _heir(edit) for name in edit.labels if edit.kind == "split" or name not in edit.into}


def _added(edit: LabelEdit) -> tuple[str, ...]:
    return edit.into if edit.kind in ("add", "split") else ()


def _is_made(codebook: Codebook, edit: LabelEdit) -> bool:
    """Whether the lake has this change, and none of these labels was added again."""
    if edit.kind == "split":
        newest = [row for row in codebook.changes if row.label == edit.labels[0]][-1:]
        rows = [row for row in codebook.changes if newest and row.codebook == newest[0].codebook]
        return bool(rows) and {row.becomes for row in rows if row.label is None} == {*edit.into}
    going = [name for name in edit.labels if name not in edit.into]
    rows = [row for name in going for row in codebook.last_of(name)[:1]]
    return bool(going) and [(row.kind, row.becomes) for row in rows] == [(edit.kind, _heir(edit))] * len(going)


def _check(label_set: LabelSet, earlier: Collection[str], edit: LabelEdit) -> None:
    """Check that the labels to change exist and that the new ones are possible.

    Args:
        earlier: Labels of answers, even if pal.toml lacks them.

    Raises:
        ConfigError: The change is impossible.
    """
    for name in edit.labels:
        if name not in label_set.names and name not in earlier:
            raise _no_label(name, label_set)
    old, new = " ".join(edit.labels), edit.into[0] if edit.into else ""
    if edit.kind == "rename" and {*edit.labels, new} <= {*label_set.names}:
        raise ConfigError(
            f"pal.toml has both {old!r} and {new!r}.", hint=f"Merge them: {command_of('merge', edit.labels, new)}"
        )
    if edit.kind in ("rename", "merge") and {*edit.labels} == {new}:
        raise ConfigError(f"{new!r} would become itself.", hint="Name another label.")
    if edit.kind == "split" and len({*edit.into}) < 2:
        raise ConfigError(
            f"{old!r} would become one label.", hint=f"Rename it instead: {command_of('rename', (*edit.labels, 'NEW'))}"
        )


def _no_label(name: str, label_set: LabelSet) -> ConfigError:
    return ConfigError(f"There is no label {name!r}{suggest(name, label_set.names)}", hint="List them: pal labels")


def _labels_before(label_set: LabelSet, answered: Collection[str], edit: LabelEdit) -> dict[str, str]:
    """Name and key of each label before the change, even if pal.toml was edited by hand already."""
    missing = [name for name in edit.labels if name not in label_set.names]
    before: dict[str, str] = {}
    for label in label_set.labels:
        is_new = missing and label.name in edit.into and label.name not in answered
        before[missing.pop(0) if is_new else label.name] = label.key
    return before | dict.fromkeys(missing, "")


def _review(project: Project, planned: Relabeling, item_ids: Sequence[str]) -> Draft:
    """Draft a batch of the items to query again."""
    from tasks.sample import share_out  # imports what draws batches

    store, asking = project.store, project.config.batch
    seed = project.config.model.seed + count_batches(store)
    assignments = share_out(store, item_ids, asking, seed)
    return Draft(
        Purpose.REVIEW,
        item_ids,
        [Proposal(item_id, planned.edit.kind, None, rank) for rank, item_id in enumerate(item_ids, start=1)],
        seed,
        store.version(),
        planned.label_set.digest,
        mix={planned.edit.kind: len(item_ids)},
        overlap=asking.overlap if assignments else 1,
        formats=asking.formats,
        assignments=assignments,
    )
