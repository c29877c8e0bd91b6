"""The commands that give results away: predictions, the labelled data set, the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import JsonOption, WorkspaceOption, print_json, project_at

commands = typer.Typer(rich_markup_mode=None)


@commands.command(epilog="Example: pal predict --pool --output predictions.parquet")
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to label.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of texts, as `pal import` reads it; - for stdin.")] = None,
    text_column: Annotated[list[str] | None, typer.Option(help="Text column; repeat it to join several.")] = None,
    pool: Annotated[bool, typer.Option("--pool", help="Every item of the lake, into --output.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="FILE.parquet, .csv or .jsonl; with --file also .xlsx, or - (CSV, stdout)."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --pool: another model than that in production.")] = None,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Label and probability: of texts, one line each with tabs between; or of every item or row, into a file.

    With --file every row comes back in its order, with its number and id, or in --output with all of its columns.
    A row without a prediction says why; blank lines are not rows. --output is written whole or not at all.
    """
    if pool and output is None:
        raise typer.BadParameter("--pool needs --output FILE")
    if output is not None and not pool and (texts or file is None):
        raise typer.BadParameter("--output FILE goes with --pool, or with --file and no other texts")
    if pool and (texts or file):
        raise typer.BadParameter("--pool is for the items of the lake; leave the texts out")
    if model and not pool:
        raise typer.BadParameter("--model goes with --pool")
    project = project_at(workspace)
    if output is not None and pool:
        from flows.predict import check_predict
        from flows.predict import predict as predict_flow
        from flows.run import start
        from storage.lake.outgoing import format_of_file
        from tasks.predict_pool import predict_pool

        check_predict(project, output, model or "")
        if project.store.is_read_only:  # nothing of it can be recorded there
            found = predict_pool(project, output.resolve(), format_of_file(output), model or "")
        else:
            found = start(project, predict_flow, str(output.resolve()), "by suffix", model or "")
        if as_json:
            print_json(found)
        else:
            print(found.output)
        return
    from flows.cli.predicting import file_or_stdin, predictions, print_predictions, write_predictions

    with file_or_stdin(project, file) as path:
        if output is not None and path is not None:
            write_predictions(project, path, text_column, output, as_json=as_json)
        else:
            print_predictions(predictions(project, texts or [], path, text_column), as_json=as_json)


@commands.command(epilog="Example: pal export headlines-labelled")
def export(
    output: Annotated[Path, typer.Argument(help="FILE.parquet, .csv or .jsonl; without a suffix a directory.")],
    at: Annotated[int | None, typer.Option(min=0, help="A lake version; the newest if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in that directory.")] = False,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Export the labeled data set with a data card: one file, or a directory in the layout of Hugging Face."""

    from tasks.export import export as export_items
    from tasks.project import refuse_lost_labels

    project = project_at(workspace)
    refuse_lost_labels(project)
    found = export_items(project.workspace, project.label_set, output.resolve(), at, replace=force)
    if as_json:
        print_json(found)
        return
    for split, counts in found.counts.items():
        print(f"{split:<11}{sum(counts.values()):>8,}  ({', '.join(f'{n:,} {label}' for label, n in counts.items())})")
    print(f"{found.output}: lake version {found.lake_version}")


@commands.command(epilog="Example: pal report --open")
def report(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; else reports/latest.html.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write the present report: metrics, learning curve, batches, mistakes and stop advice in one HTML file."""
    import webbrowser

    from tasks.report import report_of, write_page

    project = project_at(workspace)
    place = (output or project.workspace.reports / "latest.html").resolve()
    write_page(report_of(project), place)
    if output is None:
        project.workspace.share(place)
    print(place)
    if open_:
        webbrowser.open(place.as_uri())
