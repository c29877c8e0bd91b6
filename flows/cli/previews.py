"""Answers without a run: label and probability of given texts, and what a strategy would query and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    from tasks.learning.stored_model import numpy_model

    model = numpy_model(project.workspace.model_folder(current.model_id), project.label_set.names)
    for part in texts_of_call(texts, file, text_column):
        probabilities = model.predict(part)
        decided = model.calibration.decisions(probabilities)
        for text, row, label in zip(part, probabilities.tolist(), decided.tolist(), strict=True):
            by_label = dict(zip(model.labels, row, strict=True))
            yield {"text": text, "label": model.labels[label], "probability": row[label], "probabilities": by_label}


def texts_of_call(texts: Sequence[str], file: Path | None, text_column: str | None) -> Iterator[list[str]]:
    """The texts to label, in slices: those that were given, and those of a file."""
    if texts:
        yield list(texts)
    if file is not None:
        from storage.readers.opening import open_source  # a text on the command line needs none of it

        source = open_source(file, text_column=text_column)
        print(f"{file}: {source.description}", *source.layout.notes, sep="\n  ", file=sys.stderr)
        for chunk in source.chunks():
            for reject in chunk.rejects:
                print(f"{reject.file}, row {reject.row}: {reject.reason}", file=sys.stderr)
            yield chunk.table["text"].to_pylist()


@dataclass(frozen=True)
class Previewed:
    """An item that a strategy would ask about: its rank and score there (None: could not be scored), why in words."""

    rank: int
    item_id: str
    text: str
    score: float | None
    reason: str


def preview(project: Project, name: str, n: int, seed: int | None) -> list[Previewed]:
    """The n items that a strategy would ask about now, under the production model where there is one.

    Raises:
        SamplingError: There is no such strategy, it cannot run now, or the pool is smaller.
    """
    import numpy as np

    from storage.lake.annotations import labelled_texts
    from storage.lake.items import texts_of
    from storage.records import Split
    from tasks.learning.model_files import load_model
    from tasks.plan import reserve_of
    from tasks.sample import load_pool
    from tasks.sampling.catalogue import find_strategy
    from tasks.sampling.mixer import reasons

    config, workspace, found = project.config, project.workspace, find_strategy(name)
    store = workspace.store()
    version, model = store.version(), production_model(store)
    loaded = load_model(workspace.model_folder(model.model_id), project.label_set.names) if model else None
    pool = load_pool(project, version, loaded, reserve=reserve_of(project))
    generator = np.random.default_rng([config.model.seed if seed is None else seed, *name.encode()])
    ranking = found.propose(pool, n, generator, **config.sampling.options.get(name, {}))
    training = labelled_texts(store, Split.TRAINING, version).to_pylist()
    known = [row["text"] for row in training if row["label"] in project.label_set.names]
    texts = texts_of(store, ranking.item_ids)
    return [
        Previewed(rank, item_id, texts[item_id], float(score) if np.isfinite(score) else None, reason)
        for rank, (item_id, score, reason) in enumerate(
            zip(ranking.item_ids, ranking.scores, reasons(pool, ranking, project.label_set.names, known), strict=True),
            start=1,
        )
    ]
