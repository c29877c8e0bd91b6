"""Same data + same seed = same batch, same weights, bit for bit on one machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from projects import pal_toml

from annotation.synthetic import synthetic_headlines
from storage.lake.annotations import LabelledItem, import_labelled, label_counts
from storage.lake.batches import items_of, proposals_of
from storage.lake.items import add_items, stage
from storage.records import Split
from tasks.config.settings import Config, MinimumsConfig, TaskConfig
from tasks.config.template import DISASTER, config_text
from tasks.plan import minimums_of, next_batch_plan
from tasks.prepare import make_features
from tasks.project import Project, open_project
from tasks.sample import sample_batch
from tasks.train import train_model


@pytest.fixture
def made_project(
    tmp_path: Path, take_headlines: Callable[..., dict[str, str]], give_labels: Callable[..., None]
) -> Callable[[str, str], Project]:
    """Makes a workspace with 1,500 headlines, 150 of them labelled for training."""

    def made(name: str, encoder: str) -> Project:
        (tmp_path / name).mkdir()
        text = pal_toml(0, 0, 100).replace('"minilm-static"', f'"{encoder}"')
        (tmp_path / name / "pal.toml").write_text(text, encoding="utf-8")
        project = open_project(tmp_path / name)
        give_labels(project.workspace, dict(list(take_headlines(project.workspace, 1500).items())[:150]))
        return project

    return made


def one_iteration(project: Project) -> tuple[str, list[str], object]:
    """Train, sample: the weights' hash, the item ids in order, the proposals."""
    store = project.workspace.store()
    make_features(project)
    model = train_model(project)
    batch_id = sample_batch(project, next_batch_plan(label_counts(store), minimums_of(project), 40), model).batch_id
    weights = (project.workspace.models / model.model_id / "model.safetensors").read_bytes()
    return (
        hashlib.sha256(weights).hexdigest(),
        [item.item_id for item in items_of(store, batch_id)],
        proposals_of(store, batch_id),
    )


@pytest.mark.parametrize("encoder", ["minilm-static", "bag-of-words"])
def test_two_workspaces_with_the_same_data_and_seed_agree_bit_for_bit(
    made_project: Callable[[str, str], Project], encoder: str
) -> None:
    first = one_iteration(made_project("a", encoder))
    second = one_iteration(made_project("b", encoder))
    assert first == second
    assert len(set(first[1])) == 40
