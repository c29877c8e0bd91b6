"""The commands about labels: `pal labels`, and their changes, each with a forecast; see `tasks.relabel`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import Call, command, print_json, show_batch, with_call
from flows.log_lines import counted

if TYPE_CHECKING:
    from tasks.config.template import Kind, LabelEdit
    from tasks.project import Project
    from tasks.relabel import Relabeling

ReasonOption = Annotated[str, typer.Option(help="The reason, recorded with the change.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
AskOption = Annotated[bool, typer.Option("--ask-again", help="Publish a review batch of the affected items.")]
IntoOption = Annotated[str, typer.Option("--into", help="The replacing labels, separated by commas.")]

labels = typer.Typer(
    name="labels",
    rich_markup_mode=None,
    help="List the labels with their items; rename, merge, split, retire or add labels.",
    epilog="Example: pal labels rename related disaster",
)


@labels.callback(invoke_without_command=True)
@with_call
def list_labels(call: Call, context: typer.Context) -> None:
    """List the labels, and how many items have each."""
    if not call.is_of(context):
        return
    overview = labels_of(call.project)
    if call.shows_json(overview):
        return
    rows = overview["labels"]
    width = max(len(row["name"]) for row in rows)
    print(f"{'label':<{width}}  key  training  validation  evaluation")
    for row in rows:
        counts = f"{row['training']:>8,}  {row['validation']:>10,}  {row['evaluation']:>10,}"
        marks = ["positive"] * row["positive"] + ["not in pal.toml"] * (not row["in_file"])
        print(f"{row['name']:<{width}}  {row['key'] or '-':<3}  {counts}  {', '.join(marks)}".rstrip())
    print(f"Codebook {overview['codebook']}; definitions are in [task] definition of pal.toml.")
    if overview["possible"]:
        print(f"Say what became of those not in pal.toml: {'; '.join(overview['possible'])}")


def labels_of(project: Project) -> dict[str, Any]:
    """The labels of pal.toml and of answers, the number of items of each, and all changes."""

    from storage.lake.annotations import label_counts
    from storage.lake.codebook import codebook_of
    from storage.records import Split
    from tasks.project import lost_labels, possible_changes

    store = project.store
    with store.reading():
        counts, codebook, lost = label_counts(store), codebook_of(store), lost_labels(project)
        possible = possible_changes(project, lost) if lost else []
    label_of = {label.name: label for label in project.label_set.labels}
    rows = [
        {
            "name": name,
            "key": label_of[name].key if name in label_of else "",
            "positive": name in label_of and label_of[name].positive,
            "in_file": name in label_of,
            **{split.value: counts[split].get(name, 0) for split in Split},
        }
        for name in (*label_of, *lost)
    ]
    changes = codebook.changes
    return {"codebook": codebook.number, "labels": rows, "changes": changes, "possible": possible}


@command(labels, epilog="Example: pal labels history")
def history(call: Call) -> None:
    """Show the changes of labels and guideline, and the batches that showed each guideline."""
    rows = history_of(call.project)
    if call.shows_json(rows):
        return
    for row in rows:
        print(f"{row['at']:%Y-%m-%d %H:%M} UTC  {row['text']}")
        for name, value in row["changed"].items():
            print(f"    {name}: {value or '-'}")
    if not rows:
        print("No batch was published and no label was changed.")


def history_of(project: Project) -> list[dict[str, Any]]:
    """The changes of labels, and each guideline that batches showed, oldest first.

    A guideline has the ids of its batches, and in `changed` what differs from the guideline before it.
    """
    from itertools import groupby

    from annotation.batch import read_manifest
    from storage.errors import BatchError
    from storage.lake.batches import batches_with_guideline
    from storage.lake.codebook import codebook_of

    project.workspace.pull()
    rows: list[dict[str, Any]] = []
    shown: dict[str, str] = {}
    for digest, group in groupby(batches_with_guideline(project.store), key=lambda batch: batch.label_set):
        batches = list(group)
        ids = [batch.batch_id for batch in batches]
        text = f"Guideline {digest}: {ids[0]}" + (f" to {ids[-1]} ({len(ids):,} batches)" if len(ids) > 1 else "")
        try:
            manifest = read_manifest(project.workspace.batches / ids[0])
            now = {name: manifest.get(name, "") for name in ("question", "definition")}
            now |= {f"label {label['name']}": label.get("description", "") for label in manifest["labels"]}
        except BatchError as error:
            now, text = shown, f"{text}; {error.what}"
        changed = {name: now.get(name, "(removed)") for name in (*now, *shown) if now.get(name) != shown.get(name)}
        rows.append({"at": batches[0].created_at, "text": text, "batch_ids": ids, "changed": changed})
        shown = now
    for (number, kind), changes in groupby(codebook_of(project.store).changes, lambda each: (each.codebook, each.kind)):
        all_ = list(changes)
        first, old, new = all_[0], _names(c.label for c in all_), _names(c.becomes for c in all_)
        between = " to " if old and new else ""
        text = f"Codebook {number}: {kind} {old}{between}{new}, by {first.changed_by}"
        text += f": {first.reason}" if first.reason else ""
        rows.append({"at": first.changed_at, "text": text, "batch_ids": [], "changed": {}})
    return sorted(rows, key=lambda row: row["at"])


def _names(names: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(filter(None, names)))


@command(labels, epilog="Example: pal labels rename related disaster --reason 'clearer'")
def rename(
    call: Call,
    old: Annotated[str, typer.Argument(help="A label.")],
    new: Annotated[str, typer.Argument(help="Its new name.")],
    reason: ReasonOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Rename a label; its answers count for the new name."""
    _change(call, "rename", (old,), (new,), How(reason, yes, dry_run))


@command(labels, epilog="Example: pal labels merge flood fire --into disaster")
def merge(
    call: Call,
    names: Annotated[list[str], typer.Argument(help="Labels.")],
    into: Annotated[str, typer.Option(help="The resulting label, one of them or a new one.")],
    reason: ReasonOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Merge several labels into one; their answers count for it."""
    _change(call, "merge", tuple(dict.fromkeys(names)), (into,), How(reason, yes, dry_run))


@command(labels, epilog="Example: pal labels retire other --ask-again")
def retire(
    call: Call,
    name: Annotated[str, typer.Argument(help="A label.")],
    ask: AskOption = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Retire a label; its items have no label until they are queried again."""
    _change(call, "retire", (name,), (), How(reason, yes, dry_run, ask))


@command(labels, epilog="Example: pal labels add drought --from other --ask-again")
def add(
    call: Call,
    name: Annotated[str, typer.Argument(help="The new label.")],
    source: Annotated[str | None, typer.Option("--from", help="A label whose items may belong to the new one.")] = None,
    ask: AskOption = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Add a label; items keep theirs."""
    _change(call, "add", (), (name,), How(reason, yes, dry_run, ask, source))


@command(labels, epilog="Example: pal labels split disaster --into flood,fire --ask-again")
def split(
    call: Call,
    name: Annotated[str, typer.Argument(help="A label.")],
    into: IntoOption,
    ask: AskOption = False,
    reason: ReasonOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Split a label into several; its items have no label until they are queried again."""
    from tasks.config.template import label_names

    new = tuple(dict.fromkeys(label_names(into)))
    _change(call, "split", (name,), new, How(reason, yes, dry_run, ask))


@command(labels, "ask-again", epilog="Example: pal labels ask-again")
def ask_again(call: Call) -> None:
    """Publish a review batch of the items whose label was retired or split."""
    from flows.change_labels import ask_again as ask_again_flow
    from flows.run import run_here

    project = call.project
    show_batch(call, run_here(project, ask_again_flow), none="No batch was published")


@dataclass(frozen=True)
class How:
    """The options of a change of labels.

    Attributes:
        ask: Whether to publish a review batch of the affected items.
        source: A label whose items are queried again although they keep it.
    """

    reason: str
    yes: bool
    dry_run: bool
    ask: bool = False
    source: str | None = None


def _change(call: Call, kind: Kind, old: Sequence[str], new: Sequence[str], how: How) -> None:
    """Show what a change would do, and make it when it is confirmed."""
    from flows.change_labels import ask_again as ask_again_flow
    from flows.change_labels import change_labels
    from flows.cli.lake_commands import refuse_while_running
    from flows.run import run_here
    from storage.errors import ConfigError
    from tasks.config.template import LabelEdit
    from tasks.relabel import plan_relabeling

    project = call.project
    planned = plan_relabeling(project, LabelEdit(kind, tuple(old), tuple(new)), how.reason, how.source)
    if not call.as_json:
        print(forecast_text(planned))
    done, batch_id = not how.dry_run and (planned.change is not None or planned.edits_file), None
    if done:
        if not how.yes and not call.as_json and sys.stdin.isatty():
            if not typer.confirm("Make this change?"):
                print("No label was changed.")
                return
        elif not how.yes:
            raise ConfigError("No label was changed.", hint="Add --yes to make this change.")
        refuse_while_running(project, "pal labels")
        batch_id = run_here(project, change_labels, planned, how.ask)
    elif how.ask and not how.dry_run:  # of a change made before, whose batch a kill may have left unpublished
        batch_id = run_here(project, ask_again_flow)
    effect = planned.effect
    if call.as_json:
        facts = {"to_ask": effect.to_ask, "n_evaluation": effect.n_evaluation} if effect else {"to_ask": ()}
        print_json({"kind": kind, "done": done, **facts, "batch_id": batch_id})
    elif done and batch_id is None and effect and effect.to_ask:
        print("To ask them again, run `pal labels ask-again`.")


def forecast_text(planned: Relabeling) -> str:
    """The effect of a change in a sentence."""
    effect = planned.effect
    if effect is None:
        return "Only pal.toml changes: the lake has this change." if planned.edits_file else "Nothing to do."
    ask = f"{counted(len(effect.to_ask), 'item')} to ask again"
    if effect.to_ask:
        ask += f", {effect.n_evaluation:,} of them in evaluation"
        if planned.seconds:
            ask += f", about {counted(max(1, round(len(effect.to_ask) * planned.seconds / 60)), 'minute')}"
    changed = f" {counted(effect.n_kept, 'item')} with another label than before." if effect.n_kept else ""
    settled = f" {counted(effect.n_settled, 'item')} no longer disputed." if effect.n_settled else ""
    return f"{_title(planned.edit)}: {ask}.{changed}{settled}"


def _title(edit: LabelEdit) -> str:
    old, new = ", ".join(edit.labels), ", ".join(edit.into)
    between = {"rename": f"{old} to {new}", "merge": f"{old} into {new}", "split": f"{old} into {new}"}
    return f"{edit.kind.capitalize()} {between.get(edit.kind, old or new)}"
