"""A model's directory: weights as safetensors, and a manifest, written last, with everything else to predict."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import load, save

from storage.files.folders import MANIFEST as MANIFEST
from storage.files.folders import publish_folder
from tasks.learning.calibration import Calibration
from tasks.learning.encoders import BagOfWords, Encoder, Encoders
from tasks.learning.network import FamilyClassifier, Network
from tasks.learning.sentence_package import sentence_encoder_id
from tasks.learning.sentences import SentenceEncoder, SentenceRows
from tasks.learning.stored_model import MANIFEST_VERSION, Became, Outputs, model_manifest, read_column, read_model
from tasks.learning.stored_model import WEIGHTS as WEIGHTS
from tasks.learning.tokens import Tokens
from tasks.learning.training import Classifier, Trained, TrainingConfig, predict_logits


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict."""

    model_id: str
    encoder: Encoder
    classifier: Network
    calibration: Calibration
    labels: tuple[str, ...]
    outputs: Outputs | None = None

    def probabilities(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Probabilities (n, n_labels) of n texts given as this model's tokens."""
        probabilities = self.calibration.probabilities(predict_logits(self.classifier, tokens))
        return self.outputs.summed(probabilities) if self.outputs else probabilities

    def predict(self, texts: Sequence[str], sentences: SentenceRows | None = None) -> npt.NDArray[np.float32]:
        """Probabilities (n, n_labels) of n texts.

        Args:
            sentences: Their sentence vectors; a model that reads them makes them where None.
        """
        return self.probabilities(self.read(texts, sentences))

    def read(self, texts: Sequence[str], sentences: SentenceRows | None = None) -> Tokens:
        """What it needs of n texts: token ids, and characters and sentence vectors where it reads those."""
        tokens = read_column(self.encoder, pa.array(texts, pa.string()), self.classifier.reads_characters)
        if not self.classifier.reads_sentences:
            return tokens
        return replace(tokens, sentences=SentenceEncoder().encode(texts) if sentences is None else sentences)

    @property
    def sentence_encoder_id(self) -> str | None:
        """The sentence encoder whose vectors it reads; None where it reads none."""
        return sentence_encoder_id() if self.classifier.reads_sentences else None


def save_model(
    folder: Path,
    trained: Trained,
    encoder: Encoder,
    labels: Sequence[str],
    config: TrainingConfig,
    facts: dict[str, Any],
) -> str:
    """Write a model's directory, whole or not at all; one that exists stays. Returns the weights' hash.

    Args:
        facts: What else the manifest should say: lake version, number of training items, code version.
    """

    def write(part: Path) -> dict[str, Any]:
        state = {name: value.contiguous() for name, value in trained.classifier.learned_state().items()}
        weights = save(state)
        (part / WEIGHTS).write_bytes(weights)
        return {
            "manifest_version": MANIFEST_VERSION,
            "model_id": folder.name,
            **facts,
            "encoder_id": encoder.encoder_id,
            "sentence_encoder_id": sentence_encoder_id() if trained.classifier.reads_sentences else None,
            "vocabulary": list(encoder.words) if isinstance(encoder, BagOfWords) else None,
            "labels": list(labels),
            "calibration": asdict(trained.calibration),
            "epochs": trained.epochs,
            "config": asdict(config),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }

    publish_folder(folder, write)
    return str(model_manifest(folder)["weights_sha256"])


def load_model(
    folder: Path,
    labels: Sequence[str] | None = None,
    became: Became | None = None,
    encoders: Encoders | None = None,
) -> LoadedModel:
    """Read a model's directory; an adapted encoder is looked for in `encoders` beside the folder of models.

    Args:
        labels: The labels that it must have been trained for, in order; None to take what it has.
        became: How labels changed since, as `stored_model.read_model` takes it.
        encoders: Likewise.

    Raises:
        ModelError: It is missing or damaged, or made for another encoder, other labels or a newer version of this.
    """
    stored = read_model(folder, labels, became, encoders)
    encoder = stored.encoder
    weights = load(stored.weights)
    if "centre" in weights:
        families = FamilyClassifier(encoder, weights).eval()
        return LoadedModel(stored.model_id, encoder, families, stored.calibration, stored.labels, stored.outputs)
    with torch.random.fork_rng(devices=[]):  # layers draw before they get their weights
        classifier = Classifier(encoder.n_tokens, stored.n_outputs, vectors=encoder.vectors(), hidden=stored.hidden)
    classifier.load_state_dict(weights, strict=not classifier.pretrained)
    classifier.eval()
    return LoadedModel(stored.model_id, encoder, classifier, stored.calibration, stored.labels, stored.outputs)
