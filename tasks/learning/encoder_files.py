"""The files of static vectors: int8 vectors, the tokenizer, and a manifest with their hashes, written last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import ModelError


@dataclass(frozen=True)
class HeadWeights:
    """A linear head: weight (n_labels, d), bias (n_labels,), both float32; and how many labelled texts taught it."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    n_labelled: int = 0


def quantise(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round vectors to int8 with one scale for all.

    Returns:
        int8 (tokens, dimensions) in -127..127, and the scale, float32 of shape (): int8 * scale is about `vectors`.

    >>> quantise(np.array([[0.5, -1.27], [0.0, 0.104]], dtype=np.float32))[0].tolist()
    [[50, -127], [0, 10]]
    """
    scale = np.float32(np.abs(vectors).max() / 127)
    return np.rint(vectors / scale).astype(np.int8), np.array(scale)


def encoder_files(
    vectors: npt.NDArray[np.float32], tokenizer: bytes, facts: dict[str, Any], head: HeadWeights | None = None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files by name, and the manifest that vouches for them.

    Args:
        vectors: (tokens, dimensions), row i for token id i.
        tokenizer: Its JSON.
        facts: What else the manifest says; `name` is the encoder's, `labels` are the head's.
        head: A linear head on the text vectors, where there is one.
    """
    from safetensors.numpy import save

    rounded, scale = quantise(vectors)
    files = {"vectors.safetensors": save({"vectors": rounded, "scale": scale}), "tokenizer.json": tokenizer}
    if head is not None:
        files["head.safetensors"] = save({"weight": head.weight, "bias": head.bias})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return files, {**facts, "sha256": hashes}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an encoder.

    Raises:
        ModelError: It is damaged.
    """
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        id_in(manifest)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: {error!r}.", hint=f"remove {folder}, then make it again") from error
    return manifest


def id_in(manifest: dict[str, Any]) -> str:
    """The encoder_id that a manifest stands for: its name, and a hash of its files' hashes."""
    digest = hashlib.sha256("".join(sorted(manifest["sha256"].values())).encode()).hexdigest()
    return f"{manifest['name']}:{digest[:12]}"
