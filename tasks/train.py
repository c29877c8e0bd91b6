"""Stage `train_model`: the labels of one lake version to a model on disk and in the lake."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.files.folders import MANIFEST
from storage.lake.annotations import labelled_texts
from storage.lake.models import add_model, find_model
from storage.lake.store import Store
from storage.records import Model, ModelStatus, Split
from tasks.learning.encoders import Encoder, StaticVectors
from tasks.learning.model_files import LoadedModel, save_model
from tasks.learning.sentences import SentenceRows
from tasks.learning.stored_model import read_column
from tasks.learning.tokens import Examples
from tasks.learning.training import Target, train
from tasks.prepare import current_encoder, open_model
from tasks.project import Project
from tasks.sentence_vectors import stored_vectors, usable_encoder_id

log = logging.getLogger(__name__)


def train_model(project: Project) -> LoadedModel:
    """Train on every training label there is; returns the model, saved and known to the lake as a candidate.

    The id says what it was trained on: the same labels of the same texts with the same settings give the same id, and
    are not trained on twice.
    """
    started = time.monotonic()
    workspace, label_set, config = project.workspace, project.label_set, project.config.model.training
    store = project.store
    version = store.version()
    encoder = current_encoder(workspace, project.config.model.encoder, project.encoders)
    sentences = usable_encoder_id(project)
    training = labelled_with(store, Split.TRAINING, version, label_set.names)
    validation = labelled_with(store, Split.VALIDATION, version, label_set.names)
    code_version = installed_version("pytorch-active-learning")
    settings = [list(label_set.names), label_set.positive, encoder.encoder_id, asdict(config), code_version, sentences]
    fingerprint = _fingerprint([training, validation], settings)
    model_id = f"m{training.num_rows:05d}-{fingerprint}"
    folder = workspace.models / model_id
    if find_model(store, model_id) is not None and (workspace.model_folder(model_id) / MANIFEST).is_file():
        log.info("Model %s was trained on these labels already.", model_id)
        return open_model(project, model_id)
    positive = label_set.names.index(label_set.positive) if label_set.positive else None
    trained = train(
        encoder,
        examples_of(encoder, training, label_set.names, stored_vectors(store, sentences, _texts(training))),
        examples_of(encoder, validation, label_set.names, stored_vectors(store, sentences, _texts(validation)))
        if validation.num_rows
        else None,
        config,
        Target(len(label_set.names), positive),
        prior=encoder.taught_head(label_set.names) if isinstance(encoder, StaticVectors) else None,
    )
    created_at = datetime.now(UTC)
    facts = {
        "created_at": created_at.isoformat(),
        "lake_version": version,
        "n_training": training.num_rows,
        "n_validation": validation.num_rows,
        "label_set": label_set.digest,
        "code_version": code_version,
    }
    weights_hash = save_model(folder, trained, encoder, label_set.names, config, facts)
    workspace.share(folder)
    add_model(
        store,
        Model(
            model_id,
            created_at,
            version,
            training.num_rows,
            encoder.encoder_id,
            json.dumps(asdict(config)),
            weights_hash,
            ModelStatus.CANDIDATE,
        ),
    )
    log.info("Trained model %s on %s items (%.1f s).", model_id, f"{training.num_rows:,}", time.monotonic() - started)
    classifier = trained.classifier.eval()
    project.models[model_id] = LoadedModel(model_id, encoder, classifier, trained.calibration, label_set.names)
    return project.models[model_id]


def labelled_with(store: Store, split: Split, version: int, names: Sequence[str]) -> pa.Table:
    """The items of a split (item_id, text, label), by item_id, whose label pal.toml has; the others are logged."""
    labelled = labelled_texts(store, split, version)
    is_known = pc.is_in(labelled["label"], pa.array(names, pa.string()))
    others = labelled.filter(pc.invert(is_known))
    if others.num_rows:
        gone = ", ".join(sorted(set(others["label"].to_pylist())))
        log.warning("Left out %d items whose labels are no longer in pal.toml (%s).", others.num_rows, gone)
    return labelled.filter(is_known)


def examples_of(
    encoder: Encoder, labelled: pa.Table, names: Sequence[str], sentences: SentenceRows | None = None
) -> Examples:
    """Token ids and label numbers of a table (item_id, text, label).

    Args:
        sentences: The texts' sentence vectors, where they may be read.
    """
    numbers = pc.index_in(labelled["label"].combine_chunks(), pa.array(names, pa.string()))
    texts = _array(labelled["text"].combine_chunks())
    tokens = read_column(encoder, texts, with_characters=encoder.vectors() is not None)
    return Examples(replace(tokens, sentences=sentences), np.asarray(_array(numbers).to_numpy(), np.int64))


def _texts(labelled: pa.Table) -> list[str]:
    return [str(text) for text in labelled["text"].to_pylist()]


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)
    return column


def _fingerprint(tables: Sequence[pa.Table], settings: Sequence[object]) -> str:
    """Hash of everything that the weights and the decisions follow from."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for table in tables:
        columns = (table[name].to_pylist() for name in ("item_id", "label", "text"))
        for item_id, label, text in zip(*columns, strict=True):
            digest.update(f"{item_id}\x1f{label}\x1f{text}\x1e".encode())
        digest.update(b"\x1d")
    return digest.hexdigest()[:10]
