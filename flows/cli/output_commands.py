"""The commands that write results: predictions, the labeled data set, the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Call, command

commands = typer.Typer(rich_markup_mode=None)


@command(commands, epilog="Example: pal predict --pool --output predictions.parquet")
def predict(
    call: Call,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to label.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file of texts, as for `pal import`; - for stdin.")] = None,
    text_column: Annotated[list[str] | None, typer.Option(help="Text column; repeat it to join several.")] = None,
    pool: Annotated[bool, typer.Option("--pool", help="Predict every item of the lake, into --output.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="FILE.parquet, .csv or .jsonl; with --file also .xlsx, or - (CSV, stdout)."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --pool: the model (default: the one in production).")] = None,
) -> None:
    """Predict label and probability: of texts, in tab-separated lines; or of every item or row, into a file.

    With --file, every row is returned in order, with its number and id, or in --output with all of its columns.
    A row without a prediction has the reason; blank lines are not rows. --output is written completely or not at all.
    """
    if pool and output is None:
        raise typer.BadParameter("--pool needs --output FILE")
    if output is not None and not pool and (texts or file is None):
        raise typer.BadParameter("--output FILE goes with --pool, or with --file and no other texts")
    if pool and (texts or file):
        raise typer.BadParameter("--pool is for the items of the lake; leave the texts out")
    if model and not pool:
        raise typer.BadParameter("--model goes with --pool")
    project = call.project
    if output is not None and pool:
        from flows.predict import check_predict
        from flows.predict import predict as predict_flow
        from flows.run import start
        from storage.lake.outgoing import format_of_file
        from tasks.predict_pool import predict_pool

        check_predict(project, output, model or "")
        if project.store.is_read_only:  # nothing of it can be recorded there
            written = predict_pool(project, output.resolve(), format_of_file(output), model or "")
        else:
            written = start(project, predict_flow, str(output.resolve()), "by suffix", model or "")
        call.show(written, f"{written.output}: {written.n:,} rows by {written.model_id}")
        return
    from flows.cli.predicting import file_or_stdin, predictions, print_predictions, write_predictions

    with file_or_stdin(project, file) as path:
        if output is not None and path is not None:
            write_predictions(project, path, text_column, output, as_json=call.as_json)
        else:
            print_predictions(predictions(project, texts or [], path, text_column), as_json=call.as_json)


@command(commands, epilog="Example: pal export headlines-labelled")
def export(
    call: Call,
    output: Annotated[Path, typer.Argument(help="FILE.parquet, .csv or .jsonl, or a directory without a suffix.")],
    at: Annotated[int | None, typer.Option(min=0, help="A lake version (default: the newest).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in that directory.")] = False,
) -> None:
    """Export the labeled data set with a data card: one file, or a directory in the layout of Hugging Face."""
    from tasks.export import export as export_items
    from tasks.project import refuse_lost_labels

    project = call.project
    refuse_lost_labels(project)
    exported = export_items(project.workspace, project.label_set, output.resolve(), at, replace=force)
    lines = [
        f"{split:<11}{sum(counts.values()):>8,}  ({', '.join(f'{n:,} {label}' for label, n in counts.items())})"
        for split, counts in exported.counts.items()
    ]
    call.show(exported, *lines, f"{exported.output}: lake version {exported.lake_version}")


@command(commands, epilog="Example: pal report --open", json=False)
def report(
    call: Call,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File (default: reports/latest.html).")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the current report: metrics, learning curve, batches, mistakes and stop advice in one HTML file."""
    import webbrowser

    from tasks.report import report_of, write_page

    project = call.project
    path = (output or project.workspace.reports / "latest.html").resolve()
    write_page(report_of(project), path)
    if output is None:
        project.workspace.share(path)
    print(path)
    if open_:
        webbrowser.open(path.as_uri())
