"""A workspace in the middle of its life, for tests of commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from projects import pal_toml

from annotation.batch import contents_of, write_batch
from annotation.synthetic import fill_csv
from storage.lake.models import add_model, promote
from storage.records import Batch, Model, ModelStatus
from tasks.config.template import DISASTER
from tasks.learning.calibration import Calibration
from tasks.learning.encoders import StaticVectors
from tasks.learning.model_files import save_model
from tasks.learning.training import Classifier, Trained, TrainingConfig
from tasks.project import Project, open_project


@pytest.fixture
def lively(lively_once: Path, tmp_path: Path) -> Project:
    """A workspace with a model in production, and an open batch one of whose files is filled in."""
    return open_project(shutil.copytree(lively_once, tmp_path, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def lively_once(
    empty_workspace: Path, tmp_path_factory: pytest.TempPathFactory, reserve_batch: Callable[..., Batch]
) -> Path:
    root = shutil.copytree(empty_workspace, tmp_path_factory.mktemp("lively") / "workspace")
    (root / "pal.toml").write_text(pal_toml(), encoding="utf-8")
    project = open_project(root)
    batch = reserve_batch(project.workspace, {"i1": "Floods cut off town", "i2": "Cats", "i3": "It's fire"})
    folder, store = project.workspace.batches / batch.batch_id, project.workspace.store()
    write_batch(folder, batch, contents_of(store, batch), DISASTER)
    fill_csv(folder / "batch.csv", {"i1": "related", "i2": "not_related"}, annotator="o'neil")
    encoder, config = StaticVectors(), TrainingConfig()
    torch.manual_seed(0)
    trained = Trained(Classifier(encoder.n_tokens, 2, vectors=encoder.vectors()), Calibration(), 1)
    digest = save_model(project.workspace.models / "m1", trained, encoder, DISASTER.names, config, {})
    made = Model("m1", batch.created_at, 1, 3, encoder.encoder_id, "{}", digest, ModelStatus.CANDIDATE)
    add_model(store, made)
    promote(store, "m1")
    project.workspace.close()
    return root
