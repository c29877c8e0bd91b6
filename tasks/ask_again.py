"""Stages `draw_disputed` and `draw_review`: batches of items that already have answers.

Disputed items are those on which annotators disagree or were unsure, shown with their answers; review items are
training items that are probably mislabelled or most worth another answer.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from annotation.label_set import LabelSet
from storage.lake.batches import Draft, OvertakenError, count_batches, published_batches, reserve
from storage.lake.codebook import items_without_label
from storage.lake.history import disputed_items, independent_answers, reviewed_items
from storage.lake.models import production_model
from storage.lake.store import Store
from storage.records import Assignment, Proposal, Purpose, Split
from tasks.learning.label_errors import label_errors
from tasks.learning.training import cross_validated_probabilities
from tasks.prepare import current_encoder, open_model
from tasks.project import Project
from tasks.sample import load_pool, share_out
from tasks.sentence_vectors import stored_vectors, usable_encoder_id
from tasks.train import examples_of, labelled_with

log = logging.getLogger(__name__)


def draw_disputed(project: Project, n: int = 0) -> str | None:
    """Reserve the disputed items, oldest answers first; returns the batch's id, or None if there are none.

    An open adjudication batch is returned instead. One adjudicator answers the batch.

    Args:
        n: Maximum number of items; 0 for `[batch] size`.
    """
    store, asking = project.store, project.config.batch
    if opened := open_again(store, Purpose.ADJUDICATION):
        return opened
    disputed = disputed_items(store)
    item_ids = disputed[: n or asking.size]
    if not item_ids:
        return None
    batch_id = reserve_again(project, Purpose.ADJUDICATION, Again(item_ids, "disputed"))
    log.info("Sent %d of %d disputed items to adjudication.", len(item_ids), len(disputed))
    return batch_id


def open_again(store: Store, purpose: Purpose) -> str | None:
    """The open batch of a purpose for repeated queries, if any."""
    opened = published_batches(store, again=True)
    return next((batch.batch_id for batch in opened if batch.purpose is purpose), None)


@dataclass(frozen=True)
class Again:
    """Answered items to query again.

    Attributes:
        reason: Recorded as the strategy of these items.
        scores: (n,), higher = query first; may be empty.
        assignments: Which annotator gets which item; empty if anybody may answer.
    """

    item_ids: Sequence[str]
    reason: str
    scores: Sequence[float] = ()
    model_id: str | None = None
    assignments: Sequence[Assignment] = ()


def reserve_again(project: Project, purpose: Purpose, again: Again, *, beside_open: bool = False) -> str:
    """Reserve answered items to query them again; returns the batch's id, or that of a concurrently opened batch.

    Args:
        beside_open: Reserve even if a batch of this purpose is open.
    """
    store, asking = project.store, project.config.batch
    scores: Sequence[float | None] = again.scores or [None] * len(again.item_ids)
    proposals = [
        Proposal(item_id, again.reason, score, rank)
        for rank, (item_id, score) in enumerate(zip(again.item_ids, scores, strict=True), start=1)
    ]
    draft = Draft(
        purpose,
        again.item_ids,
        proposals,
        0,
        store.version(),
        project.label_set.digest,
        again.model_id,
        {again.reason: len(again.item_ids)},
        overlap=asking.overlap if again.assignments else 1,
        formats=asking.formats,
        assignments=again.assignments,
    )
    try:
        return reserve(store, draft, beside_open=beside_open)[0].batch_id
    except OvertakenError:
        if opened := open_again(store, purpose):
            return opened
        raise


def draw_unlabelled(project: Project) -> str | None:
    """Reserve the items whose label was retired or split; returns the batch's id, or None if there are none.

    An open review is returned instead.
    """
    store, config = project.store, project.config
    if open_batch := open_again(store, Purpose.REVIEW):
        return open_batch
    item_ids = items_without_label(store)
    if not item_ids:
        return None
    assignments = share_out(store, item_ids, config.batch, config.model.seed + count_batches(store))
    return reserve_again(project, Purpose.REVIEW, Again(item_ids, "relabel", assignments=assignments))


Method = Literal["confident-learning", "active-lab"]


@dataclass(frozen=True)
class OutOfSample:
    """Cross-validated predictions of the training items.

    Attributes:
        labels: (n,), label numbers in the order of pal.toml.
        probabilities: float32 (n, n_labels).
    """

    item_ids: list[str]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


def out_of_sample(project: Project, version: int) -> OutOfSample:
    """Cross-validate on the training items of a lake version.

    Raises:
        ModelError: The items have fewer than two labels.
    """
    names, config = project.label_set.names, project.config.model
    store = project.store
    encoder = current_encoder(project.workspace, config.encoder, project.encoders)
    training = labelled_with(store, Split.TRAINING, version, names)
    sentences = stored_vectors(store, usable_encoder_id(project), training["text"].to_pylist())
    examples = examples_of(encoder, training, names, sentences)
    probabilities = cross_validated_probabilities(encoder, examples, config.training, n_labels=len(names))
    return OutOfSample(training["item_id"].to_pylist(), examples.labels, probabilities)


def draw_review(project: Project, n: int = 0, method: Method = "confident-learning") -> str | None:
    """Reserve training items to query again, most suspicious first; returns the batch's id, or None if there are none.

    An open review is returned instead. Items that were reviewed or adjudicated before are excluded.

    Args:
        n: Maximum number of items; 0 for `[batch] size`.
        method: Suspicious labels by cross-validation, or the value of one more answer.
    """
    store, config = project.store, project.config
    if open_batch := open_again(store, Purpose.REVIEW):
        return open_batch
    version = store.version()
    items = out_of_sample(project, version)
    reviewed, most = reviewed_items(store), n or config.batch.size
    if method == "active-lab":
        item_ids, scores = _worth_most(project, items, version, most, reviewed)
    else:
        errors = label_errors(items.labels, items.probabilities)
        item_ids, scores = [items.item_ids[k] for k in errors.positions], errors.scores.tolist()
        log.info("%s of %s training labels are suspicious.", f"{len(item_ids):,}", f"{len(items.item_ids):,}")
    fresh = [pair for pair in zip(item_ids, scores, strict=True) if pair[0] not in reviewed][:most]
    if not fresh:
        return None
    chosen = [item_id for item_id, _ in fresh]
    model = production_model(store)
    again = Again(
        chosen,
        method.replace("-", "_"),
        [score for _, score in fresh],
        model.model_id if model else None,
        share_out(store, chosen, config.batch, config.model.seed + count_batches(store)),
    )
    return reserve_again(project, Purpose.REVIEW, again)


def answer_matrix(
    store: Store, item_ids: Sequence[str], label_set: LabelSet
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """The labels of each annotator: (n_items, n_annotators), -1 for no answer; and the annotators' names."""
    row = {item_id: number for number, item_id in enumerate(item_ids)}
    answers = [
        answer
        for answer in independent_answers(store).to_pylist()
        if answer["item_id"] in row and answer["answer"] in label_set.names
    ]
    names = tuple(sorted({answer["annotator"] for answer in answers}))
    column = {name: number for number, name in enumerate(names)}
    matrix = np.full((len(item_ids), len(names)), -1, np.int64)
    for answer in answers:
        matrix[row[answer["item_id"]], column[answer["annotator"]]] = label_set.names.index(answer["answer"])
    return matrix, names


def _worth_most(
    project: Project, items: OutOfSample, version: int, n: int, reviewed: Collection[str]
) -> tuple[list[str], list[float]]:
    """The answered items among the n items whose next answer is most valuable; logs how many are pool items.

    Items in `reviewed` are excluded, but their answers inform the quality of the annotators.
    """
    from annotation.consensus import ask_scores

    store, label_set = project.store, project.label_set
    model = production_model(store)
    matrix, names = answer_matrix(store, items.item_ids, label_set)
    answered = np.flatnonzero((matrix >= 0).any(axis=1))
    probabilities = items.probabilities[answered]
    matrix = matrix[answered]
    if model is not None:
        pool = load_pool(project, version, open_model(project, model.model_id))
        new = np.full((len(pool), len(names)), -1, np.int64)
        matrix, probabilities = np.vstack([matrix, new]), np.vstack([probabilities, pool.probabilities])
    scores = ask_scores(matrix, probabilities)
    scores[: len(answered)][[items.item_ids[k] in reviewed for k in answered]] = -np.inf
    first = np.argsort(-scores, kind="stable")[:n]
    first = first[np.isfinite(scores[first])]
    again = first[first < len(answered)]
    log.info(
        "Of the %d items whose answer is most valuable, %d are answered and %d are new%s.",
        len(first),
        len(again),
        len(first) - len(again),
        "" if len(again) else "; query new items: pal next",
    )
    return [items.item_ids[answered[k]] for k in again], scores[again].tolist()
