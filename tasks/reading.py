"""Reading texts with a sentence encoder: here, or on workers that have what it runs best on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from prefect import task

from tasks.learning.teacher import Teacher
from tasks.workers import Workers

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


@task(task_run_name="read texts", retries=1, retry_delay_seconds=1)
def read_texts(folder: Path | None, weights: bytes, digest: str, texts: list[str]) -> SentenceVectors:
    """On a worker: sentence vectors (n, width) of n texts; the sentence encoder is kept for the next ones."""
    return _teacher(folder, weights, digest).sentence_vectors(texts).astype(np.float16)


_kept: dict[tuple[Path | None, str], Teacher] = {}


def _teacher(folder: Path | None, weights: bytes, digest: str) -> Teacher:
    if (folder, digest) not in _kept:
        _kept.clear()
        teacher = Teacher(folder, gpu=True)
        if weights:
            teacher.take(weights)
        _kept[folder, digest] = teacher
    return _kept[folder, digest]
