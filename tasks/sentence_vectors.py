"""Stage `make_sentence_vectors`: a sentence encoder reads every text once; its vectors are kept in the lake.

Each slice of the texts is a commit of its own, so a killed run goes on where it was. Models read sentence vectors once
every item has one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from storage.lake.items import bounds_without_features, count_items, count_without_features, features_of_texts
from storage.lake.store import Store
from tasks.learning.sentence_package import sentence_encoder_id
from tasks.project import Project
from tasks.reporting.progress import progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tasks.learning.model_files import LoadedModel
    from tasks.learning.sentences import SentenceRows
    from tasks.learning.stored_model import NumpyModel

log = logging.getLogger(__name__)

ITEMS_OF_A_SLICE = 8_192
"""What a kill costs at most: half a minute of short texts."""

FEW = 2_000
"""So many missing vectors are made while somebody waits for a batch: some ten seconds."""

MANY = 200_000
"""So many are made before a night trains: about half an hour of short texts. More are made when its batch is out."""


def configured_encoder_id(project: Project) -> str | None:
    """The id of the sentence encoder that pal.toml allows and this installation has; None where there is none."""
    return sentence_encoder_id() if project.config.model.reads_sentences else None


def usable_encoder_id(project: Project) -> str | None:
    """The same, once every item has its vector; before that None."""
    encoder_id, store = configured_encoder_id(project), project.store
    return encoder_id if encoder_id and not count_without_features(store, encoder_id) else None


def vectors_are_due(project: Project, at_most: int | None = None, *, begin: bool = True) -> bool:
    """Whether items lack the sentence vectors that models may read, and there is time to make them.

    Args:
        at_most: For how many items there is time; None for any number.
        begin: Whether there is time where no item has one yet.
    """
    so_far = made_so_far(project)
    if so_far is None:
        return False
    n_made, n_items = so_far
    return n_made < n_items and (begin or n_made > 0) and (at_most is None or n_items - n_made <= at_most)


def make_sentence_vectors(project: Project) -> None:
    """Make the sentence vectors of all items that have none, where models may read them."""
    if encoder_id := configured_encoder_id(project):
        add_missing_sentence_vectors(project, encoder_id)


def add_missing_sentence_vectors(project: Project, encoder_id: str) -> None:
    """Vectors for the items that have none under this sentence encoder."""
    from tasks.learning.sentences import SentenceEncoder, to_arrow
    from tasks.prepare import write_features  # numpy and Arrow, which `pal status` need not import

    started, workspace = time.monotonic(), project.workspace
    missing = count_without_features(workspace.store(), encoder_id)
    if not missing:
        return
    encoder, n_made = SentenceEncoder(), 0
    log.info("Making sentence vectors of %s items.", f"{missing:,}")
    with progress("sentence vectors", missing) as advance:
        for bounds in bounds_without_features(workspace.store(), encoder_id, ITEMS_OF_A_SLICE):
            n_made += write_features(
                workspace, encoder_id, lambda texts: to_arrow(encoder.encode(texts.to_pylist())), bounds
            )
            advance(n_made)
    log.info("Made sentence vectors of %s items (%.1f s).", f"{n_made:,}", time.monotonic() - started)


def stored_vectors(store: Store, encoder_id: str | None, texts: Sequence[str]) -> SentenceRows | None:
    """The sentence vectors of n texts of the lake, int8 (n, 384); of those that have none there they are made.

    Args:
        encoder_id: Of the sentence encoder; None where nobody reads them: then nothing is made.
    """
    if encoder_id is None:
        return None
    import pyarrow as pa

    from tasks.learning.sentences import SentenceEncoder, from_arrow, to_arrow

    vectors = features_of_texts(store, encoder_id, texts)
    if missing := [text for text in dict.fromkeys(texts) if text not in vectors]:
        new = to_arrow(SentenceEncoder().encode(missing))
        vectors.update(zip(missing, new.to_pylist(), strict=True))
    return from_arrow(pa.array([vectors[text] for text in texts], pa.binary()))


def predict_stored(store: Store, model: LoadedModel | NumpyModel, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """A model's probabilities (n, n_labels) for n texts of the lake."""
    return model.predict(texts, stored_vectors(store, model.sentence_encoder_id, texts))


def made_so_far(project: Project) -> tuple[int, int] | None:
    """How many items have a sentence vector, and how many there are; None where models read none."""
    encoder_id, store = configured_encoder_id(project), project.store
    if encoder_id is None:
        return None
    n_items = count_items(store)
    return n_items - count_without_features(store, encoder_id), n_items
