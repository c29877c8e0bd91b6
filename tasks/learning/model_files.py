"""A model's directory: weights as safetensors, and a manifest, written last, with everything else to predict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import load_file, save

from storage.errors import ModelError
from storage.folders import MANIFEST, publish_folder
from tasks.learning.calibration import Calibration
from tasks.learning.classifier import Classifier, predict_logits
from tasks.learning.encoder import BagOfWords, Encoder, encoder_of
from tasks.learning.tokens import Tokens
from tasks.learning.training import Trained
from tasks.learning.training_config import TrainingConfig

WEIGHTS = "model.safetensors"
MANIFEST_VERSION = 1


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict."""

    model_id: str
    encoder: Encoder
    classifier: Classifier
    calibration: Calibration
    labels: tuple[str, ...]

    def probabilities(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """Probabilities (n, n_labels) of n texts given as this model's tokens."""
        return self.calibration.probabilities(predict_logits(self.classifier, tokens))

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Probabilities (n, n_labels) of n texts."""
        return self.probabilities(self.encoder.tokenize(pa.array(texts, pa.string())))


def save_model(
    folder: Path,
    trained: Trained,
    encoder: Encoder,
    labels: Sequence[str],
    config: TrainingConfig,
    facts: dict[str, Any],
) -> str:
    """Write a model's directory, whole or not at all; where it is there already it stays. Returns the weights' hash.

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
            "vocabulary": list(encoder.words) if isinstance(encoder, BagOfWords) else None,
            "labels": list(labels),
            "calibration": asdict(trained.calibration),
            "epochs": trained.epochs,
            "config": asdict(config),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }

    publish_folder(folder, write)
    return str(_manifest(folder)["weights_sha256"])


def load_model(folder: Path, labels: Sequence[str] | None = None) -> LoadedModel:
    """Read a model's directory; an adapted encoder is looked for in `encoders` beside the folder of models.

    Args:
        labels: The labels that it must have been trained for, in order; None to take what it has.

    Raises:
        ModelError: It is missing or damaged, or made for another encoder, other labels or a newer version of this.
    """
    manifest = _manifest(folder)
    if labels is not None and list(labels) != manifest["labels"]:
        raise ModelError(
            f"model {folder.name} was trained for the labels {', '.join(manifest['labels'])}; "
            f"pal.toml has {', '.join(labels)}.",
            hint="train one for these labels: pal next; or put the old labels back into pal.toml",
        )
    found = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() if (folder / WEIGHTS).is_file() else "missing"
    if found != manifest["weights_sha256"]:
        raise ModelError(
            f"{folder / WEIGHTS} has sha256 {found}, its manifest says {manifest['weights_sha256']}.",
            hint=f"restore the file, or remove {folder} and train again: pal next",
        )
    try:
        encoder = encoder_of(manifest["encoder_id"], manifest["vocabulary"], folder.parent.parent / "encoders")
    except ModelError as error:
        raise ModelError(f"model {folder.name} does not fit: {error.what}", hint=error.hint) from error
    with torch.random.fork_rng(devices=[]):  # layers draw before they get their weights
        classifier = Classifier(
            encoder.n_tokens, len(manifest["labels"]), vectors=encoder.vectors(), hidden=manifest["config"]["hidden"]
        )
    classifier.load_state_dict(load_file(folder / WEIGHTS), strict=not classifier.pretrained)
    classifier.eval()
    calibration = Calibration(**manifest["calibration"])
    return LoadedModel(folder.name, encoder, classifier, calibration, tuple(manifest["labels"]))


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(f"{folder} is no model: it has no {MANIFEST}.", hint="train one: pal next")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["manifest_version"]
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path} is damaged: {error!r}.", hint=f"remove {folder} and train again: pal next") from error
    if found != MANIFEST_VERSION:
        raise ModelError(
            f"{path} has version {found!r}, this installation reads {MANIFEST_VERSION}.",
            hint=f"upgrade: pip install -U pytorch-active-learning; or remove {folder} and train again: pal next",
        )
    return manifest
