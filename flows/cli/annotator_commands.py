"""The commands about annotators; registered in `flows.cli.commands`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import Call, command, with_call
from flows.log_lines import counted

commands = typer.Typer(rich_markup_mode=None)
annotators = typer.Typer(rich_markup_mode=None)
commands.add_typer(
    annotators,
    name="annotators",
    help="List the annotators; rename or merge them.",
    epilog="Example: pal annotators rename ann anna",
)


@annotators.callback(invoke_without_command=True)
@with_call
def list_(call: Call, context: typer.Context) -> None:
    """List the annotators with their answers."""
    if not call.is_of(context):
        return

    from storage.lake.annotators import list_annotators

    rows = list_annotators(call.project.workspace.store())
    lines = [
        f"{row.annotator}: {counted(row.n_answers, 'answer')} to {counted(row.n_items, 'item')}"
        + (f", last on {row.last_at:%Y-%m-%d}" if row.last_at else "")
        + (f" (was: {row.earlier_names})" if row.earlier_names else "")
        for row in rows
    ]
    call.show(rows, *(lines or ["Nobody has answered yet."]))


@command(annotators, epilog="Example: pal annotators rename ann anna", json=False)
def rename(
    call: Call,
    name: Annotated[str, typer.Argument(help="The current name.")],
    new: Annotated[str, typer.Argument(help="The new name, which must be unused.")],
) -> None:
    """Change a name everywhere; files with the earlier name still count for it."""
    _change(call, name, new, merge=False)


@command(annotators, epilog="Example: pal annotators merge ann anna", json=False)
def merge(
    call: Call,
    name: Annotated[str, typer.Argument(help="The annotator to merge into the other.")],
    new: Annotated[str, typer.Argument(help="The annotator that remains.")],
) -> None:
    """Merge two annotators; for items that both answered, the answer ingested last counts."""
    _change(call, name, new, merge=True)


def _change(call: Call, name: str, new: str, *, merge: bool) -> None:
    from storage.lake.annotators import rename_annotator
    from storage.readers.spellings import folded

    project = call.project
    both = rename_annotator(project.store, name, new, merge=merge)
    print(f"Merged {name} into {new}." if merge else f"Renamed {name} to {new}.")
    if both:
        print(f"Both had answered {counted(both, 'item')}; the answer ingested last counts.")
    if folded(name) in map(folded, project.config.batch.annotators):
        print(f"pal.toml still names {name} in [batch] annotators: write {new} there.")
