"""The commands about items: searched, shown, corrected and erased; registered in `flows.cli.commands`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.options import (
    Call,
    FormatOption,
    command,
    format_names,
    show_batch,
)
from flows.log_lines import counted

commands = typer.Typer(rich_markup_mode=None)
items = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
commands.add_typer(
    items,
    name="items",
    help="Correct a text, or erase texts permanently.",
    epilog="Example: pal items edit 284006 --text 'Floods cut off the town'",
)


@command(items, epilog="Example: pal items edit 284006 --text 'Floods cut off the town'")
def edit(
    call: Call,
    item: Annotated[str, typer.Argument(help="The item's id.")],
    text: Annotated[str | None, typer.Option(help="The corrected text.")] = None,
    file: Annotated[Path | None, typer.Option(help="A UTF-8 file with the corrected text; - for stdin.")] = None,
) -> None:
    """Correct a text; earlier answers stay recorded but no longer give a label, and the item is queried again."""
    from dataclasses import asdict

    from flows.cli.status import pal_command
    from tasks.change_items import edit_item

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
    item: Annotated[list[str] | None, typer.Argument(help="Ids (none: finish an interrupted erasure).")] = None,
    file: Annotated[Path | None, typer.Option(help="A UTF-8 file with one id per line; - for stdin.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase the texts; without it, the effect is only shown.")] = False,
) -> None:
    """Erase texts permanently, from every version of the lake and every file of the workspace; backups stay.

    Other versions of the lake stay readable. Files that are not pal's own are listed and stay: then it exits with 1.
    """
    from dataclasses import asdict

    from flows.cli.lake_commands import refuse_while_running
    from tasks.change_items import erase_items, plan_of

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


By = Literal["both", "words", "meaning"]


@command(commands, epilog='Example: pal find "floods in the north" --batch 50')
def find(
    call: Call,
    words: Annotated[str, typer.Argument(help="What to look for.")] = "",
    like: Annotated[str, typer.Option(metavar="ITEM", help="Find items similar to this one, by meaning.")] = "",
    label: Annotated[str, typer.Option(help="Search the items answered with this label, not the pool.")] = "",
    where: Annotated[str, typer.Option(help="Search only items whose columns fulfill this condition, in SQL.")] = "",
    n: Annotated[int, typer.Option("--number", "-n", min=1, max=1_000_000, help="Items to show.")] = 20,
    by: Annotated[By, typer.Option(help="How to rank the items; words is the fastest.")] = "both",
    batch: Annotated[int | None, typer.Option(min=1, help="Publish this many matches as a training batch.")] = None,
    form: FormatOption = None,
) -> None:
    """Search the pool by words and by meaning.

    A batch of matches leaves the evaluation reserve out, and its items never count as drawn at random.
    """
    if bool(words) == bool(like):
        raise typer.BadParameter("Give words, or --like ITEM.")
    if batch and label:
        raise typer.BadParameter("--batch takes items from the pool; leave --label out.")
    if batch and where:
        raise typer.BadParameter("--batch goes by [sampling] where in pal.toml; leave --where out.")
    if form and not batch:
        raise typer.BadParameter("--format goes with --batch.")
    project = call.project
    if batch:
        from flows.next_batch import publish_found
        from flows.run import start

        batch_id = start(project, publish_found, words, like, batch, by, format_names(form))
        show_batch(call, batch_id)
        return

    from storage.errors import ConfigError
    from storage.lake.context import check_where
    from storage.lake.search import Scope
    from tasks.find import Search, find_items

    if label and label not in project.label_set.names:
        raise ConfigError(f"There is no label {label!r}.", hint=f"Choose from: {', '.join(project.label_set.names)}")
    check_where(project.store, where, "--where")
    hits = find_items(project, Search(words, like, by), Scope(label, where=where), n)
    lines = [f"{rank:>4}  {hit.item_id}  {' '.join(hit.text.split())}" for rank, hit in enumerate(hits, start=1)]
    call.show(hits, *(lines or ["Nothing matches."]))


@command(commands, epilog="Example: pal show 284006")
def show(call: Call, item: Annotated[str, typer.Argument(help="An item's id, as in the batch files.")]) -> None:
    """Show an item: text, context, answers, split, the model's prediction, and the nearest items."""
    from flows.cli.item_view import item_text, item_view

    view = item_view(call.project, item)
    call.show(view, item_text(view))
