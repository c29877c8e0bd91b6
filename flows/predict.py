"""Flow `predict`: write the predicted label and the calibrated probability of every item to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from flows.log_lines import counted
from flows.run import Run
from storage.lake.outgoing import format_of_file
from tasks.predict_file import model_to_predict_with
from tasks.predict_pool import PoolPrediction, predict_pool
from tasks.project import Project


def predict(
    run: Run,
    output: str = "predictions.parquet",
    form: Literal["by suffix", "parquet", "csv", "jsonl"] = "by suffix",
    model_id: str = "",
) -> PoolPrediction:
    """Predict every item; run again after a crash, it resumes.

    Args:
        output: The file to write, relative to the workspace.
        form: Its format.
        model_id: The model; empty for the one in production.
    """
    path = run.project.workspace.root / output
    run.rename(f"predict {path.name}")
    prediction = run.stage(
        predict_pool, run.project, path, format_of_file(path) if form == "by suffix" else form, model_id
    )
    run.model_id = prediction.model_id
    run.say(f"Predicted {counted(prediction.n, 'row')} with {prediction.model_id}: {prediction.output}")
    return prediction


def check_predict(project: Project, output: Path, model_id: str) -> None:
    """Check before anything starts that there is a model and that the suffix of the output is that of a format.

    Raises:
        ModelError: There is no such model.
        SourceError: The suffix is not that of a format, or the output is a directory.
    """
    format_of_file(output)
    model_to_predict_with(project.store, model_id)
