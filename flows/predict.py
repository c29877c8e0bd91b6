"""Flow `predict`: label and calibrated probability of every item, into a file."""

from __future__ import annotations

from typing import Literal

from flows.run import Run
from storage.prediction_files import format_of_file
from tasks.predict_pool import PoolPrediction, predict_pool


def predict(
    run: Run,
    output: str = "predictions.parquet",
    form: Literal["by suffix", "parquet", "csv", "jsonl"] = "by suffix",
    model_id: str = "",
) -> PoolPrediction:
    """Predict every item; run again after it was cut off, it goes on.

    Args:
        output: The file to write; a relative one starts at the workspace.
        form: Its format.
        model_id: The model; the one in production where left empty.
    """
    project = run.project
    path = project.workspace.root / output
    chosen = format_of_file(path) if form == "by suffix" else form
    return predict_pool(project.workspace, project.config.task, path, chosen, model_id or None)
