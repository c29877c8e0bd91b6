"""Flow `simulate`: the loop replayed on a labelled file, mixes of strategies beside random."""

from __future__ import annotations

from pathlib import Path

from prefect.artifacts import create_table_artifact

from flows.experiment import USUAL, experiment_of
from flows.forms import Count, EncoderName
from flows.run import Run
from tasks.simulate import simulate as simulated


def simulate(
    run: Run,
    file: str,
    mixes: tuple[str, ...] = USUAL,
    seeds: Count = 5,
    iterations: Count = 10,
    batch_sizes: tuple[Count, ...] = (100,),
    start: Count = 100,
    evaluation: str = "",
    text_column: str = "",
    label_column: str = "",
    positive: str = "",
    encoders: tuple[EncoderName, ...] = ("minilm-static",),
) -> str:
    """Replay the loop and write a page into reports/; run again after it was cut off, it goes on.

    Args:
        file: Texts with labels: CSV, TSV, Parquet, JSON lines; a relative one starts at the workspace.
        mixes: Each a strategy, `default`, or several with weights: random=10,entropy=90.
        seeds: Replays of each mix with each encoder and batch size.
        iterations: Batches after the start; of the largest size, in smaller ones as many items are asked about.
        batch_sizes: Items of a batch; each mix is replayed with each.
        start: Random items to begin with.
        evaluation: A file to measure on; a quarter of the other where left empty.
        text_column: Name of the text column; found out where left empty.
        label_column: Name of the label column; found out where left empty.
        positive: The label looked for; the rarer of two where left empty.
        encoders: Of the texts; each mix is replayed with each.
    """
    root = run.project.workspace.root
    experiment = experiment_of(
        root / file,
        mixes,
        encoders=encoders,
        seeds=seeds,
        iterations=iterations,
        batch_sizes=batch_sizes,
        start=start,
        evaluation=str(root / evaluation) if evaluation else None,
        text_column=text_column or None,
        label_column=label_column or None,
        positive=positive or None,
    )
    output = root / "reports" / f"simulation-{Path(file).stem}"
    found = simulated(experiment, output)
    rows = [
        {"mix": row.name, **{f"@{n}": round(value, 3) for n, value in row.at.items()}, "area": round(row.area, 3)}
        for row in found.rows
    ]
    create_table_artifact(rows, key="simulation", description=f"{found.figure}: {found.about}")
    return str(output / "simulation.html")
