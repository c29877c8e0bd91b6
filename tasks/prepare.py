"""Stage `make_features` computes token ids once for every item and stores them in the lake.

`open_model` opens a model of the workspace; `beside_tokens` and `tokens_in` read what it needs of items.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import ModelError
from storage.lake.codebook import codebook_of
from storage.lake.items import (
    Beside,
    add_features,
    add_vocabulary,
    all_texts,
    bounds_without_features,
    count_items,
    count_without_features,
    newest_vocabulary,
    texts_without_features,
)
from storage.workspace import Workspace
from tasks.config.settings import ScaleConfig
from tasks.learning.encoders import (
    BAG_OF_WORDS,
    MINILM_ADAPTED,
    MOST_FRAGMENTS,
    BagOfWords,
    Encoder,
    Encoders,
    StaticVectors,
    fit_bag_of_words,
    fragments_per_letter,
)
from tasks.learning.ngrams import CharacterCodes
from tasks.learning.sentences import from_arrow
from tasks.learning.tokens import Tokens
from tasks.project import Project
from tasks.reporting.progress import progress
from tasks.scale.workers import on_this_machine, open_workers

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel

log = logging.getLogger(__name__)

ITEMS_OF_A_CALL = 262_144
"""Items per call of a worker, which writes them in one commit; fewer items are processed here."""

SAMPLE = 2_000
"""Number of texts for the check that the encoder covers their language."""

_FEATURES = pa.schema([("item_id", pa.string()), ("tokens", pa.binary())])


def make_features(project: Project) -> str:
    """Make the missing features of all items with the configured encoder; returns its encoder_id."""
    workspace, encoder_name, scale = project.workspace, project.config.model.encoder, project.config.scale
    encoder = current_encoder(workspace, encoder_name, project.encoders)
    if scale.shared and count_without_features(project.store, encoder.encoder_id) > ITEMS_OF_A_CALL:
        _made_by_workers(workspace, encoder_name, encoder, scale)
    add_missing_features(project, encoder)
    return encoder.encoder_id


def add_missing_features(project: Project, encoder: Encoder) -> None:
    """Make the missing features with this encoder in this process."""
    started, fragments = time.monotonic(), 0.0

    def make(texts: pa.Array) -> pa.Array:
        nonlocal fragments
        tokens = encoder.tokenize(texts)
        if isinstance(encoder, StaticVectors) and not fragments:
            some = texts.slice(0, SAMPLE).to_pylist()
            n_letters = sum(map(str.isalnum, "".join(some)))
            fragments = fragments_per_letter(encoder, n_letters, tokens.slice(0, len(some)))
        return tokens.to_arrow()

    if missing := count_without_features(project.store, encoder.encoder_id):
        with progress("features", missing) as advance:
            n_made = write_features(project.workspace, encoder.encoder_id, make, advance=advance)
        _log_made(n_made, encoder, started)
    if fragments > MOST_FRAGMENTS:
        log.warning(
            "The encoder does not cover the language of these texts: 10 letters make %.1f pieces (English: 2.5). "
            "Models will rely on sequences of characters instead and need more labels than for English texts.",
            10 * fragments,
        )


def write_features(
    workspace: Workspace,
    encoder_id: str,
    make: Callable[[pa.Array], pa.Array],
    bounds: tuple[str, str] | None = None,
    advance: Callable[[int], object] | None = None,
) -> int:
    """Make the missing features and write them to the lake in one commit; returns their number.

    Args:
        make: Maps texts (n,) to features, binary (n,).
        bounds: First and last id of the items; None for all.
        advance: Called with the number of features so far.
    """
    with workspace.scratch() as scratch:
        path, done = scratch / "features.parquet", 0
        with pq.ParquetWriter(path, _FEATURES) as writer:
            for batch in texts_without_features(workspace.store(), encoder_id, bounds):
                features = make(batch.column("text"))
                writer.write_batch(pa.record_batch([batch.column("item_id"), features], schema=_FEATURES))
                done += batch.num_rows
                if advance is not None:
                    advance(done)
        return add_features(workspace.store(), encoder_id, path)


def _tokens_of(encoder: Encoder) -> Callable[[pa.Array], pa.Array]:
    return lambda texts: encoder.tokenize(texts).to_arrow()


def _made_by_workers(workspace: Workspace, encoder_name: str, encoder: Encoder, scale: ScaleConfig) -> None:
    started = time.monotonic()
    runs = bounds_without_features(workspace.store(), encoder.encoder_id, ITEMS_OF_A_CALL)
    what = {"workspace": workspace, "encoder_name": encoder_name, "encoder_id": encoder.encoder_id}
    with open_workers(scale) as workers:
        assert workers is not None
        counts = workers.run(add_shard_features, [(k, {**what, "bounds": run}) for k, run in enumerate(runs)])
    _log_made(sum(counts), encoder, started)


def add_shard_features(workspace: Workspace, encoder_name: str, encoder_id: str, bounds: tuple[str, str]) -> int:
    """On a worker: make the missing features of a range of items; returns their number."""
    here = on_this_machine(workspace)
    encoder = current_encoder(here, encoder_name)
    if encoder.encoder_id != encoder_id:
        raise ModelError(
            f"This worker has encoder {encoder.encoder_id!r} instead of {encoder_id!r}.",
            hint="Install the same version on all machines, and give all workers the same [lake] and [files].",
        )
    return write_features(here, encoder_id, _tokens_of(encoder), bounds)


def _log_made(n: int, encoder: Encoder, started: float) -> None:
    log.info("Made features of %s items with %s (%.1f s).", f"{n:,}", encoder.encoder_id, time.monotonic() - started)


def current_encoder(workspace: Workspace, name: str, encoders: Encoders | None = None) -> Encoder:
    """The encoder to use now: the shipped one, the one adapted last, or bag-of-words.

    The vocabulary of bag-of-words is fitted to the lake, and fitted again when the number of items has doubled; a new
    vocabulary is a new encoder with its own features.

    Raises:
        ModelError: No encoder was adapted yet.
    """
    encoders = encoders or Encoders(workspace.encoders)
    if name == MINILM_ADAPTED:
        workspace.fetch_encoders()
        return encoders.newest_adapted()
    if name != BAG_OF_WORDS:
        return encoders.shipped()
    store = workspace.store()
    vocabulary = newest_vocabulary(store)
    n_items = count_items(store)
    if vocabulary is not None and n_items < 2 * vocabulary[0]:
        return BagOfWords(tuple(vocabulary[1]))
    fitted = fit_bag_of_words(batch.column("text") for batch in all_texts(store))
    add_vocabulary(store, fitted.encoder_id, n_items, list(fitted.words))
    log.info("Fitted a vocabulary of %s words to %s items.", f"{fitted.n_tokens:,}", f"{n_items:,}")
    return fitted


def open_model(project: Project, model_id: str) -> LoadedModel:
    """A trained model, loaded once; also one for labels that were renamed or merged since.

    Raises:
        ModelError: It is missing or damaged, or made for another encoder, other labels or a newer version.
    """
    from tasks.learning.model_files import load_model  # torch takes seconds to import

    if model_id not in project.models:
        folder, became = project.workspace.model_folder(model_id), codebook_of(project.store).became_after
        project.models[model_id] = load_model(folder, project.label_set.names, became, project.encoders)
    return project.models[model_id]


def beside_tokens(model: LoadedModel | None) -> Beside:
    """What a model reads of an item beside its tokens."""
    if model is None:
        return Beside()
    return Beside(model.classifier.reads_characters, model.sentence_encoder_id or "")


def tokens_in(rows: pa.RecordBatch, codes: CharacterCodes | None) -> Tokens:
    """Rows (tokens, text, sentence, the last two where they are there) as a model reads them."""
    tokens = Tokens.from_arrow(rows.column("tokens"))
    if codes is not None:
        tokens = replace(tokens, characters=codes.of(rows.column("text")))
    if "sentence" in rows.schema.names:
        tokens = replace(tokens, sentences=from_arrow(rows.column("sentence")))
    return tokens
