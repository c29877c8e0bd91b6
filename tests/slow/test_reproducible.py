"""Same data + same seed = same batch, same weights, bit for bit on one machine."""

from __future__ import annotations

import hashlib
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
from tasks.plan import Minimums, next_batch_plan
from tasks.prepare import make_features
from tasks.project import Project, open_project
from tasks.sample import sample_batch
from tasks.train import train_model


def made_project(root: Path, encoder: str) -> Project:
    """A workspace with 1,500 headlines, 150 of them labelled for training."""
    root.mkdir()
    text = pal_toml(0, 0, 100).replace('"minilm-static"', f'"{encoder}"')
    (root / "pal.toml").write_text(text, encoding="utf-8")
    project = open_project(root)
    table = synthetic_headlines(1500)
    store = project.workspace.store()
    with project.workspace.scratch() as scratch:
        rows = table.select(["item_id", "text"])
        rows = rows.add_column(0, "row", [list(range(table.num_rows))])
        rows = rows.append_column("published_at", [[None] * table.num_rows])
        stage([rows.combine_chunks()], scratch / "staged.parquet")
        add_items(store, scratch / "staged.parquet", "test")
    labelled = [LabelledItem(row["item_id"], row["label"], "random", None) for row in table.slice(0, 150).to_pylist()]
    import_labelled(store, "start", Split.TRAINING, labelled, DISASTER.digest, "test")
    return project


def one_iteration(project: Project) -> tuple[str, list[str], object]:
    """Train, sample: the weights' hash, the item ids in order, the proposals."""
    store = project.workspace.store()
    make_features(project)
    model = train_model(project)
    batch_id = sample_batch(project, next_batch_plan(label_counts(store), project.config.minimums, 40), model)
    weights = (project.workspace.models / model.model_id / "model.safetensors").read_bytes()
    return (
        hashlib.sha256(weights).hexdigest(),
        [item.item_id for item in items_of(store, batch_id)],
        proposals_of(store, batch_id),
    )


@pytest.mark.parametrize("encoder", ["minilm-static", "bag-of-words"])
def test_two_workspaces_with_the_same_data_and_seed_agree_bit_for_bit(tmp_path: Path, encoder: str) -> None:
    first = one_iteration(made_project(tmp_path / "a", encoder))
    second = one_iteration(made_project(tmp_path / "b", encoder))
    assert first == second
    assert len(set(first[1])) == 40


def test_the_same_labels_are_not_trained_on_twice_and_new_ones_make_a_new_model(tmp_path: Path) -> None:
    project = made_project(tmp_path / "a", "minilm-static")
    workspace = project.workspace
    first = train_model(project).model_id
    written = (workspace.models / first / "model.safetensors").stat().st_mtime_ns
    assert train_model(project).model_id == first
    assert (workspace.models / first / "model.safetensors").stat().st_mtime_ns == written
    more = [LabelledItem("demo-00999", "related", "random", None)]
    import_labelled(workspace.store(), "more", Split.TRAINING, more, DISASTER.digest, "test")
    assert train_model(project).model_id != first
