"""Reading texts with a sentence encoder: here, or on workers that have what it runs best on."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    return _teacher(folder, _Weights(digest, weights)).sentence_vectors(texts).astype(np.float16)


class _Weights:
    """Weights that are told apart by their digest."""

    def __init__(self, digest: str, content: bytes) -> None:
        self.digest, self.content = digest, content

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Weights) and other.digest == self.digest


@functools.lru_cache(maxsize=1)
def _teacher(folder: Path | None, weights: _Weights) -> Teacher:
    teacher = Teacher(folder, gpu=True)
    if weights.content:
        teacher.take(weights.content)
    return teacher
