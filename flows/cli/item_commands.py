"""The commands that change single texts; registered in `flows.cli.commands`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Call, command
from flows.log_lines import counted

commands = typer.Typer(rich_markup_mode=None)
items = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
commands.add_typer(
    items,
    name="items",
    help="Single texts: correct one, or erase some for good.",
    epilog="Example: pal items edit 284006 --text 'Floods cut off the town'",
)


@command(items, epilog="Example: pal items edit 284006 --text 'Floods cut off the town'")
def edit(
    call: Call,
    item: Annotated[str, typer.Argument(help="The item's id.")],
    text: Annotated[str | None, typer.Option(help="The corrected text.")] = None,
    file: Annotated[Path | None, typer.Option(help="A UTF-8 file with the corrected text; - for stdin.")] = None,
) -> None:
    """Correct a text; answers to the earlier one stay recorded, give no label any more, and the item is asked again."""
    from dataclasses import asdict

    from flows.cli.status import pal_command
    from tasks.edit_items import edit_item

    if (text is None) == (file is None):
        raise typer.BadParameter("give the corrected text with --text or --file")
    project = call.project
    project.workspace.pull()
    done = edit_item(project, item, _content(file) if file is not None else str(text))
    project.workspace.push()
    if call.shows_json({**asdict(done.edited), "batch_id": done.batch_id}):
        return
    if not done.edited.is_new:
        print(f"Item {item} has this text already.")
    else:
        outdated = counted(done.edited.n_outdated, "earlier answer")
        print(f"Corrected item {item}." + (f" No label follows from {outdated} now." if done.edited.n_outdated else ""))
    for batch_id in (*done.edited.open_batches, *filter(None, [done.batch_id])):
        print(f"Batch {batch_id} asks about the corrected text: {pal_command(project)} annotate {batch_id}")


@command(items, epilog="Example: pal items erase 284006 --yes")
def erase(
    call: Call,
    item: Annotated[list[str] | None, typer.Argument(help="Ids; none to finish an erasure that was killed.")] = None,
    file: Annotated[Path | None, typer.Option(help="A UTF-8 file with an id a line; - for stdin.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")] = False,
) -> None:
    """Erase texts for good: from every version of the lake and every file of the workspace; backups stay.

    Other versions of the lake stay readable. Files that are not pal's own are listed and stay: then it exits with 1.
    """
    from dataclasses import asdict

    from flows.cli.lake_commands import refuse_while_running
    from tasks.erase_items import erase_items, plan_of

    project = call.project
    refuse_while_running(project, "pal items erase", up_too=True)
    project.workspace.pull()
    ids = [*(item or ()), *(line.strip() for line in (_content(file).splitlines() if file else ()) if line.strip())]
    done = plan_of(project, ids)
    if yes:
        done = erase_items(project, done)
    erasure, seen_by = done.erasure, done.erasure.models
    values = {**asdict(erasure), "deleted": done.deleted, "left": done.left, "erased": yes}
    lines = [
        f"{'Erased' if yes else 'Would erase'} {counted(len(erasure.item_ids), 'item')} from the lake and the files of "
        f"{', '.join(erasure.batches) or 'no batch'}, with {counted(erasure.n_answers, 'answer')}.",
        *([f"Models that had seen them and cannot be reproduced: {', '.join(seen_by)}."] if seen_by else []),
        *[f"{'Deleted' if yes else 'Would delete'} {name}." for name in done.deleted],
        *[f"Not touched: {name}." for name in done.left],
        *([] if yes else ["To do it, add --yes."]),
    ]
    call.show({name: value for name, value in values.items() if name != "texts"}, *lines)
    if yes and done.left:
        raise typer.Exit(1)


def _content(file: Path) -> str:
    """The text in a file, without white space around it.

    Raises:
        SourceError: It cannot be read as UTF-8.
    """
    from storage.errors import SourceError

    try:
        raw = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        return raw.decode("utf-8-sig").strip()
    except (OSError, UnicodeError) as error:
        raise SourceError(f"{file} cannot be read as UTF-8: {error}.", hint="Save it as UTF-8 text.") from error
