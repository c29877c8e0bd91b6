"""Flow `predict`: label and calibrated probability of every item, into a file."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from flows.engine import begin
from flows.notify import failure_told
from storage.prediction_files import format_of_file
from tasks.predict_pool import PoolPrediction, predict_pool


@flow(name="predict", flow_run_name="predict into {output}", on_failure=[failure_told], on_crashed=[failure_told])
def predict(
    workspace: str,
    output: str = "predictions.parquet",
    form: Literal["by suffix", "parquet", "csv", "jsonl"] = "by suffix",
    model_id: str = "",
) -> PoolPrediction:
    """Predict every item; run again after it was cut off, it goes on.

    Args:
        workspace: The project's directory.
        output: The file to write; a relative one starts at the workspace.
        form: Its format.
        model_id: The model; the one in production where left empty.
    """
    project = begin(workspace)
    path = project.workspace.root / output
    chosen = format_of_file(path) if form == "by suffix" else form
    return predict_pool(project.workspace, project.config.task, path, chosen, model_id or None)
