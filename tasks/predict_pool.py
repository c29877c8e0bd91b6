"""Stage `predict_pool`: label and calibrated probability of every item, into one file; after a kill it goes on."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from storage.errors import WorkspaceError
from storage.files.folders import MANIFEST, write_whole
from storage.lake.outgoing import CONTEXT, FileFormat, count_after, features_of_all, join_parts
from storage.lake.store import Store
from storage.readers.columns import unique_names
from storage.records import Model
from tasks.learning.model_files import LoadedModel
from tasks.learning.ngrams import CharacterCodes
from tasks.predict_file import model_to_predict_with, say_labels
from tasks.prepare import add_missing_features, beside_tokens, open_model, tokens_in
from tasks.project import Project
from tasks.reporting.progress import progress
from tasks.sentence_vectors import add_missing_sentence_vectors

log = logging.getLogger(__name__)

ROWS = 100_000
"""Items of a part: what a kill costs at most."""


@dataclass(frozen=True)
class PoolPrediction:
    """What was written: the file, how many rows it has (one for each id), by which model, of which lake version."""

    output: str
    n: int
    model_id: str
    lake_version: int


@dataclass(frozen=True)
class _Pinned:
    """What all parts of a file must have in common."""

    model_id: str
    weights_hash: str
    lake_version: int


def predict_pool(project: Project, output: Path, form: FileFormat, model_id: str = "") -> PoolPrediction:
    """Predict every item of the lake, and write it to a file that is there whole or not at all.

    What is done is kept in parts beside the file: the same call after a kill goes on, as long as model and lake are
    the same, and gives the same file.

    Args:
        model_id: The model; the one in production where empty.

    Raises:
        ModelError: There is no such model, or it does not fit pal.toml.
        WorkspaceError: Another process is writing this file.
    """
    store = project.store
    record = model_to_predict_with(store, model_id)
    model = open_model(project, record.model_id)
    say_labels(model)
    add_missing_features(project, model.encoder)
    if model.sentence_encoder_id:
        add_missing_sentence_vectors(project, model.sentence_encoder_id)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.with_name(f".{output.name}.parts")
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            pinned = _pinned(store, folder, record)
            parts = _write_parts(store, folder, model, pinned)
            join_parts(parts, output, form)
            n = sum(pq.read_metadata(path).num_rows for path in parts)
            shutil.rmtree(folder, ignore_errors=True)
    except Timeout as error:
        raise WorkspaceError(
            f"Another process is writing {output}.", hint="Wait for it to finish, or name another file."
        ) from error
    return PoolPrediction(str(output), n, record.model_id, pinned.lake_version)


def _pinned(store: Store, folder: Path, model: Model) -> _Pinned:
    """What an interrupted call had pinned, where that still holds; else what is there now, its parts removed."""
    now = _Pinned(model.model_id, model.weights_hash, store.version())
    path = folder / MANIFEST
    try:
        before = _Pinned(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        before = None
    if before == now:
        log.info("Resuming the interrupted prediction %s.", folder.name)
        return now
    if before is not None:
        log.warning("The model or the lake has changed since this prediction was interrupted; starting again.")
    for left in folder.glob("*.parquet"):
        left.unlink()
    write_whole(path, json.dumps(asdict(now), indent=1).encode())
    return now


def _write_parts(store: Store, folder: Path, model: LoadedModel, pinned: _Pinned) -> list[Path]:
    """Write what is missing; returns all parts in order. A part is named by its number and has its rows by item_id."""
    parts = sorted(folder.glob("[0-9]*.parquet"))
    after = str(pq.read_table(parts[-1], columns=["item_id"])["item_id"][-1]) if parts else ""
    left = count_after(store, pinned.lake_version, after)
    done = 0
    with progress("predicting", left) as advance:
        beside = beside_tokens(model)
        slices = features_of_all(store, model.encoder.encoder_id, pinned.lake_version, after, ROWS, beside)
        for number, items in enumerate(slices, start=len(parts)):
            path = folder / f"{number:08d}.parquet"
            part = path.with_suffix(".part")
            pq.write_table(_predicted(model, items), part, compression="lz4", use_dictionary=False)
            part.replace(path)
            parts.append(path)
            done += items.num_rows
            advance(done)
    if not parts:
        parts.append(folder / "00000000.parquet")
        pq.write_table(_predicted(model, pa.RecordBatch.from_pylist([], _NOTHING)), parts[0])
    return parts


_NOTHING = pa.schema(
    [
        ("item_id", pa.string()),
        ("text", pa.string()),
        ("tokens", pa.binary()),
        ("split", pa.string()),
        ("human_label", pa.string()),
        ("other_ids", pa.list_(pa.string())),
    ]
)


def _predicted(model: LoadedModel, items: pa.RecordBatch) -> pa.Table:
    """Items, columns as of `features_of_all`, with their label and the probability of every label, context last.

    One row for each id under which an item's text was imported, its own id first.
    """
    n = items.num_rows
    codes = CharacterCodes() if model.classifier.reads_characters else None
    probabilities = model.probabilities(tokens_in(items, codes))
    decided = model.calibration.decisions(probabilities)
    labels = pa.DictionaryArray.from_arrays(pa.array(decided, pa.int32()), pa.array(model.labels, pa.string()))
    others = items.column("other_ids")
    rows = np.concatenate([np.arange(n), pc.list_parent_indices(others).to_numpy()])
    ids = pa.concat_arrays([items.column("item_id"), pc.list_flatten(others).cast(pa.string())])
    order = np.argsort(rows, kind="stable")
    columns = {
        "item_id": items.column("item_id"),
        "text": items.column("text"),
        "label": labels.cast(pa.string()),
        "probability": pa.array(probabilities[np.arange(n), decided], pa.float32()),
        **{f"p_{name}": pa.array(probabilities[:, k], pa.float32()) for k, name in enumerate(model.labels)},
        "split": items.column("split"),
        "human_label": items.column("human_label"),
        "model_id": pa.repeat(pa.scalar(model.model_id, pa.string()), n),
    }
    context = [name for name in items.schema.names if name.startswith(CONTEXT)]
    names = unique_names(["id", *columns, *(name.removeprefix(CONTEXT) for name in context)])
    columns |= dict(zip(names[1 + len(columns) :], map(items.column, context), strict=True))
    return pa.table(columns).take(rows[order]).add_column(0, "id", ids.take(pa.array(order)))
