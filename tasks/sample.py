"""Stages `sample_batch` and `publish_batches`: score the pool, mix the strategies, reserve a batch, write its files.

The pool is read from the lake here or by workers; without a model only its item ids are read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotation.batch import assign, contents_of, is_of, with_gold, write_batch
from storage.errors import BatchError, ModelError, SamplingError
from storage.files.folders import MANIFEST
from storage.lake.annotations import labelled_texts
from storage.lake.batches import Draft, OvertakenError, count_batches, published_batches
from storage.lake.batches import reserve as reserve_batch
from storage.lake.evaluation_reserve import RESERVE, Reserve, find_reserve
from storage.lake.history import annotators_of, settled_labels
from storage.lake.items import Askable, Beside, pool_features, pool_ids, pool_item_ids
from storage.lake.store import Store
from storage.records import Assignment, Batch, Proposal, Split
from tasks.config.settings import BatchConfig, SamplingConfig, ScaleConfig
from tasks.learning.encoders import Encoder
from tasks.learning.ngrams import CharacterCodes
from tasks.learning.stored_model import read_column
from tasks.learning.tokens import Examples, Tokens
from tasks.learning.vectors import TokenVectors, Vectors
from tasks.plan import Plan, reserve_of, signs_of
from tasks.prepare import add_missing_features, beside_tokens, current_encoder, tokens_in
from tasks.project import Project
from tasks.sampling.mixer import Mixed, find_strategy, mix_strategies, scaled_mix
from tasks.sampling.pool_building import LabelledTexts, build_pool, hidden_vectors, token_vectors
from tasks.sampling.strategy import NO_TEXTS, Pool
from tasks.scale.workers import open_workers
from tasks.sentence_vectors import add_missing_sentence_vectors, stored_vectors

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel
    from tasks.scale.workers import Workers

log = logging.getLogger(__name__)

TRIES = 10


def sample_batch(
    project: Project, plan: Plan, model: LoadedModel | None, *, seed: int | None = None, beside_open: bool = False
) -> Batch:
    """Reserve the items of the next batch and divide them among the annotators.

    The mix of pal.toml is scaled to the size in the plan, or to a smaller pool; items of the evaluation reserve are
    mixed in as planned. Evaluation and validation batches are drawn at random.

    Args:
        model: Scores the pool; None for a batch without a model.
        seed: Random seed (default: from pal.toml).
        beside_open: Reserve even if a batch is open; otherwise that one is returned.
    """
    started = time.monotonic()
    store, config = project.store, project.config
    seed = config.model.seed if seed is None else seed
    for attempt in range(TRIES):
        opened = published_batches(store, again=False)
        if opened and not beside_open:
            return opened[0]
        version = store.version()
        # An evaluation batch is drawn from the whole pool, without a reserve.
        reserve = Reserve() if plan.purpose is Split.EVALUATION else reserve_of(project)
        # The same lake and seed give the same batch; after another batch, also a closed one, the draw is another.
        draw = seed + count_batches(store)
        weights = _weights(plan, config.sampling)
        is_random = all(find_strategy(name).unbiased for name in weights)
        with open_workers(ScaleConfig() if is_random else config.scale) as workers:
            if is_random:
                pool = load_pool_ids(project, version, reserve)
            else:
                pool = load_pool(project, version, model, workers, reserve)
            reserved = reserve.due[: plan.n_evaluation]
            if not len(pool) and not reserved:  # only reserve items are left
                reserved = (*reserve.due, *reserve.spare)[: plan.n]
            if not len(pool) and not reserved:
                raise empty_pool()
            numbers = scaled_mix(weights, min(plan.n - len(reserved), len(pool)))
            mixed = mix_strategies(pool, numbers, draw, config.sampling.options)
            mixed = with_reserve(mixed, reserved, draw)
        draft = Draft(
            plan.purpose,
            mixed.item_ids,
            mixed.proposals,
            seed,
            version,
            project.label_set.digest,
            model.model_id if model is not None else None,
            {**({RESERVE: len(reserved)} if reserved else {}), **numbers},
            (*reserve.shares(len(reserved)), *mixed.shares),
            signs_of(store, project.label_set) if plan.active else (),
            config.batch.overlap,
            config.batch.formats,
            share_out(store, mixed.item_ids, config.batch, draw),
            evaluation=frozenset(reserved),
            reserve_below=reserve.below or None,
        )
        try:
            batch, is_new = reserve_batch(store, draft, beside_open=beside_open)
        except OvertakenError as overtaken:
            if attempt == TRIES - 1:
                raise
            log.info("%s Drawing again.", overtaken.what)
            continue
        if is_new:
            _log(batch, time.monotonic() - started)
        return batch
    raise AssertionError("unreachable")


def empty_pool() -> SamplingError:
    """The error of a command that needs items of an empty pool."""
    return SamplingError(
        "The pool is empty: every item is annotated, in an open batch, or excluded by [sampling] where.",
        hint="Add texts: pal import FILE; or train on answers that were changed: pal nightly",
    )


def share_out(store: Store, item_ids: Sequence[str], asking: BatchConfig, seed: int) -> list[Assignment]:
    """Assign these items to the annotators, with gold items mixed in; empty without configured annotators."""
    if not asking.annotators:
        return []
    generator = np.random.default_rng(seed)
    assignments = assign(item_ids, asking.annotators, asking.overlap, generator, annotators_of(store, item_ids))
    if not asking.gold:
        return assignments
    settled = sorted(settled_labels(store).keys() - set(item_ids))
    return with_gold(assignments, settled, asking.gold, generator, annotators_of(store, settled))


def _weights(plan: Plan, sampling: SamplingConfig) -> dict[str, float]:
    if plan.purpose is not Split.TRAINING:
        return {"random": 1}
    return sampling.active if plan.active else sampling.cold


def _log(batch: Batch, seconds: float) -> None:
    mix = ", ".join(f"{n} {'for evaluation' if name == RESERVE else name}" for name, n in batch.mix.items() if n)
    log.info("Sampled %d items: %s (%.1f s).", batch.n, mix, seconds)
    for share in batch.shares:
        if share.missing:
            log.warning(
                "Strategy %s could not run: it needs %s; %s chose its %d items.",
                share.strategy,
                share.missing,
                share.ran,
                share.n,
            )


def with_reserve(mixed: Mixed, reserved: Sequence[str], seed: int) -> Mixed:
    """Insert items of the evaluation reserve at random positions of a batch."""
    if not reserved:
        return mixed
    n = len(reserved) + len(mixed.item_ids)
    order = np.random.default_rng([seed, n]).permutation(np.array([*reserved, *mixed.item_ids], dtype=object))
    proposals = [Proposal(item_id, RESERVE, None, rank) for rank, item_id in enumerate(reserved, start=1)]
    return Mixed(
        tuple(order.tolist()),
        (*proposals, *mixed.proposals),
        mixed.shares,
    )


def load_pool(
    project: Project,
    version: int,
    model: LoadedModel | None,
    workers: Workers | None = None,
    reserve: Reserve | None = None,
) -> Pool:
    """Load the whole pool, in the model's tokens if there is a model; missing features are made.

    Args:
        version: The lake version of the labels.
        workers: Workers that hold the texts in shards; None for this process.
        reserve: Items to exclude; None for those that earlier batches left out.
    """
    if model is not None and model.outputs is not None and model.outputs.are_merged:
        raise ModelError(
            f"Labels were merged since model {model.model_id} was trained; it cannot choose items.",
            hint="Train a new one: pal next",
        )
    askable = _askable(project, reserve or find_reserve(project.store, 0, 0))
    workspace, label_set, encoder_name = project.workspace, project.label_set, project.config.model.encoder
    store = project.store
    encoder = model.encoder if model is not None else current_encoder(workspace, encoder_name, project.encoders)
    add_missing_features(project, encoder)
    beside = beside_tokens(model)
    if beside.sentences:
        add_missing_sentence_vectors(project, beside.sentences)
    vectors: Vectors
    hidden: Vectors | None
    if workers is None:
        item_ids, tokens = _features(store, encoder, askable, beside)
        vectors = here = token_vectors(tokens, encoder)
        hidden = hidden_vectors(model.classifier, here) if model is not None else None
    else:
        from tasks.scale.shards import Shard, sharded_vectors

        at = store.version()
        item_ids = pool_ids(store, encoder.encoder_id, at, askable)
        model_id = model.model_id if model is not None else None
        shard = Shard(workspace, at, encoder.encoder_id, encoder_name, model_id, label_set.names, askable=askable)
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
        LabelledTexts(
            _examples(store, encoder, training, label_set.names, beside),
            _examples(store, encoder, validation, label_set.names, beside),
            seen=_tokens(encoder, training, with_characters=False),  # including labels that were removed
            positive=label_set.names.index(label_set.positive) if label_set.positive else None,
            keywords=known,
            keyword_names=words,
        ),
        hidden=hidden,
    )


def _askable(project: Project, reserve: Reserve) -> Askable:
    return Askable(reserve.item_ids, project.config.sampling.where)


def load_pool_ids(project: Project, version: int, reserve: Reserve) -> Pool:
    """Load the pool without texts, which is quick and enough for strategies that do not use them."""
    item_ids = pool_item_ids(project.store, version, _askable(project, reserve))
    no_tokens = Tokens(NO_TEXTS.ids, np.zeros(len(item_ids) + 1, np.int64))
    none = np.zeros((len(item_ids), 0), np.float32)
    return Pool(item_ids, TokenVectors(no_tokens, 0, None), np.zeros(0), none, none)


def _known_keywords(encoder: Encoder, keywords: Sequence[str]) -> tuple[tuple[str, ...], Tokens]:
    """The keywords that the encoder knows completely, quoted and as tokens; the others are logged."""
    if not keywords:
        return (), NO_TEXTS
    words, table = encoder.tokenize(pa.array(list(keywords), pa.string())), encoder.vectors()
    if table is None:
        is_supported = np.array([len(word.split()) for word in keywords], np.int64) == words.lengths
    else:
        is_supported = words.sums(np.where(table.any(axis=1), 0.0, 1.0)) == 0
    is_supported &= words.lengths > 0
    if unknown := [word for word, is_known in zip(keywords, is_supported, strict=True) if not is_known]:
        log.warning("The encoder does not know these keywords: %s.", ", ".join(map(repr, unknown)))
    names = tuple(f'"{word}"' for word, is_known in zip(keywords, is_supported, strict=True) if is_known)
    return names, words.take(np.flatnonzero(is_supported))


def _features(store: Store, encoder: Encoder, askable: Askable, beside: Beside) -> tuple[pa.Array, Tokens]:
    item_ids: list[pa.Array] = []
    parts: list[Tokens] = []
    codes = CharacterCodes() if beside.text else None
    for batch in pool_features(store, encoder.encoder_id, askable=askable, beside=beside):
        item_ids.append(batch.column("item_id"))
        parts.append(tokens_in(batch, codes))
    return pa.concat_arrays(item_ids) if item_ids else pa.array([], pa.string()), Tokens.joined(parts)


def _examples(store: Store, encoder: Encoder, table: pa.Table, names: Sequence[str], beside: Beside) -> Examples:
    """The rows of a table (item_id, text, label) with labels of pal.toml."""
    labeled = table.filter(pc.is_in(table["label"], pa.array(names, pa.string())))
    labels = [names.index(label) for label in labeled["label"].to_pylist()]
    tokens = _tokens(encoder, labeled, beside.text)
    sentences = stored_vectors(store, beside.sentences or None, labeled["text"].to_pylist())
    return Examples(replace(tokens, sentences=sentences), np.array(labels, np.int64))


def _tokens(encoder: Encoder, table: pa.Table, with_characters: bool) -> Tokens:
    return read_column(encoder, pa.array(table["text"].to_pylist(), pa.string()), with_characters)


def lacks_files(project: Project) -> bool:
    """Whether an open batch has no files, after a kill or a loss."""
    opened = published_batches(project.store)
    return any(not (project.workspace.batches / batch.batch_id / MANIFEST).is_file() for batch in opened)


def publish_batches(project: Project) -> list[Path]:
    """Write the missing folders of open batches, including those of killed runs; returns the new folders.

    Raises:
        BatchError: A folder is of another batch with the same id, for example after the lake was restored alone.
    """
    workspace = project.workspace
    store = project.store
    written = []
    for batch in published_batches(store):
        folder = workspace.batches / batch.batch_id
        if (folder / MANIFEST).is_file():
            if not is_of(folder, batch):
                raise BatchError(
                    f"{folder} is of another batch with this id: the folder or the lake is from another time.",
                    hint="Move the folder away, and run the command again.",
                )
            continue
        if write_batch(folder, batch, contents_of(store, batch, project.config.batch.context), project.label_set):
            log.info("Wrote the files of batch %s: %s", batch.batch_id, folder)
            written.append(folder)
    return written
