"""A pool put together from tokens, a model and labelled items: the same for a lake and for a simulation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.learning.calibration import Calibration
from tasks.learning.classifier import Classifier
from tasks.learning.encoder import Encoder
from tasks.learning.tokens import Tokens
from tasks.learning.training import Examples
from tasks.learning.vectors import NetworkVectors, TokenVectors, Vectors
from tasks.sampling.strategy import NO_TEXTS, Head, Labelled, Pool


def build_pool(
    item_ids: pa.Array,
    tokens: Tokens,
    encoder: Encoder,
    model: tuple[Classifier, Calibration] | None,
    training: Examples,
    validation: Examples,
    *,
    seen: Tokens | None = None,
    positive: int | None = None,
    keywords: Tokens = NO_TEXTS,
    keyword_names: Sequence[str] = (),
) -> Pool:
    """The pool under an encoder, scored by a model where there is one.

    Args:
        item_ids: (n,), ascending.
        tokens: Of the n items, by this encoder.
        model: Trained on this encoder's tokens.
        seen: Every text that was trained on, also those whose label is gone; the training items' where None.
        positive: Number of the label that is looked for.
    """
    vectors = TokenVectors(tokens, encoder.n_tokens, encoder.vectors())
    hidden, head = (_hidden(model[0], vectors), _head(*model)) if model is not None else (None, None)
    logits = _logits(hidden, head, len(tokens))
    counted = np.bincount((seen or training.tokens).ids, minlength=encoder.n_tokens)
    return Pool(
        item_ids,
        vectors,
        counted.astype(np.float64),
        model[1].probabilities(logits) if model is not None else logits,
        logits,
        hidden,
        head,
        _labelled(training, hidden, head),
        _labelled(validation, hidden, head),
        positive,
        keywords,
        tuple(keyword_names),
    )


def _hidden(classifier: Classifier, vectors: TokenVectors) -> Vectors:
    """The last representation before the head: under a linear head the vectors themselves."""
    return vectors if classifier.linear else NetworkVectors(vectors.tokens, classifier)


def _head(classifier: Classifier, calibration: Calibration) -> Head:
    layer = classifier.head
    return Head(layer.weight.detach().numpy(), layer.bias.detach().numpy(), calibration.temperature)


def _logits(hidden: Vectors | None, head: Head | None, n: int) -> npt.NDArray[np.float32]:
    if hidden is None or head is None:
        return np.zeros((n, 0), np.float32)
    logits = hidden.products(head.weight)
    logits += head.bias
    return logits


def _labelled(examples: Examples, hidden: Vectors | None, head: Head | None) -> Labelled:
    own = hidden.of(examples.tokens) if hidden is not None else None
    return Labelled(examples.tokens, examples.labels, _logits(own, head, len(examples.tokens)))
