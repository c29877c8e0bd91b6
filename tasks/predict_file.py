"""Stage `predict_file`: a user's file with label and probability beside each row, none of its rows left out."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import ModelError
from storage.lake.codebook import codebook_of
from storage.lake.models import all_models, find_model, production_model
from storage.lake.store import Store
from storage.records import Model
from tasks.learning.stored_model import NumpyModel, numpy_model
from tasks.project import Project

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # a text on the command line needs no Arrow
    import pyarrow as pa

    from storage.lake.outgoing import TableFormat
    from storage.readers.source import AllRows, Source
    from tasks.learning.model_files import LoadedModel

ADDED = ("label", "probability", "reason")
"""The columns that a prediction adds to a file."""


@dataclass(frozen=True)
class FilePrediction:
    """What was written: the file, how many rows it has, how many of them with a prediction, and by which model.

    Attributes:
        columns: `label`, `probability` and `reason` -> the name of that column in the file.
    """

    output: str
    n_rows: int
    n_predicted: int
    model_id: str
    columns: dict[str, str]


@dataclass(frozen=True)
class PredictedRows:
    """Some rows of a file and what the model says of those that have a text.

    Attributes:
        has_text: Which rows have one, shape (n,).
        decided: The label of each row with a text, as its place in `labels`, shape (m,).
        probabilities: Of every label, shape (m, n_labels).
    """

    rows: AllRows
    labels: tuple[str, ...]
    has_text: NDArray[np.bool_]
    decided: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def columns(self) -> list[pa.Array]:
        """The columns `ADDED`; label and probability are null in rows without a text, the reason in the others."""
        import pyarrow as pa

        place = pa.array(np.cumsum(self.has_text) - 1, mask=~self.has_text)
        labels = pa.array(self.labels, pa.string()).take(pa.array(self.decided, pa.int64()))
        best = pa.array(self.probabilities[np.arange(len(self.decided)), self.decided], pa.float32())
        return [labels.take(place), best.take(place), self.rows.reasons]


def model_to_predict_with(store: Store, model_id: str = "") -> Model:
    """The model of that id; the one in production where it is empty.

    Raises:
        ModelError: There is none.
    """
    if not model_id:
        current = production_model(store)
        if current is None:
            raise ModelError("There is no model yet.", hint="See what is missing: pal status")
        return current
    found = find_model(store, model_id)
    if found is None:
        newest = ", ".join(model.model_id for model in all_models(store)[:5]) or "none"
        raise ModelError(f"There is no model {model_id!r}.", hint=f"The newest: {newest}; all: pal models.")
    return found


def model_in_production(project: Project) -> NumpyModel:
    """The production model, ready to predict without torch.

    Raises:
        ModelError: There is none yet, or it does not fit pal.toml.
    """
    model_id = model_to_predict_with(project.store).model_id
    became = codebook_of(project.store).became_after
    model = numpy_model(project.workspace.model_folder(model_id), project.label_set.names, became)
    say_labels(model)
    return model


def say_labels(model: NumpyModel | LoadedModel) -> None:
    """Say so where a model was trained before labels were renamed or merged."""
    if model.outputs is not None:
        pairs = zip(model.outputs.names, model.outputs.places, strict=True)
        now = (f"{name} is now {model.labels[at]}" for name, at in pairs if name != model.labels[at])
        log.info("Model %s was trained for other labels: %s.", model.model_id, ", ".join(now))


def predict_rows(model: NumpyModel, rows: AllRows) -> PredictedRows:
    """Predict the rows that have a text."""
    texts = rows.texts.drop_null()
    has_text = np.asarray(rows.texts.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    probabilities = model.predict(texts.to_pylist())
    return PredictedRows(rows, model.labels, has_text, model.calibration.decisions(probabilities), probabilities)


def predict_file(project: Project, source: Source, output: Path, form: TableFormat) -> FilePrediction:
    """Write all rows and columns of a file, in its order, with `ADDED` after them; the file is there whole or not.

    A column of the file that has the name of one of these keeps it, and the new one gets a number after its name.

    Raises:
        ModelError: There is no model yet, or it does not fit pal.toml.
        SourceError: It has more rows than its format can hold.
    """
    import pyarrow.parquet as pq

    from storage.files.folders import whole_file
    from storage.lake.outgoing import join_parts
    from storage.readers.columns import unique_names

    model = model_in_production(project)
    n_rows = n_predicted = 0
    names: list[str] = []
    with project.workspace.scratch() as scratch:
        writer: Any = None
        try:
            for rows in source.all_rows():
                predicted = predict_rows(model, rows)
                names = unique_names([*rows.columns.column_names, *ADDED])
                table = rows.columns
                for name, column in zip(ADDED, predicted.columns(), strict=True):
                    table = table.append_column(name, column)
                table = table.rename_columns(names)
                writer = writer or pq.ParquetWriter(scratch / "rows.parquet", table.schema, compression="zstd")
                writer.write_table(table)
                n_rows += len(rows.numbers)
                n_predicted += len(predicted.decided)
        finally:
            if writer is not None:
                writer.close()
        output.parent.mkdir(parents=True, exist_ok=True)
        if form == "parquet":  # as Arrow wrote it: types that DuckDB does not have stay what they are
            with whole_file(output) as part:
                shutil.copyfile(scratch / "rows.parquet", part)
        else:
            join_parts([scratch / "rows.parquet"], output, form)
    added = dict(zip(ADDED, names[-len(ADDED) :], strict=True))
    return FilePrediction(str(output), n_rows, n_predicted, model.model_id, added)
