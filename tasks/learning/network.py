"""Networks from token ids to logits: the base of all, and the network on feature families.

A network on families looks up numbers per token or n-gram, and adds and scales them per text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from tasks.learning.ngrams import ORDERS, Stream, count_terms, orders_in, rows_by_bucket, stream_of, weights_and_norms
from tasks.learning.sentences import sentences_of
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import unit

if TYPE_CHECKING:
    from tasks.learning.encoders import Encoder
    from tasks.learning.families import Family, Vocabulary
    from tasks.learning.family_training import FamilyWeights


class Network(nn.Module):
    """Texts to one logit per label.

    Attributes:
        head: The last layer.
        linear: Whether what the head reads are the encoder's own vectors.
        reads_characters: Whether it needs the characters of the texts beside their tokens.
        reads_sentences: Whether it needs their sentence vectors.
    """

    head: nn.Linear
    linear: bool = False
    reads_characters: bool = False
    reads_sentences: bool = False

    def represent(self, tokens: Tokens) -> torch.Tensor:
        """The last representation before the head, (n, width), which strategies call the hidden layer."""
        raise NotImplementedError

    def learned_state(self) -> dict[str, torch.Tensor]:
        """The weights to save: all except pretrained vectors, which belong to the encoder."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Logits (n, n_labels) of n texts."""
        logits: torch.Tensor = self.head(self.represent(tokens))
        return logits


LEAST_SQUARE = 1e-6
"""Of the distance from the centre: a smaller one is rounding."""

Floats = npt.NDArray[np.float32]


def saved_weights(fitted: FamilyWeights, vocabulary: Vocabulary) -> dict[str, torch.Tensor]:
    """The tensors that make a `FamilyClassifier`, by name.

    `centre`, `weight` (n_labels, d) and `bias` (n_labels,) always; `flat` where all token vectors have length 1; of
    sentence vectors `sentences.centre` and `sentences.weight`; and of each lexical family `NAME.orders`,
    `NAME.buckets`, `NAME.idf` (m,) and `NAME.weight` (m, n_labels).
    """
    flat = "flat_vectors" in fitted.weights
    kind: Family = "flat_vectors" if flat else "vectors"
    centre = vocabulary.centres[kind]
    weight = fitted.weights.get(kind, np.zeros((len(centre), len(fitted.bias))))
    tensors = {"centre": centre, "weight": weight.T.astype(np.float32), "bias": fitted.bias.astype(np.float32)}
    if flat:
        tensors["flat"] = np.ones(1, np.uint8)
    if "sentences" in fitted.weights:
        tensors["sentences.centre"] = vocabulary.centres["sentences"]
        tensors["sentences.weight"] = fitted.weights["sentences"].T.astype(np.float32)
    for name, idf in vocabulary.idf.items():
        if name in fitted.weights:
            buckets = np.flatnonzero(idf).astype(np.int32)
            tensors |= {
                f"{name}.orders": np.array(vocabulary.orders[name], np.int32),
                f"{name}.idf": idf[buckets],
                f"{name}.buckets": buckets,
                f"{name}.weight": fitted.weights[name][buckets].astype(np.float32),
            }
    return {name: torch.from_numpy(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}


class FamilyClassifier(Network):
    """Texts to one logit per label.

    The last representation before the head is the text's centered direction among the token vectors, followed by that
    of its sentence vector and by what the lexical families say for each label; the head adds those as they are.

    Args:
        encoder: One with token vectors (n_tokens, d), which are not part of the saved weights.
        weights: As `saved_weights` makes them.
    """

    def __init__(self, encoder: Encoder, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        table, self.pieces = encoder.vectors(), encoder.pieces()
        assert table is not None
        vectors = unit(table) if "flat" in weights else table
        self.bag = nn.EmbeddingBag.from_pretrained(torch.from_numpy(vectors), mode="mean", freeze=True)
        self.saved = weights
        self.outputs = torch.cat([weights["weight"], weights["centre"][None]])
        self.said_of_tokens = nn.EmbeddingBag.from_pretrained(self.bag.weight @ self.outputs.T, mode="mean")
        self.lexical = nn.ModuleDict(
            {
                name: _Lexical(
                    orders_in(weights, name), *(weights[f"{name}.{part}"] for part in ("idf", "buckets", "weight"))
                )
                for name in ORDERS
                if f"{name}.idf" in weights
            }
        )
        self.reads_characters = "characters" in self.lexical
        self.reads_sentences = "sentences.weight" in weights
        self.reads_vectors = bool(weights["weight"].any())
        n_labels = len(weights["bias"])
        own = [weights["weight"]]
        own += [weights["sentences.weight"]] if self.reads_sentences else []
        own += [torch.eye(n_labels)] if self.lexical else []
        width = sum(part.shape[1] for part in own)
        self.head = nn.Linear(width, n_labels, device="meta")  # skip_init imports sympy
        self.head.weight = nn.Parameter(torch.cat(own, dim=1))
        self.head.bias = nn.Parameter(weights["bias"].clone())

    def represent(self, tokens: Tokens) -> torch.Tensor:
        """The last representation before the head, (n, width)."""
        parts = [self._vectors(tokens)]
        parts += [self._sentences(tokens)] if self.reads_sentences else []
        parts += [self._said(tokens)] if self.lexical else []
        return torch.cat(parts, dim=1)

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Logits (n, n_labels) of n texts: what the head makes of `represent`, families of weight 0 left unread."""
        logits = self.head.bias.expand(len(tokens), -1)
        if self.reads_vectors:
            logits = logits + self._said_of_vectors(tokens)
        if self.reads_sentences:
            logits = torch.addmm(logits, self._sentences(tokens), self.saved["sentences.weight"].T)
        return logits + self._said(tokens) if self.lexical else logits

    def _vectors(self, tokens: Tokens) -> torch.Tensor:
        return _centered(functional.normalize(self.bag(*tokens.tensors()), dim=1), self.saved["centre"])

    def _said_of_vectors(self, tokens: Tokens) -> torch.Tensor:
        """The weights times `_vectors`, which are not made: a table has the products, lengths follow from cosines."""
        bags = tokens.tensors()
        lengths = torch.linalg.vector_norm(self.bag(*bags), dim=1)
        said: torch.Tensor = self.said_of_tokens(*bags).div_(lengths.clamp_min(1e-12)[:, None])
        squares = (lengths > 0).float() - 2 * said[:, -1] + self.saved["centre"].square().sum()
        from_centre = said[:, :-1] - self.outputs[:-1] @ self.saved["centre"]
        lengths = squares.clamp_min(LEAST_SQUARE).sqrt()
        return from_centre.div(lengths[:, None])

    def _sentences(self, tokens: Tokens) -> torch.Tensor:
        return _centered(torch.from_numpy(sentences_of(tokens)), self.saved["sentences.centre"])

    def _said(self, tokens: Tokens) -> torch.Tensor:
        said = [family(stream_of(name, tokens, self.pieces)) for name, family in self.lexical.items()]
        return torch.stack(said).sum(dim=0)

    def learned_state(self) -> dict[str, torch.Tensor]:
        """What is saved: all but the token vectors, which the encoder brings."""
        return self.saved


def _centered(directions: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Directions (n, d) from a centre (d,), of length 1."""
    rows = directions - centre
    return rows.div_(rows.norm(dim=1, keepdim=True).clamp_min_(1e-12))


class _Lexical(nn.Module):
    """Weights of the n-grams that the training items have; all others are left out."""

    def __init__(self, orders: tuple[int, ...], idf: torch.Tensor, buckets: torch.Tensor, weight: torch.Tensor) -> None:
        super().__init__()
        self.orders = orders
        self.row_of = rows_by_bucket(buckets.numpy())
        self.idf = np.append(np.float32(0), idf.numpy())
        self.weight = nn.Parameter(torch.cat([torch.zeros(1, weight.shape[1]), weight]), requires_grad=False)

    def forward(self, stream: Stream) -> torch.Tensor:
        terms = count_terms(stream, self.orders, self.row_of)
        weights, norms = weights_and_norms(terms, self.idf)
        rows, starts = torch.from_numpy(terms.buckets), torch.from_numpy(terms.offsets[:-1]).int()
        sums = functional.embedding_bag(
            rows, self.weight, starts, mode="sum", per_sample_weights=torch.from_numpy(weights)
        )
        return sums / torch.from_numpy(norms)[:, None]
