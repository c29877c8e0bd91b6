"""The commands that look at items: found by words and meaning, and one in full; registered in `flows.cli.commands`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from flows.cli.options import (
    Call,
    FormatOption,
    command,
    format_names,
    show_batch,
)

By = Literal["both", "words", "meaning"]

commands = typer.Typer(rich_markup_mode=None)


@command(commands, epilog='Example: pal find "floods in the north" --batch 50')
def find(
    call: Call,
    words: Annotated[str, typer.Argument(help="What to look for.")] = "",
    like: Annotated[str, typer.Option(metavar="ITEM", help="Find items similar to this one, by meaning.")] = "",
    label: Annotated[str, typer.Option(help="Search the items answered with this label, not the pool.")] = "",
    where: Annotated[str, typer.Option(help="Search only items whose columns fulfill this condition, in SQL.")] = "",
    n: Annotated[int, typer.Option("--number", "-n", min=1, help="Items to show.")] = 20,
    by: Annotated[By, typer.Option(help="What ranks the items; words alone are the fastest.")] = "both",
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
        from flows.publish_found import publish_found
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
