"""The commands about batches and annotators: published, filled in, taken back, settled, renamed.

They are registered in `flows.cli.commands`.
"""

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
    known_format,
    show_batch,
    with_call,
)
from flows.log_lines import counted

Method = Literal["confident-learning", "active-lab"]

commands = typer.Typer(rich_markup_mode=None)


@command(commands, "next", epilog="Example: pal next -n 50 --json")
def next_(
    call: Call,
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Items (default: from pal.toml).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Random seed (default: from pal.toml).")] = None,
    another: Annotated[bool, typer.Option("--another", help="Publish a batch even if one is open.")] = False,
    adjudicate: Annotated[
        bool,
        typer.Option("--adjudicate", help="Publish disputed and unsure items, with their answers."),
    ] = False,
    form: FormatOption = None,
) -> None:
    """Publish the next batch: random items until there are enough labels, then train and choose; an open one stays."""
    from flows.next_batch import check_next, next_batch
    from flows.run import start
    from tasks.project import refuse_lost_labels

    if adjudicate and (another or seed is not None):
        raise typer.BadParameter("--adjudicate goes with -n and --format only")
    formats, project = format_names(form), call.project
    if adjudicate:
        from flows.review import adjudicate as adjudicate_flow

        refuse_lost_labels(project)
        disputed = start(project, adjudicate_flow, n or 0, formats)
        show_batch(call, disputed, none="No batch was published")
        return
    if batch_id := check_next(project, another):
        print(f"  Batch {batch_id} is still open; to publish another beside it: pal next --another", file=sys.stderr)
    else:
        batch_id = start(project, next_batch, n or 0, another, formats, -1 if seed is None else seed)
    show_batch(call, batch_id, none="No batch was published: the pool is empty")


@command(commands, epilog="Example: pal publish b0003-training --format label-studio")
def publish(
    call: Call,
    batch: Annotated[str, typer.Argument(help="An open batch.")],
    form: FormatOption = None,
) -> None:
    """Write the files of an open batch in additional formats."""
    from flows.cli.annotating import publish_formats

    paths = publish_formats(call.project, batch, format_names(form))
    call.show([str(path) for path in paths], *paths)


@command(commands, epilog="Example: pal annotate b0003-training --annotator anna", json=False)
def annotate(
    call: Call,
    batch: Annotated[str | None, typer.Argument(help="The batch (default: the oldest open one).")] = None,
    annotator: Annotated[str | None, typer.Option(help="Your name (default: the login name).")] = None,
) -> None:
    """Answer a batch in the terminal; every answer is on disk before the next question."""
    import getpass

    from flows.cli.annotating import annotate_batch
    from flows.cli.status import pal_command

    project = call.project
    annotate_batch(project, batch, annotator or getpass.getuser())
    print(f"next: {pal_command(project)} ingest")


@command(commands, epilog="Example: pal ingest inbox/batch-anna.csv")
def ingest(
    call: Call,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Filled files (default: all in batches/ and inbox/).")
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="Format of these files (default: detected).")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Count the answers as new, even if the files were ingested before.")
    ] = False,
) -> None:
    """Ingest answers into the lake, exactly once; rejected rows are listed in FILE.errors.csv."""
    from flows.ingest import check_ingest
    from flows.ingest import ingest as ingest_flow
    from flows.run import start

    if form is not None and not files:
        raise typer.BadParameter("--format goes with named files")
    form_name, project = known_format(form), call.project
    paths = [file.resolve() for file in files or ()]
    if not check_ingest(project, paths):
        call.show([], "Nothing to ingest: no file in batches/ or inbox/ is filled in.")
        return
    names = tuple(map(str, paths))
    reports = start(project, ingest_flow, names, form_name, again)
    n_new, n_errors = sum(report.n_new for report in reports), sum(len(report.errors) for report in reports)
    text = f"{counted(n_new, 'new annotation')} from {counted(len(reports), 'file')}, {counted(n_errors, 'error')}"
    call.show([vars(report) for report in reports], text)
    if n_errors:
        raise typer.Exit(1)


@command(commands, epilog="Example: pal submit batch-anna.csv")
def submit(
    call: Call,
    files: Annotated[list[Path], typer.Argument(help="Filled batch files, or zip archives of them.")],
) -> None:
    """Check filled files, put them into the inbox, and have the running server ingest them (`pal up`)."""
    from flows.cli.annotating import submit as submit_file
    from flows.cli.status import pal_command
    from flows.server.command_runs import running_server

    project = call.project
    submissions = [submit_file(project, file, running_server(project)) for file in files]
    if call.shows_json(submissions):
        return
    for submission in submissions:
        batches = ", ".join(f"{counted(n, 'answer')} to {batch_id}" for batch_id, n in submission.answers.items())
        print(
            f"{submission.file}: {batches or 'no answer that can be taken'}, {counted(len(submission.errors), 'error')}"
        )
        for error in submission.errors[:5]:
            print(f"  {error}", file=sys.stderr)
        ingested = (
            f"it is being ingested: {submission.told}"
            if submission.told
            else f"{submission.untold}; next: {pal_command(project)} ingest"
        )
        print(f"{submission.place}: {ingested}")


@command(commands, epilog="Example: pal close b0003-training")
def close(call: Call, batch: Annotated[str, typer.Argument(help="The batch.")]) -> None:
    """Return the unanswered items of a batch to the pool; later answers are still ingested."""
    from annotation.inbox import waiting_answers
    from storage.errors import BatchError
    from storage.lake.batches import close_batch, find_batch

    project = call.project
    project.workspace.pull()
    again = find_batch(project.store, batch).batch.purpose.asks_again
    if waiting := waiting_answers(project.workspace, batch, project.label_set):
        raise BatchError(
            f"{len(waiting)} answers in the files of {batch} are not ingested yet.",
            hint="Ingest them first: pal ingest",
        )
    n = close_batch(project.store, batch)
    state = "as they were" if again else "back in the pool"
    call.show({"batch_id": batch, "n_returned": n}, f"{batch} is closed; {n} items are {state}")


@command(commands, epilog="Example: pal review -n 50")
def review(
    call: Call,
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Maximum number of items.")] = None,
    method: Annotated[
        Method, typer.Option(help="confident-learning, or active-lab: the value of one more answer (extra crowd).")
    ] = "confident-learning",
    form: FormatOption = None,
) -> None:
    """Publish the training items that are most likely mislabeled, to be answered again without their label."""
    from flows.review import review as review_flow
    from flows.run import start
    from tasks.project import refuse_lost_labels

    project = call.project
    refuse_lost_labels(project)
    batch_id = start(project, review_flow, n or 0, method, format_names(form))
    show_batch(call, batch_id, none="No batch was published")


@command(commands, epilog="Example: pal agreement --json")
def agreement(
    call: Call,
    unsure: Annotated[bool, typer.Option("--unsure", help="Count unsure as an answer like a label.")] = False,
    consensus: Annotated[
        bool,
        typer.Option("--consensus", help="Show the consensus with the model (CROWDLAB; extra crowd)."),
    ] = False,
) -> None:
    """Show the agreement of annotators: overall, by pair, with the others, and with gold items."""
    from flows.cli.annotating import agreement_of, consensus_of, consensus_text

    project = call.project
    if consensus:
        doubtful = consensus_of(project)
        call.show(doubtful, consensus_text(doubtful))
        return
    from annotation.agreement import as_table
    from flows.cli.annotating import agreement_text

    result = agreement_of(project, unsure_counts=unsure)
    call.show(as_table(result), agreement_text(result).rstrip("\n"))


@command(commands, epilog="Example: pal history 284006")
def history(call: Call, item: Annotated[str, typer.Argument(help="An item's id, as in the batch files.")]) -> None:
    """Show every answer to an item: by whom, when, in which batch, and from which file."""
    from flows.cli.annotating import history_text
    from storage.lake.history import history_of

    item_history = history_of(call.project.workspace.store(), item)
    call.show(item_history, history_text(item_history))


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
