"""Static vectors trained on: moved until the mean over a text's tokens points where a sentence encoder points.

A text's mean vector, scaled to length 1, goes through one linear layer, which is thrown away afterwards, to the
sentence vector. Only the token vectors are kept: they are looked up as fast as before.

Source: the loss is that of Reimers and Gurevych (2020), Making Monolingual Sentence Embeddings Multilingual using
Knowledge Distillation, with the cosine in place of the squared error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tasks.learning.encoder_files import HeadWeights
from tasks.learning.tokens import Tokens
from tasks.learning.training import fit_linear_head, seeded

MINIBATCH = 256
VECTORS_LEARNING_RATE = 1e-3
LINEAR_LEARNING_RATE = 3e-3
HEAD_REGULARISATION = 0.1

Matrix = npt.NDArray[np.float32]


def adapt_vectors(
    vectors: Matrix,
    tokens: Tokens,
    targets: npt.NDArray[np.float16],
    *,
    epochs: int,
    seed: int,
    told: Callable[[int], object] = lambda _done: None,
) -> Matrix:
    """Token vectors (n_tokens, d) whose means lie, up to a linear map, near the sentence vectors of n texts.

    Args:
        vectors: Where to begin, (n_tokens, d).
        tokens: Of the n texts.
        targets: Their sentence vectors, (n, width), of length 1.
        epochs: How often each text is seen.
        told: Called with the number of texts seen so far, of n * epochs.

    Returns:
        float32 (n_tokens, d); a token that is in no text keeps its vector. Same seed, same machine: same bits.
    """
    known = np.flatnonzero(tokens.lengths)
    with seeded(seed, torch.get_num_threads()):
        table = torch.nn.Parameter(torch.from_numpy(vectors.astype(np.float32, copy=True)))
        linear = torch.nn.Linear(vectors.shape[1], targets.shape[1])
        groups = [
            {"params": [table], "lr": VECTORS_LEARNING_RATE},
            {"params": linear.parameters(), "lr": LINEAR_LEARNING_RATE},
        ]
        optimiser, generator, seen = torch.optim.Adam(groups), np.random.default_rng(seed), 0
        for _ in range(epochs):
            order = generator.permutation(known)
            for start in range(0, len(order), MINIBATCH):
                chosen = order[start : start + MINIBATCH]
                pooled = functional.embedding_bag(*_bag(tokens.take(chosen), table), mode="mean")
                found = linear(functional.normalize(pooled, dim=1))
                wanted = torch.from_numpy(targets[chosen].astype(np.float32))
                loss = (1 - functional.cosine_similarity(found, wanted, dim=1)).mean()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                seen += len(chosen)
                told(seen)
    adapted: Matrix = table.detach().numpy()
    return adapted


def taught_head(vectors: Matrix, tokens: Tokens, probabilities: Matrix) -> HeadWeights:
    """The linear head on the texts' vectors (mean over tokens, length 1) that says what a teacher says of n texts.

    The texts are the pool, so the head knows how rare each label is there; training items, which sampling chose, do
    not tell that.

    Args:
        vectors: Token vectors (n_tokens, d).
        tokens: Of the n texts.
        probabilities: What the teacher says, (n, n_labels).
    """
    n_labels = probabilities.shape[1]
    with torch.inference_mode():
        pooled = functional.embedding_bag(*_bag(tokens, torch.from_numpy(vectors)), mode="mean")
        represented = functional.normalize(pooled, dim=1)
    head = torch.nn.Linear(vectors.shape[1], n_labels)
    fit_linear_head(
        head,
        represented,
        torch.from_numpy(probabilities),
        weights=torch.ones(n_labels),
        regularisation=HEAD_REGULARISATION,
    )
    return HeadWeights(head.weight.detach().numpy(), head.bias.detach().numpy())


def _bag(tokens: Tokens, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What embedding_bag takes: ids, table, starts."""
    ids, starts = tokens.tensors()
    return ids, table, starts
