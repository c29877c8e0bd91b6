"""Flow `predict`: label and calibrated probability of every item, into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flows.run import Run
from storage.lake.outgoing import format_of_file
from tasks.predict_pool import PoolPrediction, model_to_predict_with, predict_pool
from tasks.project import Project


def predict(
    run: Run,
    output: str = "predictions.parquet",
    form: Literal["by suffix", "parquet", "csv", "jsonl"] = "by suffix",
    model_id: str = "",
) -> PoolPrediction:
    """Predict every item; run again after a crash, it resumes.

    Args:
        output: The file to write; a relative one starts at the workspace.
        form: Its format.
        model_id: The model; the one in production where left empty.
    """
    path = run.project.workspace.root / output
    run.rename(f"predict {path.name}")
    prediction = run.stage(
        predict_pool, run.project, path, format_of_file(path) if form == "by suffix" else form, model_id
    )
    run.model_id = prediction.model_id
    run.say(f"Predicted {prediction.n:,} rows: {prediction.output}")
    return prediction


def check_predict(project: Project, output: Path, model_id: str) -> None:
    """Check before anything starts that there is a model and that the output's suffix stands for a format.

    Raises:
        ModelError: There is no such model.
        SourceError: The suffix stands for no format, or the output is a directory.
    """
    format_of_file(output)
    model_to_predict_with(project.workspace.store(), model_id)
