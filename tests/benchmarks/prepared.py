"""The workspace that the measures share: its settings, its labels, its pool, and the pool as one array."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.learning.vectors import SLICE_TEXTS, Vectors
from tasks.project import Project, open_project
from tasks.sampling.strategy import Pool
from tasks.scale.workers import Workers

if TYPE_CHECKING:
    from tasks.learning.model_files import LoadedModel

N_EVALUATION, N_VALIDATION, N_TRAINING = 1_200, 500, 813
WORDS = {
    "related": ("flood", "bushfire", "earthquake", "killed in crash", "cyclone"),
    "sports": ("cricket", "football match", "grand final", "world cup", "coach"),
}
"""Label -> words; the 8 % of the labelled items that are nearest to them have it, the others have none of the two."""
OTHER = "other"

Matrix = npt.NDArray[np.float32]


def texts_of(folder: Path) -> Path:
    """The file of texts."""
    return folder / "texts.csv"


def make_workspace(folder: Path, encoder: str) -> None:
    """A workspace without items, for three labels."""
    from tasks.config.settings import Config, MinimumsConfig, TaskConfig
    from tasks.config.template import config_text, named_labels

    root = folder / "workspace"
    root.mkdir()
    labels = named_labels([*WORDS, OTHER], "related", None)
    minimums = MinimumsConfig(evaluation=N_EVALUATION, validation=N_VALIDATION, training=N_TRAINING, evaluation_share=0)
    text = config_text(Config(task=TaskConfig.of(labels), minimums=minimums))
    (root / "pal.toml").write_text(text.replace('"minilm-static"', f'"{encoder}"'), encoding="utf-8")


def opened(folder: Path, *, scores: bool = True) -> Project:
    """The workspace's project, its lake opened: what a process pays before its work begins.

    Args:
        scores: With torch loaded.
    """
    if scores:
        import torch  # noqa: F401

    project = open_project(folder / "workspace")
    project.workspace.store()
    return project


def newest_model(project: Project) -> LoadedModel:
    """The model of the labels there are; trained here where it is not yet."""
    from tasks.train import train_model

    return train_model(project)


def pool_of(project: Project, model: LoadedModel | None, workers: Workers | None = None) -> Pool:
    """The whole pool, scored by a model where there is one; held by workers where there are some."""
    from tasks.sample import load_pool

    sampling = project.config.sampling.model_copy(update={"keywords": WORDS["related"]})
    version = project.workspace.store().version()
    return load_pool(project.with_config(sampling=sampling), version, model, workers)


def labels_by_words(texts: list[str]) -> list[str]:
    """A label for each text, by what it is most like."""
    from tasks.learning.encoders import StaticVectors
    from tasks.learning.vectors import TokenVectors

    encoder = StaticVectors()
    vectors = TokenVectors(encoder.tokenize(pa.array(texts)), encoder.n_tokens, encoder.vectors())
    labels = np.full(len(texts), OTHER, object)
    for label in reversed(WORDS):
        words = vectors.of(encoder.tokenize(pa.array(WORDS[label])))
        likeness = vectors.products(words.rows(np.arange(len(words)))).max(axis=1)
        labels[likeness > np.quantile(likeness, 0.92)] = label
    return list(labels)


def as_array(vectors: Vectors) -> Matrix:
    """Vectors as one array (n, width): what other libraries start from."""
    rows = np.empty((len(vectors), vectors.width), np.float32)
    for start in range(0, len(vectors), SLICE_TEXTS):
        part = vectors.slice(start, min(start + SLICE_TEXTS, len(vectors)))
        rows[start : start + len(part)] = part.rows(np.arange(len(part)))
    return rows
