"""Build a `Pool` from vectors, a model and labeled items, for a lake or for a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.learning.calibration import Calibration
from tasks.learning.encoders import Encoder
from tasks.learning.tokens import Examples, Tokens
from tasks.learning.vectors import NetworkVectors, SummedVectors, TokenVectors, Vectors
from tasks.sampling.strategy import NO_TEXTS, Head, Labelled, Pool

NO_EXAMPLES = Examples(NO_TEXTS, np.zeros(0, np.int64))

if TYPE_CHECKING:
    from tasks.learning.network import Network


@dataclass(frozen=True)
class LabelledTexts:
    """The labeled items and keywords, tokenized with the encoder of the pool.

    Attributes:
        training: The training items.
        validation: The validation items.
        seen: Every text that was ever trained on, including those without a label now; None for the training items.
        positive: Number of the positive label; None without one.
        keywords: The keywords, each as a text.
        keyword_names: The keywords as strings.
    """

    training: Examples
    validation: Examples = NO_EXAMPLES
    seen: Tokens | None = None
    positive: int | None = None
    keywords: Tokens = NO_TEXTS
    keyword_names: Sequence[str] = ()


def build_pool(
    item_ids: pa.Array,
    vectors: Vectors,
    encoder: Encoder,
    model: tuple[Network, Calibration] | None,
    labelled: LabelledTexts,
    *,
    hidden: Vectors | None = None,
) -> Pool:
    """Build the pool of an encoder, with the predictions of the model if there is one.

    Args:
        item_ids: Ids of the n items, (n,), ascending.
        vectors: Vectors of the n items.
        encoder: The encoder of the vectors.
        model: Network, trained on tokens of this encoder, and calibration; None without a model.
        labelled: The labeled items and keywords.
        hidden: The n items in the last representation before the model's head; None without a model.
    """
    head = _head(*model) if model is not None else None
    logits = _logits(hidden, head, len(vectors))
    token_counts = np.bincount((labelled.seen or labelled.training.tokens).ids, minlength=encoder.n_tokens)
    return Pool(
        item_ids,
        vectors,
        token_counts.astype(np.float64),
        model[1].probabilities(logits) if model is not None else logits,
        logits,
        hidden,
        head,
        _labelled(labelled.training, hidden, head),
        _labelled(labelled.validation, hidden, head),
        labelled.positive,
        labelled.keywords,
        tuple(labelled.keyword_names),
    )


def token_vectors(tokens: Tokens, encoder: Encoder) -> TokenVectors:
    """Return the vectors of texts in the space of an encoder."""
    return TokenVectors(tokens, encoder.n_tokens, encoder.vectors())


def hidden_vectors(classifier: Network, vectors: TokenVectors) -> SummedVectors:
    """Return the last representation before the head; for a linear classifier the vectors themselves."""
    return vectors if classifier.linear else NetworkVectors(vectors.tokens, classifier)


def _head(classifier: Network, calibration: Calibration) -> Head:
    layer = classifier.head
    return Head(layer.weight.detach().numpy(), layer.bias.detach().numpy(), calibration.temperature)


def _logits(hidden: Vectors | None, head: Head | None, n: int) -> npt.NDArray[np.float32]:
    if hidden is None or head is None:
        return np.zeros((n, 0), np.float32)
    logits = hidden.products(head.weight)
    logits += head.bias
    return logits


def _labelled(examples: Examples, hidden: Vectors | None, head: Head | None) -> Labelled:
    representation = hidden.of(examples.tokens) if hidden is not None else None
    return Labelled(examples.tokens, examples.labels, _logits(representation, head, len(examples.tokens)))
