"""Stage `review`: training items that are probably mislabelled, or most worth another answer, to be asked again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from prefect import task

from annotation.batch_config import BatchConfig
from annotation.label_set import LabelSet
from storage.answers import independent_answers, reviewed_items
from storage.batches import count_batches
from storage.models import production_model
from storage.records import Purpose, Split
from storage.store import Store
from storage.workspace import Workspace
from tasks.adjudicate import open_again, reserve_again
from tasks.learning.label_errors import label_errors
from tasks.learning.training import cross_validated_probabilities
from tasks.learning.training_config import TrainingConfig
from tasks.pool import load_pool
from tasks.prepare import current_encoder
from tasks.sample import share_out
from tasks.train import examples_of, labelled_with

log = logging.getLogger(__name__)

Method = Literal["confident-learning", "active-lab"]


@dataclass(frozen=True)
class OutOfSample:
    """Training items with what models say of them that were trained on the others.

    Attributes:
        labels: (n,), numbers in the order of pal.toml.
        probabilities: float32 (n, n_labels).
    """

    item_ids: list[str]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


def out_of_sample(
    workspace: Workspace, label_set: LabelSet, encoder_name: str, config: TrainingConfig, version: int
) -> OutOfSample:
    """Cross-validate on the training items of a lake version.

    Raises:
        ModelError: They have fewer than two labels.
    """
    encoder = current_encoder(workspace, encoder_name)
    training = labelled_with(workspace.store(), Split.TRAINING, version, label_set.names)
    examples = examples_of(encoder, training, label_set.names)
    probabilities = cross_validated_probabilities(encoder, examples, config, n_labels=len(label_set.names))
    return OutOfSample(training["item_id"].to_pylist(), examples.labels, probabilities)


@task
def draw_review(
    workspace: Workspace,
    label_set: LabelSet,
    encoder_name: str,
    config: TrainingConfig,
    asking: BatchConfig,
    n: int | None = None,
    method: Method = "confident-learning",
) -> str | None:
    """Reserve training items to ask about again, the most suspicious first; returns the batch's id, None for none.

    An open review is returned as it is. Items that were reviewed or adjudicated before are not asked again.

    Args:
        n: Most items; `[batch] size` where None.
        method: By the label that cross-validated models hold for wrong; or by what one more answer is worth.
    """
    store = workspace.store()
    if opened := open_again(store, Purpose.REVIEW):
        return opened
    version = store.version()
    items = out_of_sample(workspace, label_set, encoder_name, config, version)
    asked, most = reviewed_items(store), n or asking.size
    if method == "active-lab":
        item_ids, scores = _worth_most(workspace, store, label_set, encoder_name, items, version, most, asked)
    else:
        found = label_errors(items.labels, items.probabilities)
        item_ids, scores = [items.item_ids[at] for at in found.positions], found.scores.tolist()
        log.info("%d of %d training labels are suspicious", len(item_ids), len(items.item_ids))
    fresh = [(item_id, score) for item_id, score in zip(item_ids, scores, strict=True) if item_id not in asked][:most]
    if not fresh:
        return None
    chosen = [item_id for item_id, _ in fresh]
    model = production_model(store)
    return reserve_again(
        store,
        Purpose.REVIEW,
        chosen,
        method.replace("-", "_"),
        label_set,
        asking,
        scores=[score for _, score in fresh],
        model_id=model.model_id if model else None,
        assignments=share_out(store, chosen, asking, config.seed + count_batches(store)),
    )


def answer_matrix(
    store: Store, item_ids: Sequence[str], label_set: LabelSet
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Who answered these items with which label: (n_items, n_annotators), -1 for no answer; and the annotators."""
    row = {item_id: at for at, item_id in enumerate(item_ids)}
    answers = [
        each
        for each in independent_answers(store).to_pylist()
        if each["item_id"] in row and each["answer"] in label_set.names
    ]
    names = tuple(sorted({each["annotator"] for each in answers}))
    column = {name: at for at, name in enumerate(names)}
    matrix = np.full((len(item_ids), len(names)), -1, np.int64)
    for each in answers:
        matrix[row[each["item_id"]], column[each["annotator"]]] = label_set.names.index(each["answer"])
    return matrix, names


def _worth_most(
    workspace: Workspace,
    store: Store,
    label_set: LabelSet,
    encoder_name: str,
    items: OutOfSample,
    version: int,
    n: int,
    asked: Collection[str],
) -> tuple[list[str], list[float]]:
    """Of the n items most worth an answer those that have one; tells how many are new ones of the pool.

    Those in `asked` are not to be asked again, but their answers tell how good the annotators are.
    """
    from annotation.consensus import ask_scores

    model = production_model(store)
    matrix, names = answer_matrix(store, items.item_ids, label_set)
    answered = np.flatnonzero((matrix >= 0).any(axis=1))
    probabilities = items.probabilities[answered]
    matrix = matrix[answered]
    if model is not None:
        pool = load_pool(workspace, store, version, label_set, encoder_name, model.model_id, ())
        new = np.full((len(pool), len(names)), -1, np.int64)
        matrix, probabilities = np.vstack([matrix, new]), np.vstack([probabilities, pool.probabilities])
    scores = ask_scores(matrix, probabilities)
    scores[: len(answered)][[items.item_ids[at] in asked for at in answered]] = -np.inf
    first = np.argsort(-scores, kind="stable")[:n]
    first = first[np.isfinite(scores[first])]
    again = first[first < len(answered)]
    log.info(
        "of the %d items most worth an answer %d have one already and %d are new%s",
        len(first),
        len(again),
        len(first) - len(again),
        "" if len(again) else ": ask about new ones, pal next",
    )
    return [items.item_ids[answered[at]] for at in again], scores[again].tolist()
