"""Label and probability of texts by the production model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from storage.errors import ModelError, SourceError
from storage.lake.models import production_model
from tasks.project import Project


def predictions(
    project: Project, texts: Sequence[str], file: Path | None, text_column: str | None = None
) -> Iterator[dict[str, Any]]:
    """For each text its label, the probability of that label, and those of all labels; a file is read in slices.

    Raises:
        ModelError: There is no model yet, or it does not fit pal.toml.
        SourceError: Neither texts nor a file, or the file cannot be read.
    """
    if not all(text.strip() for text in texts) or not (texts or file):
        raise SourceError("no text to label, or an empty one.", hint='pal predict "a text", or pal predict --file FILE')
    current = production_model(project.workspace.store())
    if current is None:
        raise ModelError("there is no model yet.", hint="see what is missing: pal status")
    from tasks.learning.scorer import numpy_model

    model = numpy_model(project.workspace.model_folder(current.model_id), project.config.task.names)
    for part in _parts(texts, file, text_column):
        probabilities = model.predict(part)
        decided = model.calibration.decisions(probabilities)
        for text, row, label in zip(part, probabilities.tolist(), decided.tolist(), strict=True):
            by_label = dict(zip(model.labels, row, strict=True))
            yield {"text": text, "label": model.labels[label], "probability": row[label], "probabilities": by_label}


def _parts(texts: Sequence[str], file: Path | None, text_column: str | None) -> Iterator[list[str]]:
    if texts:
        yield list(texts)
    if file is not None:
        from storage.readers.opening import open_source  # a text on the command line needs none of it

        for chunk in open_source(file, text_column=text_column).chunks():
            for reject in chunk.rejects:
                print(f"{reject.file}, row {reject.row}: {reject.reason}", file=sys.stderr)
            yield chunk.table["text"].to_pylist()
