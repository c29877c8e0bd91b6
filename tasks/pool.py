"""The pool as strategies see it: tokens from the lake, here or on workers, scored by a model where there is one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.lake.annotations import labelled_texts
from storage.lake.items import pool_features, pool_ids, pool_item_ids
from storage.lake.store import Store
from storage.records import Split
from tasks.learning.encoders import Encoder
from tasks.learning.tokens import Examples, Tokens
from tasks.learning.vectors import TokenVectors, Vectors
from tasks.prepare import add_missing_features, current_encoder
from tasks.project import Project
from tasks.sampling.pool_building import build_pool, hidden_vectors, token_vectors
from tasks.sampling.strategy import NO_TEXTS, Pool

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel
    from tasks.scale.workers import Workers

log = logging.getLogger(__name__)


def load_pool(project: Project, version: int, model: LoadedModel | None, workers: Workers | None = None) -> Pool:
    """The whole pool; with a model in that model's tokens, made here where they are missing.

    Args:
        version: The lake version whose labels are meant.
        workers: Who holds the texts, in shards; None for this process.
    """
    workspace, label_set, encoder_name = project.workspace, project.config.task, project.config.model.encoder
    store = workspace.store()
    encoder = model.encoder if model is not None else current_encoder(workspace, encoder_name)
    add_missing_features(workspace, encoder)
    vectors: Vectors
    hidden: Vectors | None
    if workers is None:
        item_ids, tokens = _features(store, encoder)
        vectors = here = token_vectors(tokens, encoder)
        hidden = hidden_vectors(model.classifier, here) if model is not None else None
    else:
        from tasks.scale.shards import Shard, sharded_vectors

        at = store.version()
        item_ids = pool_ids(store, encoder.encoder_id, at)
        model_id = model.model_id if model is not None else None
        shard = Shard(workspace, at, encoder.encoder_id, encoder_name, model_id, label_set.names)
        vectors = sharded_vectors(workers, token_vectors(NO_TEXTS, encoder), item_ids, shard)
        hidden = vectors if model is not None else None
        if model is not None and not model.classifier.linear:
            here = token_vectors(NO_TEXTS, encoder)
            shard = replace(shard, hidden=True)
            hidden = sharded_vectors(workers, hidden_vectors(model.classifier, here), item_ids, shard)
    training, validation = (labelled_texts(store, split, version) for split in (Split.TRAINING, Split.VALIDATION))
    words, known = _known_keywords(encoder, project.config.sampling.keywords)
    return build_pool(
        item_ids,
        vectors,
        encoder,
        (model.classifier, model.calibration) if model is not None else None,
        _examples(encoder, training, label_set.names),
        _examples(encoder, validation, label_set.names),
        hidden=hidden,
        seen=_tokens(encoder, training),  # also of labels that are gone
        positive=label_set.names.index(label_set.positive) if label_set.positive else None,
        keywords=known,
        keyword_names=words,
    )


def load_pool_ids(project: Project, version: int) -> Pool:
    """The pool without its texts: enough for strategies that look at none, and quick."""
    item_ids = pool_item_ids(project.workspace.store(), version)
    no_tokens = Tokens(NO_TEXTS.ids, np.zeros(len(item_ids) + 1, np.int64))
    none = np.zeros((len(item_ids), 0), np.float32)
    return Pool(item_ids, TokenVectors(no_tokens, 0, None), np.zeros(0), none, none)


def _known_keywords(encoder: Encoder, keywords: Sequence[str]) -> tuple[tuple[str, ...], Tokens]:
    """The keywords of which the encoder knows every part, in quotes and as tokens; the others are told."""
    if not keywords:
        return (), NO_TEXTS
    words, table = encoder.tokenize(pa.array(list(keywords), pa.string())), encoder.vectors()
    if table is None:
        known = np.array([len(word.split()) for word in keywords], np.int64) == words.lengths
    else:
        known = words.sums(np.where(table.any(axis=1), 0.0, 1.0)) == 0
    known &= words.lengths > 0
    if unknown := [word for word, is_known in zip(keywords, known, strict=True) if not is_known]:
        log.warning("The encoder does not know these keywords: %s.", ", ".join(map(repr, unknown)))
    names = tuple(f'"{word}"' for word, is_known in zip(keywords, known, strict=True) if is_known)
    return names, words.take(np.flatnonzero(known))


def _features(store: Store, encoder: Encoder) -> tuple[pa.Array, Tokens]:
    item_ids: list[pa.Array] = []
    parts: list[Tokens] = []
    for batch in pool_features(store, encoder.encoder_id):
        item_ids.append(batch.column("item_id"))
        parts.append(Tokens.from_arrow(batch.column("tokens")))
    return pa.concat_arrays(item_ids) if item_ids else pa.array([], pa.string()), Tokens.joined(parts)


def _examples(encoder: Encoder, table: pa.Table, names: Sequence[str]) -> Examples:
    """The rows of a table (item_id, text, label) whose label pal.toml has."""
    known = table.filter(pc.is_in(table["label"], pa.array(names, pa.string())))
    labels = [names.index(label) for label in known["label"].to_pylist()]
    return Examples(_tokens(encoder, known), np.array(labels, np.int64))


def _tokens(encoder: Encoder, table: pa.Table) -> Tokens:
    return encoder.tokenize(pa.array(table["text"].to_pylist(), pa.string()))
