"""`pal simulate`: would this save labels on my data? Registered in `flows.cli.commands`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Call, command

commands = typer.Typer(rich_markup_mode=None)


@command(
    commands,
    epilog="Example: pal simulate labelled.csv --mix random --mix default --mix badge --batch 50 --batch 100",
)
def simulate(
    call: Call,
    file: Annotated[Path, typer.Argument(help="Texts with labels: CSV, TSV, .xlsx, JSON or Parquet.")],
    mix: Annotated[
        list[str] | None,
        typer.Option("--mix", "-m", help="A strategy, `default`, or random=10,entropy=90; again for more."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Replays of each line.")] = 5,
    iterations: Annotated[
        int, typer.Option(min=1, help="Batches after the start; in smaller ones than the largest as many items.")
    ] = 10,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Items of a batch: 100; again for more sizes.")] = None,
    start: Annotated[int, typer.Option(min=2, help="Random items to begin with.")] = 100,
    text_column: Annotated[str | None, typer.Option(help="Name of the text column; detected if not given.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Name of the label column; detected if not given.")] = None,
    positive: Annotated[str | None, typer.Option(help="The label looked for; else the rarer of two.")] = None,
    evaluation: Annotated[Path | None, typer.Option(help="Measure on this file; else on a quarter of FILE.")] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="minilm-static, bag-of-words, or a folder that `pal adapt` made; again for more."),
    ] = None,
    noise: Annotated[float, typer.Option(min=0, max=1, help="Chance of a wrong answer.")] = 0.0,
    abstention: Annotated[float, typer.Option(min=0, max=1, help="Chance of no answer.")] = 0.0,
    annotators: Annotated[int, typer.Option(min=1, help="Asked about each item; the majority counts.")] = 1,
    target: Annotated[float | None, typer.Option(help="Of AP, or F1 without a positive; else random's end.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Directory; else simulation-FILE.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; else one for each core.")] = None,
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
    place = (output or Path(f"simulation-{file.stem}")).resolve()
    read = material(experiment, experiment.encoders[0]).read  # errors of the file come before a run begins
    print(*read, sep="\n", file=sys.stderr if call.as_json else sys.stdout)
    if project := project_here(call.workspace):
        simulation = start_run(project, simulate_flow, data, tuple(experiment.mixes), replays, oracle, str(place))
    else:
        simulation = replay_experiment(experiment, place, target, jobs)
    if call.shows_json(simulation):
        return
    print(simulation_text(simulation))
    if simulation.no_picture:
        print(f"No simulation.png. {simulation.no_picture}", file=sys.stderr)
    else:
        print(f"{place / 'simulation.png'}: the curves of {simulation.figure}")
    print(f"{place / 'simulation.html'}: the same with its curves; {place / 'results.parquet'}: every step")
