"""A model's folder read without torch: checked against its manifest, scored in numpy.

Importing torch takes a second; the network in numpy makes `pal predict TEXT` seven times as fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from storage.errors import ModelError
from storage.files.folders import MANIFEST, read_object
from tasks.learning.calibration import Calibration
from tasks.learning.encoders import Encoder, Encoders, Pieces, StaticVectors
from tasks.learning.ngrams import (
    ORDERS,
    CharacterCodes,
    Rows,
    count_terms,
    orders_in,
    rows_by_bucket,
    stream_of,
    weights_and_norms,
)
from tasks.learning.sentence_package import sentence_encoder_id
from tasks.learning.sentences import SentenceEncoder, SentenceRows, sentences_of
from tasks.learning.tokens import Tokens
from tasks.learning.vectors import unit

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float32]

WEIGHTS = "model.safetensors"
MANIFEST_VERSION = 3
READABLE_VERSIONS = (1, 2, MANIFEST_VERSION)
"""Models of version 1 read vectors or words alone; up to version 2 all n-grams have the lengths `ngrams.ORDERS`."""


Became = Callable[[str, int], str | None]
"""What a label of a lake version is called now; None where it is gone."""


@dataclass(frozen=True)
class Outputs:
    """What a model was trained for, where labels were renamed or merged since.

    Attributes:
        names: The labels that it was trained for.
        places: For each of them, which of today's labels it is.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def are_merged(self) -> bool:
        """Whether they are not today's labels one by one."""
        return self.places != tuple(range(len(self.places)))

    def summed(self, probabilities: Floats) -> Floats:
        """Probabilities (n, n_labels) of today's labels, from those of its own (n, n_names)."""
        sums = np.zeros((len(probabilities), max(self.places) + 1), np.float32)
        for place, column in zip(self.places, probabilities.T, strict=True):
            sums[:, place] += column
        return sums


@dataclass(frozen=True)
class StoredModel:
    """What a model's directory holds.

    Attributes:
        weights: The content of its safetensors file; pretrained vectors are the encoder's and not in it.
        hidden: Width of the hidden layer; 0 for none.
    """

    model_id: str
    encoder: Encoder
    weights: bytes
    hidden: int
    calibration: Calibration
    labels: tuple[str, ...]
    outputs: Outputs | None = None

    @property
    def n_outputs(self) -> int:
        """Number of labels that it was trained for."""
        return len(self.outputs.names if self.outputs else self.labels)


def read_model(
    folder: Path,
    labels: Sequence[str] | None = None,
    became: Became | None = None,
    encoders: Encoders | None = None,
) -> StoredModel:
    """Read a model's directory; an adapted encoder is looked for in `encoders` beside the folder of models.

    Args:
        labels: The labels that it must have been trained for, in order; None to take what it has.
        became: How labels changed since; a model for labels that were renamed or merged to just these is accepted.
        encoders: Those of its workspace, where some may have been read already.

    Raises:
        ModelError: It is missing or damaged, or made for another encoder, other labels or a newer version of this.
    """
    manifest = model_manifest(folder)
    calibration, outputs = _calibration(manifest), None
    if labels is not None and list(labels) != manifest["labels"]:
        outputs = _outputs(manifest, labels, became)
        if outputs is not None and calibration.positive is not None:
            calibration = replace(calibration, positive=outputs.places[calibration.positive])
    if labels is not None and list(labels) != manifest["labels"] and outputs is None:
        raise ModelError(
            f"Model {folder.name} was trained for the labels {', '.join(manifest['labels'])}; "
            f"pal.toml has {', '.join(labels)}.",
            hint="Train one for these labels: pal next",
        )
    weights = (folder / WEIGHTS).read_bytes() if (folder / WEIGHTS).is_file() else None
    found = "missing" if weights is None else hashlib.sha256(weights).hexdigest()
    if weights is None or found != manifest["weights_sha256"]:
        raise ModelError(
            f"{folder / WEIGHTS} has sha256 {found}; its manifest says {manifest['weights_sha256']}.",
            hint=f"Restore it from a backup, or remove {folder} and train again: pal next; see pal check",
        )
    read = manifest.get("sentence_encoder_id")
    if read is not None and read != sentence_encoder_id():
        raise ModelError(
            f"Model {folder.name} reads sentence vectors of {read}, which is not installed.",
            hint='Install the extra: pip install "pytorch-active-learning[sentence]"; or train without: pal next',
        )
    try:
        encoders = encoders or Encoders(folder.parent.parent / "encoders")
        encoder = encoders.of(manifest["encoder_id"], manifest["vocabulary"])
    except ModelError as error:
        raise ModelError(f"Model {folder.name} does not fit: {error.what}", hint=error.hint) from error
    names = manifest["labels"] if labels is None else labels
    return StoredModel(folder.name, encoder, weights, manifest["config"]["hidden"], calibration, tuple(names), outputs)


def _outputs(manifest: dict[str, Any], labels: Sequence[str], became: Became | None) -> Outputs | None:
    """Which of today's labels each output is; None where one is none of them, or one of them has no output."""
    names = tuple(manifest["labels"])
    now = [became(name, int(manifest.get("lake_version", 0))) if became else name for name in names]
    if now == list(names) or {*now} != {*labels}:
        return None
    return Outputs(names, tuple(labels.index(name) for name in now if name is not None))


def _check_values(manifest: dict[str, Any]) -> None:
    """Raise a LookupError, TypeError or ValueError where a value that a model needs is missing or of another kind."""
    labels, words = manifest["labels"], manifest["vocabulary"]
    texts = [manifest["encoder_id"], manifest["weights_sha256"], *labels, *(words or ())]
    if not isinstance(labels, list) or len(labels) < 2 or not all(isinstance(text, str) for text in texts):
        raise TypeError("labels, encoder, vocabulary and hash must be text")
    if type(manifest["config"]["hidden"]) is not int or not 0 <= manifest["config"]["hidden"] <= 65_536:
        raise ValueError(f"hidden is {manifest['config']['hidden']!r}")
    _calibration(manifest)


def _calibration(manifest: dict[str, Any]) -> Calibration:
    found = Calibration(**manifest["calibration"])
    if not float(found.temperature) > 0 or not np.isfinite(float(found.threshold)):
        raise ValueError(f"calibration is {manifest['calibration']!r}")
    if found.positive is not None and not 0 <= found.positive < len(manifest["labels"]):
        raise ValueError(f"positive is {found.positive!r}")
    return Calibration(float(found.temperature), float(found.threshold), found.positive)


def model_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model.

    Raises:
        ModelError: There is none, or it is damaged or of another version of this.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(f"{folder} is not a model: it has no {MANIFEST}.", hint="Train a model: pal next")
    try:
        manifest = read_object(path)
        found = manifest["manifest_version"]
        if found in READABLE_VERSIONS:
            _check_values(manifest)
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"{path} is damaged: {error}.",
            hint=f"Restore it from a backup, or remove {folder} and train again: pal next; see pal check",
        ) from error
    if found not in READABLE_VERSIONS:
        raise ModelError(
            f"{path} has version {found!r}; this installation reads {MANIFEST_VERSION}.",
            hint=f"Upgrade (pip install -U pytorch-active-learning), or remove {folder} and train again: pal next",
        )
    return manifest


def read_texts(encoder: Encoder, texts: Sequence[str], with_characters: bool) -> Tokens:
    """Token ids of texts, with their characters for a model that reads those."""
    if len(texts) <= FEW_TEXTS:
        tokens = encoder.tokenize_few(texts)
        return replace(tokens, characters=CharacterCodes().of_few(texts)) if with_characters else tokens
    import pyarrow as pa

    return read_column(encoder, pa.array(texts, pa.string()), with_characters)


def read_column(encoder: Encoder, texts: pa.Array, with_characters: bool) -> Tokens:
    """Token ids of a string array (n,), with the characters for a model that reads those."""
    tokens = encoder.tokenize(texts)
    return replace(tokens, characters=CharacterCodes().of(texts)) if with_characters else tokens


FEW_TEXTS = 1_000
"""So many texts are cut into tokens before Arrow, which does it ten times as fast, has been imported."""

SLICE_TEXTS = 256
"""Few enough for the processor's cache, and for BLAS to start no threads: four times as fast as 1,024."""


@dataclass(frozen=True)
class NumpyModel:
    """A model ready to predict; `model_files.LoadedModel` is the same with torch.

    Attributes:
        vectors: Of each token, (n_tokens, d): float32, or int8 to be multiplied by `scale`.
        weights: The learned layers by their names in `training.Classifier` or `network.FamilyClassifier`.
        pretrained: Whether texts are means of the encoder's vectors, else sums of learned ones.
    """

    model_id: str
    encoder: Encoder
    calibration: Calibration
    labels: tuple[str, ...]
    vectors: npt.NDArray[np.int8] | Floats
    scale: np.float32
    weights: dict[str, Floats]
    pretrained: bool
    outputs: Outputs | None = None

    @property
    def sentence_encoder_id(self) -> str | None:
        """The sentence encoder whose vectors it reads; None where it reads none."""
        return sentence_encoder_id() if "sentences.weight" in self.weights else None

    def predict(self, texts: Sequence[str], sentences: SentenceRows | None = None) -> Floats:
        """Probabilities (n, n_labels) of n texts.

        Args:
            sentences: Their sentence vectors; a model that reads them makes them where None.
        """
        tokens = read_texts(self.encoder, texts, "characters.idf" in self.weights)
        if "sentences.weight" in self.weights:
            tokens = replace(tokens, sentences=self._sentence_encoder.encode(texts) if sentences is None else sentences)
        return self.probabilities(tokens)

    def probabilities(self, tokens: Tokens) -> Floats:
        """Probabilities (n, n_labels) of n texts given as this model's tokens."""
        logits = np.empty((len(tokens), len(self.outputs.names if self.outputs else self.labels)), np.float32)
        for start in range(0, len(tokens), SLICE_TEXTS):
            part = tokens.slice(start, min(start + SLICE_TEXTS, len(tokens)))
            logits[start : start + len(part)] = self._logits(part)
        probabilities = self.calibration.probabilities(logits)
        return self.outputs.summed(probabilities) if self.outputs else probabilities

    def _logits(self, tokens: Tokens) -> Floats:
        hidden = self._pooled(tokens)
        if "centre" in self.weights:
            return self._logits_of_families(tokens, hidden)
        if "hidden.weight" in self.weights:
            hidden = hidden @ self.weights["hidden.weight"].T
        if "hidden.bias" in self.weights:
            hidden = np.maximum(hidden + self.weights["hidden.bias"], 0)
        logits: Floats = hidden @ self.weights["head.weight"].T + self.weights["head.bias"]
        return logits

    def _logits_of_families(self, tokens: Tokens, pooled: Floats) -> Floats:
        logits = unit(pooled - self.weights["centre"]) @ self.weights["weight"].T + self.weights["bias"]
        if "sentences.weight" in self.weights:
            sentences = unit(sentences_of(tokens) - self.weights["sentences.centre"])
            logits += sentences @ self.weights["sentences.weight"].T
        for family, (idf, row_of, rows) in self._lexical.items():
            orders = orders_in(self.weights, family)
            terms = count_terms(stream_of(family, tokens, self._pieces), orders, row_of)
            weights, norms = weights_and_norms(terms, idf)
            sums = np.add.reduceat(
                np.concatenate([rows[terms.buckets] * weights[:, None], rows[:1]]), terms.offsets[:-1]
            )
            logits += np.where(np.diff(terms.offsets)[:, None] > 0, sums / norms[:, None], 0)
        return logits

    @cached_property
    def _sentence_encoder(self) -> SentenceEncoder:
        return SentenceEncoder()

    @cached_property
    def _pieces(self) -> Pieces:
        return self.encoder.pieces()

    @cached_property
    def _lexical(self) -> dict[str, tuple[Floats, Rows, Floats]]:
        """Lexical family -> inverse document frequency of each row, row of each bucket, rows (m + 1, n_labels)."""
        tables = {}
        for family in ORDERS:
            if f"{family}.idf" in self.weights:
                buckets, idf, weight = (self.weights[f"{family}.{part}"] for part in ("buckets", "idf", "weight"))
                rows = np.concatenate([np.zeros((1, weight.shape[1]), np.float32), weight])
                tables[family] = np.append(np.float32(0), idf), rows_by_bucket(buckets), rows
        return tables

    def _pooled(self, tokens: Tokens) -> Floats:
        """Sum of the vectors of each text's tokens, (n, d); of pretrained ones scaled to length 1, as their mean is."""
        known, numbers = np.unique(tokens.ids, return_inverse=True)
        rows = self.vectors[known].astype(np.float32) * self.scale
        if "flat" in self.weights:
            rows = unit(rows)
        starts, lengths = tokens.offsets[:-1], tokens.lengths
        sums = np.zeros((len(tokens), rows.shape[1]), np.float32)
        for place in range(lengths.max(initial=0)):
            longer = np.flatnonzero(lengths > place)
            sums[longer] += rows[numbers[starts[longer] + place]]
        if not self.pretrained:
            return sums
        return unit(sums)


def numpy_model(folder: Path, labels: Sequence[str] | None = None, became: Became | None = None) -> NumpyModel:
    """Read a model's directory, as `model_files.load_model` does.

    Raises:
        ModelError: As there.
    """
    from safetensors.numpy import load

    stored = read_model(folder, labels, became)
    weights = load(stored.weights)
    encoder = stored.encoder
    pretrained = isinstance(encoder, StaticVectors)
    if isinstance(encoder, StaticVectors):
        vectors, scale = encoder.rounded_vectors()
    else:
        vectors, scale = weights.pop("bag.weight"), np.float32(1)
    return NumpyModel(
        stored.model_id,
        encoder,
        stored.calibration,
        stored.labels,
        vectors,
        scale,
        weights,
        pretrained=pretrained,
        outputs=stored.outputs,
    )
