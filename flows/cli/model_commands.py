"""The commands about models and what they write: listed, promoted, adapted, simulated; predictions, export, report.

They are registered in `flows.cli.commands`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Call, command

if TYPE_CHECKING:
    from storage.records import Decision

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
    current = report_of(project)
    write_page(current, path)
    if output is None:
        project.workspace.share(path)
    print(path)
    for line in filter(None, (current.state, current.change and current.change.verdict, f"next: {current.next}")):
        print(line)
    if open_:
        webbrowser.open(path.as_uri())


@command(commands, epilog="Example: pal models --json")
def models(
    call: Call, all_: Annotated[bool, typer.Option("--all", help="List all models, not only the 15 newest.")] = False
) -> None:
    """List the models with their metrics, and which one is in production and why."""
    from flows.cli.model_choice import model_rows, models_text

    rows = model_rows(call.project)
    call.show(rows, models_text(rows, None if all_ else 15))


@command(commands, epilog="Example: pal adapt --texts 50000")
def adapt(
    call: Call,
    texts: Annotated[
        int, typer.Option(min=1, max=1_000_000_000, help="Maximum number of texts, a random sample.")
    ] = 100_000,
    labels: Annotated[bool, typer.Option(help="Fine-tune on the training items first.")] = True,
    teacher: Annotated[
        Path | None, typer.Option(help="Directory of another encoder than MiniLM, for other languages.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
) -> None:
    """Distill an encoder for this workspace: 2 to 5 ms per text once, afterwards as fast as the shipped one."""
    from flows.adapt import adapt as adapt_flow
    from flows.run import start
    from storage.lake.items import count_pool
    from tasks.adapt_encoder import check_pool
    from tasks.learning.encoders import MINILM_ADAPTED

    project = call.project
    check_pool(count_pool(project.store))
    chosen = str(teacher.resolve()) if teacher else ""
    encoder_id = start(project, adapt_flow, texts, labels, chosen, seed)
    call.show(
        {"encoder_id": encoder_id},
        f"encoder {encoder_id}",
        "next: pal next (or the nightly run) trains with it; it is promoted where it is no worse"
        if project.config.model.encoder == MINILM_ADAPTED
        else f'next: in pal.toml, [model] encoder = "{MINILM_ADAPTED}"; then pal next trains with it',
    )


@command(commands, epilog="Example: pal promote m00600-c59a290e51")
def promote(
    call: Call,
    model: Annotated[str, typer.Argument(help="The id of the model, or a unique prefix.")],
    reason: Annotated[str, typer.Option(help="The reason, recorded with the decision.")] = "asked for by hand",
) -> None:
    """Promote a model by hand, regardless of the promotion gate."""
    from flows.cli.model_choice import promote_by_hand

    _show(call, promote_by_hand(call.project, model, reason))


@command(commands, epilog="Example: pal rollback")
def rollback(call: Call) -> None:
    """Return to the previous production model; the gate will not promote the rolled back one again."""
    from flows.cli.model_choice import roll_back

    _show(call, roll_back(call.project))


def _show(call: Call, decision: Decision) -> None:
    if decision.previous_id == decision.model_id:
        call.show(decision, f"{decision.model_id} is in production already")
        return
    undo = f"pal promote {decision.previous_id}" if decision.decided_by == "rollback" else "pal rollback"
    before = f", in place of {decision.previous_id}; to undo it: {undo}" if decision.previous_id else ""
    call.show(decision, f"in production: {decision.model_id}{before}")


@command(
    commands,
    epilog="Example: pal simulate labelled.csv --mix random --mix default --mix badge --batch 50 --batch 100",
)
def simulate(
    call: Call,
    file: Annotated[Path, typer.Argument(help="Texts with labels: CSV, TSV, .xlsx, JSON or Parquet.")],
    mix: Annotated[
        list[str] | None,
        typer.Option("--mix", "-m", help="A strategy, `default`, or random=10,entropy=90; may be repeated."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of replays of each mix.")] = 5,
    iterations: Annotated[
        int,
        typer.Option(min=1, help="Batches of the largest size after the start; smaller batches query as many items."),
    ] = 10,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Items per batch: 100; may be repeated.")] = None,
    start: Annotated[int, typer.Option(min=2, help="Number of random items at the start.")] = 100,
    text_column: Annotated[str | None, typer.Option(help="Name of the text column (default: detected).")] = None,
    label_column: Annotated[str | None, typer.Option(help="Name of the label column (default: detected).")] = None,
    positive: Annotated[str | None, typer.Option(help="The positive label (default: the rarer of two).")] = None,
    evaluation: Annotated[Path | None, typer.Option(help="File to evaluate on (default: a quarter of FILE).")] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="minilm-static, bag-of-words, or a folder made by `pal adapt`; may be repeated."),
    ] = None,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Probability of a wrong answer.")] = 0.0,
    abstention: Annotated[float, typer.Option(min=0, max=1, help="Probability of no answer.")] = 0.0,
    annotators: Annotated[int, typer.Option(min=1, help="Annotators per item; the majority counts.")] = 1,
    target: Annotated[float | None, typer.Option(help="AP (or F1) to reach (default: that of random).")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Directory (default: simulation-FILE).")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Number of processes (default: one per core).")] = None,
) -> None:
    """Replay the loop on labeled texts to compare how many labels each mix of strategies would have needed."""
    from flows.cli.simulation_options import LabelledFile, Replays, experiment_of
    from flows.run import start as start_run
    from flows.simulate import simulate as simulate_flow
    from tasks.project import project_here
    from tasks.reporting.simulation_page import simulation_text
    from tasks.simulation.experiment import replay_experiment
    from tasks.simulation.replay import Oracle
    from tasks.simulation.replays import material

    data = LabelledFile(
        str(file.resolve()),
        text_column or "",
        label_column or "",
        positive or "",
        str(evaluation.resolve()) if evaluation else "",
    )
    replays = Replays(
        seeds, iterations, tuple(batch or (100,)), start, tuple(encoder or ("minilm-static",)), target or 0.0, jobs or 0
    )
    oracle, mixes = Oracle(noise, abstention, annotators), tuple(mix or ())
    experiment = experiment_of(data, mixes, replays, oracle)
    folder = (output or Path(f"simulation-{file.stem}")).resolve()
    read = material(experiment, experiment.encoders[0]).read  # errors of the file come before a run begins
    print(*read, sep="\n", file=sys.stderr if call.as_json else sys.stdout)
    if project := project_here(call.workspace):
        simulation = start_run(project, simulate_flow, data, tuple(experiment.mixes), replays, oracle, str(folder))
    else:
        simulation = replay_experiment(experiment, folder, target, jobs)
    if call.shows_json(simulation):
        return
    print(simulation_text(simulation))
    if simulation.no_picture:
        print(f"No simulation.png. {simulation.no_picture}", file=sys.stderr)
    else:
        print(f"{folder / 'simulation.png'}: the curves of {simulation.figure}")
    print(f"{folder / 'simulation.html'}: the same with its curves; {folder / 'results.parquet'}: every step")
