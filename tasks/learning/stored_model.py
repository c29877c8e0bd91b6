"""A model's directory as it is read: checked against its manifest, its weights still bytes. It takes no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import ModelError
from storage.files.folders import MANIFEST
from tasks.learning.calibration import Calibration
from tasks.learning.encoders import Encoder, encoder_of

WEIGHTS = "model.safetensors"
MANIFEST_VERSION = 1


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


def read_model(folder: Path, labels: Sequence[str] | None = None) -> StoredModel:
    """Read a model's directory; an adapted encoder is looked for in `encoders` beside the folder of models.

    Args:
        labels: The labels that it must have been trained for, in order; None to take what it has.

    Raises:
        ModelError: It is missing or damaged, or made for another encoder, other labels or a newer version of this.
    """
    manifest = model_manifest(folder)
    if labels is not None and list(labels) != manifest["labels"]:
        raise ModelError(
            f"model {folder.name} was trained for the labels {', '.join(manifest['labels'])}; "
            f"pal.toml has {', '.join(labels)}.",
            hint="train one for these labels: pal next; or put the old labels back into pal.toml",
        )
    weights = (folder / WEIGHTS).read_bytes() if (folder / WEIGHTS).is_file() else None
    found = "missing" if weights is None else hashlib.sha256(weights).hexdigest()
    if weights is None or found != manifest["weights_sha256"]:
        raise ModelError(
            f"{folder / WEIGHTS} has sha256 {found}, its manifest says {manifest['weights_sha256']}.",
            hint=f"restore the file, or remove {folder} and train again: pal next",
        )
    try:
        encoder = encoder_of(manifest["encoder_id"], manifest["vocabulary"], folder.parent.parent / "encoders")
    except ModelError as error:
        raise ModelError(f"model {folder.name} does not fit: {error.what}", hint=error.hint) from error
    return StoredModel(
        folder.name,
        encoder,
        weights,
        manifest["config"]["hidden"],
        Calibration(**manifest["calibration"]),
        tuple(manifest["labels"]),
    )


def model_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model.

    Raises:
        ModelError: There is none, or it is damaged or of another version of this.
    """
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
