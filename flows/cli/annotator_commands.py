"""The commands about annotators; registered in `flows.cli.commands`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import JsonOption, WorkspaceOption, print_json, project_at
from flows.log_lines import counted

commands = typer.Typer(rich_markup_mode=None)
annotators = typer.Typer(rich_markup_mode=None)
commands.add_typer(
    annotators,
    name="annotators",
    help="Who answered what; change a name, or make two annotators one.",
    epilog="Example: pal annotators rename ann anna",
)


@annotators.callback(invoke_without_command=True)
def list_(context: typer.Context, as_json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Annotators with their answers; rename and merge change names."""
    if context.invoked_subcommand is not None:
        if workspace is not None:
            context.default_map = {context.invoked_subcommand: {"workspace": str(workspace)}}
        return

    from storage.lake.annotators import list_annotators

    rows = list_annotators(project_at(workspace).workspace.store())
    if as_json:
        print_json(rows)
        return
    for row in rows:
        latest = f", last on {row.last_at:%Y-%m-%d}" if row.last_at else ""
        earlier = f" (was: {row.earlier_names})" if row.earlier_names else ""
        print(f"{row.annotator}: {counted(row.n_answers, 'answer')} to {counted(row.n_items, 'item')}{latest}{earlier}")
    if not rows:
        print("Nobody has answered yet.")


@annotators.command(epilog="Example: pal annotators rename ann anna")
def rename(
    name: Annotated[str, typer.Argument(help="The present name.")],
    new: Annotated[str, typer.Argument(help="The new name, which must be unused.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Change a name everywhere; files with the earlier name still count for it."""
    _change(name, new, workspace, merge=False)


@annotators.command(epilog="Example: pal annotators merge ann anna")
def merge(
    name: Annotated[str, typer.Argument(help="The annotator to merge into the other.")],
    new: Annotated[str, typer.Argument(help="The annotator that remains.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Merge two annotators; for items that both answered, the answer ingested last counts."""
    _change(name, new, workspace, merge=True)


def _change(name: str, new: str, workspace: WorkspaceOption, *, merge: bool) -> None:
    from storage.lake.annotators import rename_annotator
    from storage.readers.spellings import folded

    project = project_at(workspace)
    both = rename_annotator(project.store, name, new, merge=merge)
    print(f"Merged {name} into {new}." if merge else f"Renamed {name} to {new}.")
    if both:
        print(f"Both had answered {counted(both, 'item')}; the answer ingested last counts.")
    if folded(name) in map(folded, project.config.batch.annotators):
        print(f"pal.toml still names {name} in [batch] annotators: write {new} there.")
