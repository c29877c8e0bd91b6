"""Stage `prepare`: token ids for every item that has none yet, made once and kept in the lake."""

from __future__ import annotations

import logging
import time

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task

from annotation.progress import progress
from storage.items import (
    add_features,
    add_vocabulary,
    all_texts,
    count_items,
    count_without_features,
    newest_vocabulary,
    texts_without_features,
)
from storage.workspace import Workspace
from tasks.learning.encoder import (
    BAG_OF_WORDS,
    MINILM_ADAPTED,
    BagOfWords,
    Encoder,
    fit_bag_of_words,
    minilm_static,
    newest_adapted,
)

log = logging.getLogger(__name__)

_FEATURES = pa.schema([("item_id", pa.string()), ("tokens", pa.binary())])


@task
def make_features(workspace: Workspace, encoder_name: str) -> str:
    """Features for all items under the configured encoder; returns its encoder_id."""
    encoder = current_encoder(workspace, encoder_name)
    add_missing_features(workspace, encoder)
    return encoder.encoder_id


def add_missing_features(workspace: Workspace, encoder: Encoder) -> None:
    """Features for the items that have none under this encoder."""
    started = time.monotonic()
    store = workspace.store()
    missing = count_without_features(store, encoder.encoder_id)
    if missing:
        with workspace.scratch() as scratch, progress("features", missing) as advance:
            path, done = scratch / "features.parquet", 0
            with pq.ParquetWriter(path, _FEATURES) as writer:
                for batch in texts_without_features(store, encoder.encoder_id):
                    tokens = encoder.tokenize(batch.column("text"))
                    writer.write_batch(pa.record_batch([batch.column("item_id"), tokens.to_arrow()], schema=_FEATURES))
                    done += batch.num_rows
                    advance(done)
            made = add_features(store, encoder.encoder_id, path)
        log.info("features of %s items with %s (%.1f s)", f"{made:,}", encoder.encoder_id, time.monotonic() - started)


def current_encoder(workspace: Workspace, name: str) -> Encoder:
    """The encoder to use now: the shipped one, that which was adapted last, or bag-of-words.

    The vocabulary of bag-of-words is fitted to the lake, and again when that has twice the items it had then; a new
    vocabulary is a new encoder, with features of its own.

    Raises:
        ModelError: Nothing was adapted yet.
    """
    if name == MINILM_ADAPTED:
        workspace.fetch_encoders()
        return newest_adapted(workspace.encoders)
    if name != BAG_OF_WORDS:
        return minilm_static()
    store = workspace.store()
    known = newest_vocabulary(store)
    n_items = count_items(store)
    if known is not None and n_items < 2 * known[0]:
        return BagOfWords(tuple(known[1]))
    fitted = fit_bag_of_words(batch.column("text") for batch in all_texts(store))
    add_vocabulary(store, fitted.encoder_id, n_items, list(fitted.words))
    log.info("vocabulary of %s words from %s items", f"{fitted.n_tokens:,}", f"{n_items:,}")
    return fitted
