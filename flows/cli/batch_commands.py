"""The commands about batches: published, filled in, taken back, settled; registered in `flows.cli.commands`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.options import (
    FormatOption,
    JsonOption,
    WorkspaceOption,
    format_names,
    known_format,
    print_json,
    project_at,
    show_batch,
)
from flows.log_lines import counted

Method = Literal["confident-learning", "active-lab"]

commands = typer.Typer(rich_markup_mode=None)


@commands.command("next", epilog="Example: pal next -n 50 --json")
def next_(
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Items; from pal.toml if not given.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the draw; from pal.toml if not given.")] = None,
    another: Annotated[bool, typer.Option("--another", help="Also where a batch is open.")] = False,
    adjudicate: Annotated[
        bool, typer.Option("--adjudicate", help="What annotators disagree on or are unsure of, with their answers.")
    ] = False,
    form: FormatOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Publish the next batch: random items until there are enough labels, then train and choose; an open one stays."""
    from flows.next_batch import check_next, next_batch
    from flows.run import start
    from tasks.project import refuse_lost_labels

    if adjudicate and (another or seed is not None):
        raise typer.BadParameter("--adjudicate goes with -n and --format only")
    formats, project = format_names(form), project_at(workspace)
    if adjudicate:
        from flows.adjudicate import adjudicate as adjudicate_flow

        refuse_lost_labels(project)
        disputed = start(project, adjudicate_flow, n or 0, formats)
        show_batch(project, disputed, as_json, none="No batch was published")
        return
    if batch_id := check_next(project, another):
        print(f"  Batch {batch_id} is still open; to publish another beside it: pal next --another", file=sys.stderr)
    else:
        batch_id = start(project, next_batch, n or 0, another, formats, -1 if seed is None else seed)
    show_batch(project, batch_id, as_json)


@commands.command(epilog="Example: pal publish b0003-training --format label-studio")
def publish(
    batch: Annotated[str, typer.Argument(help="An open batch.")],
    form: FormatOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write the files of an open batch in additional formats."""
    from flows.cli.annotating import publish_formats

    paths = publish_formats(project_at(workspace), batch, format_names(form))
    if as_json:
        print_json([str(path) for path in paths])
    else:
        print(*paths, sep="\n")


@commands.command(epilog="Example: pal annotate b0003-training --annotator anna")
def annotate(
    batch: Annotated[str | None, typer.Argument(help="A batch; the oldest open one if not given.")] = None,
    annotator: Annotated[str | None, typer.Option(help="Your name; the login name if not given.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Answer a batch in the terminal; every answer is on disk before the next question."""
    import getpass

    from flows.cli.annotating import annotate_batch
    from flows.cli.status import pal_command

    project = project_at(workspace)
    annotate_batch(project, batch, annotator or getpass.getuser())
    print(f"next: {pal_command(project)} ingest")


@commands.command(epilog="Example: pal ingest inbox/batch-anna.csv")
def ingest(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Filled files; all of batches/ and inbox/ if none.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="Format of the named files (default: by content).")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Take files as later answers, even if they were ingested before.")
    ] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Ingest answers into the lake, exactly once; rejected rows are listed in FILE.errors.csv."""
    from flows.ingest import check_ingest
    from flows.ingest import ingest as ingest_flow
    from flows.run import start

    if form is not None and not files:
        raise typer.BadParameter("--format goes with named files")
    form_name, project = known_format(form), project_at(workspace)
    paths = [file.resolve() for file in files or ()]
    if not check_ingest(project, paths):
        print("[]" if as_json else "Nothing to ingest: no file in batches/ or inbox/ is filled in.")
        return
    names = tuple(map(str, paths))
    reports = start(project, ingest_flow, names, form_name, again)
    if as_json:
        print_json([vars(report) for report in reports])
    if any(report.errors for report in reports):
        raise typer.Exit(1)


@commands.command(epilog="Example: pal submit batch-anna.csv")
def submit(
    files: Annotated[list[Path], typer.Argument(help="Filled batch files, zips of them included.")],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Check filled files, put them into the inbox, and have the running server ingest them (`pal up`)."""

    from flows.cli.annotating import submit as submit_file
    from flows.cli.status import pal_command
    from flows.server.command_runs import running_server

    project = project_at(workspace)
    submissions = [submit_file(project, file, running_server(project)) for file in files]
    if as_json:
        print_json(submissions)
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


@commands.command(epilog="Example: pal close b0003-training")
def close(
    batch: Annotated[str, typer.Argument(help="The batch.")],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Return the unanswered items of a batch to the pool; later answers are still ingested."""
    from annotation.inbox import waiting_answers
    from storage.errors import BatchError
    from storage.lake.batches import close_batch, find_batch

    project = project_at(workspace)
    project.workspace.pull()
    again = find_batch(project.store, batch).batch.purpose.asks_again
    if waiting := waiting_answers(project.workspace, batch, project.label_set):
        raise BatchError(
            f"{len(waiting)} answers in the files of {batch} are not ingested yet.",
            hint="Ingest them first: pal ingest",
        )
    n = close_batch(project.store, batch)
    if as_json:
        print_json({"batch_id": batch, "n_returned": n})
    else:
        print(f"{batch} is closed; {n} items are {'as they were' if again else 'back in the pool'}")


@commands.command(epilog="Example: pal review -n 50")
def review(
    n: Annotated[int | None, typer.Option("--number", "-n", min=1, help="Most items.")] = None,
    method: Annotated[
        Method, typer.Option(help="confident-learning, or active-lab: what one more answer is worth (extra crowd).")
    ] = "confident-learning",
    form: FormatOption = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Publish the training items that are most likely mislabeled, to be answered again without their label."""
    from flows.review import review as review_flow
    from flows.run import start
    from tasks.project import refuse_lost_labels

    project = project_at(workspace)
    refuse_lost_labels(project)
    batch_id = start(project, review_flow, n or 0, method, format_names(form))
    show_batch(project, batch_id, as_json, none="No batch was published")


@commands.command(epilog="Example: pal agreement --json")
def agreement(
    unsure: Annotated[bool, typer.Option("--unsure", help="Count unsure as an answer like a label.")] = False,
    consensus: Annotated[
        bool, typer.Option("--consensus", help="Weigh annotators and model instead (CROWDLAB; extra crowd).")
    ] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show the agreement of annotators: overall, by pair, with the others, and with gold items."""
    from flows.cli.annotating import agreement_of, consensus_of, consensus_text

    project = project_at(workspace)
    if consensus:
        doubtful = consensus_of(project)
        if as_json:
            print_json(doubtful)
        else:
            print(consensus_text(doubtful))
        return
    from annotation.agreement import as_table
    from flows.cli.annotating import agreement_text

    result = agreement_of(project, unsure_counts=unsure)
    if as_json:
        print_json(as_table(result))
    else:
        print(agreement_text(result), end="")


@commands.command(epilog="Example: pal history 284006")
def history(
    item: Annotated[str, typer.Argument(help="An item's id, as in the batch files.")],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show every answer to an item: by whom, when, in which batch, and from which file."""

    from flows.cli.annotating import history_text
    from storage.lake.history import history_of

    item_history = history_of(project_at(workspace).workspace.store(), item)
    if as_json:
        print_json(item_history)
    else:
        print(history_text(item_history))
