"""Stage `adapt_encoder`: static vectors of this workspace's own, from a sentence encoder; resumes after a crash.

Texts are read by the sentence encoder here, or by workers that have the hardware for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from filelock import FileLock, Timeout

from storage.errors import ModelError, WorkspaceError
from storage.files.folders import publish_folder, remove_left_parts
from storage.lake.items import pool_texts
from storage.records import Split
from tasks.learning.distillation import Teacher, adapt_vectors, first_vectors, pool_tokenizer, taught_head
from tasks.learning.encoders import (
    ARTEFACT,
    MINILM_ADAPTED,
    HeadWeights,
    StaticVectors,
    WordPieces,
    encoder_files,
)
from tasks.project import Project
from tasks.reporting.progress import progress
from tasks.scale.workers import Workers, open_workers, worker_state
from tasks.train import labelled_with

log = logging.getLogger(__name__)

READ = 2_048
"""Texts that the sentence encoder reads between two savings: what a kill costs at most."""
MIN_TEXTS = 1_000
MIN_LABELLED = 50
"""A label must have this many training items, or the sentence encoder is taken as it is."""


@dataclass(frozen=True)
class Adaptation:
    """How to adapt.

    Attributes:
        texts: The most texts of the pool to read, a random sample of it.
        labels: Whether the sentence encoder is first fine-tuned on the training items.
        epochs: How often the vectors see each text.
        fine_tune_epochs: How often the sentence encoder sees each training item.
        seed: Of everything random.
    """

    texts: int = 100_000
    labels: bool = True
    epochs: int = 4
    fine_tune_epochs: int = 4
    seed: int = 0


@dataclass(frozen=True)
class _Labelled:
    """Training items to fine-tune on: their texts, their label numbers (n,), and how many labels there are."""

    texts: list[str]
    labels: npt.NDArray[np.int64]
    n_labels: int


@dataclass(frozen=True)
class _Learned:
    """A tokenizer's JSON, token vectors (n_tokens, d), and the head that a fine-tuned sentence encoder taught."""

    tokenizer: bytes
    vectors: npt.NDArray[np.float32]
    head: HeadWeights | None


@dataclass(frozen=True)
class _Reading:
    """The sentence encoder, and who reads with it: workers where there are some."""

    teacher: Teacher
    folder: Path | None
    workers: Workers | None
    resource: str

    def read(self, parts: list[list[str]], weights: Path | None) -> Iterator[npt.NDArray[np.float16]]:
        """Sentence vectors (n, width) of each part."""
        if self.workers is None:
            return (self.teacher.sentence_vectors(texts).astype(np.float16) for texts in parts)
        return read_on_workers(self.workers, self.resource, self.folder, weights, parts)


def adapt_encoder(project: Project, how: Adaptation | None = None, teacher_folder: Path | None = None) -> str:
    """Make an encoder of this workspace's own; returns its encoder_id.

    Texts with an answer are not read, so that no vector knows what a model is measured on; training items only say
    what the sentence encoder should tell apart. What was read is kept beside the encoder's place: the same call after
    a kill goes on. Texts, labels and settings as last time: nothing is done.

    Args:
        teacher_folder: The directory of another encoder, for texts in another language than English: the tokenizer is
            then made from the pool too. all-MiniLM-L6-v2 and the shipped tokenizer where None.

    Raises:
        ModelError: The extra `adapt` is not installed, there is no such sentence encoder, or the pool is too small.
        WorkspaceError: Another process is adapting the same.
    """
    how = how or Adaptation()
    workspace, scale = project.workspace, project.config.scale
    started, store = time.monotonic(), project.store
    teacher = Teacher(teacher_folder)
    pool = pool_texts(store, how.texts, how.seed)
    check_pool(pool.num_rows)
    labelled = _labelled(project) if how.labels else None
    base = project.encoders.shipped()
    settings = [base.encoder_id, teacher.sha256, asdict(how), installed_version("pytorch-active-learning")]
    if teacher_folder is not None:
        settings.append("tokenizer from the pool")
    key = _fingerprint(pool, labelled, settings)
    folder = workspace.encoders / f"{MINILM_ADAPTED}-{key}"
    work = workspace.encoders / f".{folder.name}.work"
    workspace.fetch_encoders()
    if not (folder / "manifest.json").is_file():
        work.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(work / "lock", timeout=0), open_workers(scale) as workers:
                reading = _Reading(teacher, teacher_folder, workers, scale.resource)
                learned = _learned(reading, base, pool, labelled, how, work)
        except Timeout as error:
            raise WorkspaceError(f"Another process is adapting in {work}.", hint="Wait for it to finish.") from error
        facts = {
            "name": MINILM_ADAPTED,
            "created_at": datetime.now(UTC).isoformat(),
            "n_texts": pool.num_rows,
            "n_labelled": len(labelled.texts) if labelled else 0,
            "labels": list(project.label_set.names) if learned.head else None,
            "teacher": {"model": teacher.name, "sha256": teacher.sha256},
            "tokenizer_from_pool": teacher_folder is not None,
            "settings": settings,
        }
        publish_folder(folder, lambda part: _write(part, learned, facts))
        shutil.rmtree(work, ignore_errors=True)
        remove_left_parts(workspace.encoders, suffix=".work")  # of a pool or labels that have changed since
    workspace.share(folder)
    encoder = StaticVectors(folder)
    log.info(
        "Made encoder %s from %s texts (%.0f s).", encoder.encoder_id, f"{pool.num_rows:,}", time.monotonic() - started
    )
    return encoder.encoder_id


def check_pool(n_texts: int) -> None:
    """Check that the pool has texts enough to adapt to.

    Raises:
        ModelError: It has not.
    """
    if n_texts < MIN_TEXTS:
        raise ModelError(
            f"The pool has {n_texts:,} texts; adapting needs {MIN_TEXTS:,}.",
            hint="Import more texts (pal import FILE), or use the shipped vectors.",
        )


def _labelled(project: Project) -> _Labelled | None:
    """The training items; None, which is logged, where two labels have not enough of them."""
    store, names = project.store, project.label_set.names
    table = labelled_with(store, Split.TRAINING, store.version(), names)
    labels = np.array([names.index(label) for label in table["label"].to_pylist()], np.int64)
    n_enough = int(np.count_nonzero(np.bincount(labels, minlength=len(names)) >= MIN_LABELLED))
    if n_enough < 2:
        log.warning(
            "The sentence encoder was not fine-tuned: that needs %d training items of each of two labels.", MIN_LABELLED
        )
        return None
    return _Labelled(table["text"].to_pylist(), labels, len(names))


def _sentence_vectors(
    reading: _Reading, texts: list[str], labelled: _Labelled | None, how: Adaptation, work: Path
) -> npt.NDArray[np.float16]:
    """Sentence vectors (n, width) of the texts; what an interrupted call made is used again."""
    weights = work / "teacher.safetensors" if labelled is not None else None
    if labelled is not None and weights is not None:
        _fine_tuned(reading.teacher, labelled, how, weights)
    parts = {work / f"{start:09d}.npy": texts[start : start + READ] for start in range(0, len(texts), READ)}
    missing = [part for part in parts if not part.is_file()]
    log.info("%s is reading %s texts.", reading.teacher.name, f"{len(texts):,}")
    with progress("reading texts", len(texts)) as advance:
        done = sum(len(parts[part]) for part in parts.keys() - set(missing))
        for part, vectors in zip(missing, reading.read([parts[part] for part in missing], weights), strict=True):
            _save(part, lambda path, vectors=vectors: np.save(path, vectors))  # type: ignore[misc]
            done += len(vectors)
            advance(done)
    return np.concatenate([np.load(part) for part in parts])


def _fine_tuned(teacher: Teacher, labelled: _Labelled, how: Adaptation, kept: Path) -> None:
    """Fine-tune the teacher, or take the weights that an interrupted call kept."""
    if kept.is_file():
        teacher.take(kept.read_bytes())
        return
    n = len(labelled.texts)
    log.info("Fine-tuning %s on %s labeled texts.", teacher.name, f"{n:,}")
    with progress("fine-tuning", n * how.fine_tune_epochs) as advance:
        teacher.fine_tune(labelled.texts, labelled.labels, labelled.n_labels, how.fine_tune_epochs, how.seed, advance)
    _save(kept, teacher.save)


def _learned(
    reading: _Reading, base: StaticVectors, pool: pa.Table, labelled: _Labelled | None, how: Adaptation, work: Path
) -> _Learned:
    texts = pool["text"].to_pylist()
    targets = _sentence_vectors(reading, texts, labelled, how, work)
    if reading.folder is None:
        tokenizer = (ARTEFACT / "tokenizer.json").read_bytes()
        tokens, before = base.tokenize(pool["text"].combine_chunks()), base.vectors()
    else:
        new_tokenizer = pool_tokenizer(texts)
        tokenizer, pieces = new_tokenizer.to_str().encode(), WordPieces(new_tokenizer)
        tokens = pieces.tokenize(pool["text"].combine_chunks())
        before = first_vectors(tokens, pieces.n_tokens, targets)
    log.info("Training vectors on %s texts.", f"{len(tokens):,}")
    with progress("adapting vectors", len(tokens) * how.epochs) as advance:
        vectors = adapt_vectors(before, tokens, targets, epochs=how.epochs, seed=how.seed, advance=advance)
    probabilities = reading.teacher.probabilities(targets) if reading.folder is None else None
    head = taught_head(vectors, tokens, probabilities) if probabilities is not None else None
    return _Learned(tokenizer, vectors, head)


def _write(part: Path, learned: _Learned, facts: dict[str, Any]) -> dict[str, Any]:
    files, manifest = encoder_files(learned.vectors, learned.tokenizer, facts, learned.head)
    for name, content in files.items():
        (part / name).write_bytes(content)
    return manifest


def _save(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is there whole or not at all."""
    part = path.with_name(f"part-{path.name}")
    write(part)
    part.replace(path)


def _fingerprint(pool: pa.Table, labelled: _Labelled | None, settings: list[Any]) -> str:
    """Hash of everything that the vectors follow from."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for item_id in pool["item_id"].to_pylist():
        digest.update(f"{item_id}\x1f".encode())
    if labelled is not None:
        digest.update(json.dumps([labelled.texts, labelled.labels.tolist()]).encode())
    return digest.hexdigest()[:10]


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
