"""Reading texts with a sentence encoder: here, or on workers that have what it runs best on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.learning.distillation import Teacher
from tasks.scale.workers import Workers, worker_state

SentenceVectors = npt.NDArray[np.float16]


def read_on_workers(
    workers: Workers, resource: str, folder: Path | None, weights: Path | None, parts: Sequence[list[str]]
) -> Iterator[SentenceVectors]:
    """Sentence vectors (n, width) of each part of the texts, in their order, as soon as they are there.

    Args:
        resource: What the workers must have been started with, such as GPU; any will do where empty.
        folder: The sentence encoder's directory on each worker; MiniLM as it is installed there where None.
        weights: What it was fine-tuned to; sent to the workers once.
    """
    content = weights.read_bytes() if weights is not None else b""
    sent = workers.everywhere(content)
    what = {"folder": folder, "weights": sent, "digest": hashlib.sha256(content).hexdigest()}
    calls = [(number, {**what, "texts": texts}) for number, texts in enumerate(parts)]
    return workers.in_order(read_texts, calls, {resource: 1} if resource else None)


def read_texts(folder: Path | None, weights: bytes, digest: str, texts: list[str]) -> SentenceVectors:
    """On a worker: sentence vectors (n, width) of n texts; the sentence encoder is kept for the next ones."""
    teacher = worker_state(KeptTeacher).teacher(folder, weights, digest)
    return teacher.sentence_vectors(texts).astype(np.float16)


class KeptTeacher:
    """The sentence encoder that a worker has loaded."""

    def __init__(self) -> None:
        self._loaded: tuple[tuple[Path | None, str], Teacher] | None = None

    def teacher(self, folder: Path | None, weights: bytes, digest: str) -> Teacher:
        """A sentence encoder; the one that was loaded before is let go where it is another.

        Args:
            folder: Its directory; MiniLM as it is installed here where None.
            weights: What it was fine-tuned to; as it is where empty.
            digest: Of the weights.
        """
        if self._loaded is None or self._loaded[0] != (folder, digest):
            self._loaded = None  # before another takes its memory
            teacher = Teacher(folder, gpu=True)
            if weights:
                teacher.take(weights)
            self._loaded = (folder, digest), teacher
        return self._loaded[1]
