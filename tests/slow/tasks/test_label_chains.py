"""Any chain of changed labels ends in the labels, splits, metrics and weights of a project with the final names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from projects import pal_toml

from annotation.label_set import SKIP, Label, LabelSet
from flows.change_labels import change_labels
from flows.run import run_here
from storage.errors import ConfigError
from storage.files.folders import MANIFEST
from storage.lake.annotations import labelled_texts
from storage.records import Split
from tasks.config.template import LabelEdit
from tasks.evaluate import evaluate_model
from tasks.project import Project, open_project
from tasks.relabel import plan_relabeling
from tasks.train import train_model

NAMES = ("flood", "fire", "quake", "sport", "other")
TOPICS = LabelSet("topics", "Which?", "...", tuple(Label(name, positive=name == "flood") for name in NAMES))
NEW = st.sampled_from([*NAMES, "hazard", "water"])  # names of before may come back
EDITS = st.one_of(
    st.builds(lambda old, new: LabelEdit("rename", (old,), (new,)), NEW, NEW),
    st.builds(lambda a, b, into: LabelEdit("merge", (a, b), (into,)), NEW, NEW, NEW),
    st.builds(lambda name: LabelEdit("retire", (name,)), NEW),
)
SPLITS = {Split.TRAINING: slice(0, 60), Split.EVALUATION: slice(60, 90)}


@pytest.fixture(scope="module")
def topics(
    empty_workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> tuple[Path, dict[str, str]]:
    """A workspace with labeled items of every topic, and these labels."""
    root = shutil.copytree(empty_workspace, tmp_path_factory.mktemp("topics") / "project")
    (root / "pal.toml").write_text(pal_toml(60, 0, 30, TOPICS), encoding="utf-8")
    project = open_project(root)
    related = take_headlines(project.workspace, 90)
    labels = {k: NAMES[n % 3 if related[k] == "related" else 3 + n % 2] for n, k in enumerate(sorted(related))}
    for split, part in SPLITS.items():
        give_labels(project.workspace, dict(list(labels.items())[part]), split)
    project.workspace.close()
    return root, labels


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(edits=st.lists(EDITS, min_size=1, max_size=5))
def test_a_chain_of_changes_equals_a_project_with_the_final_names_from_the_start(
    edits: list[LabelEdit],
    topics: tuple[Path, dict[str, str]],
    empty_workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> None:
    root, given_labels = topics
    folder = tmp_path_factory.mktemp("chain")
    changed = open_project(shutil.copytree(root, folder / "changed"))
    became = {name: name for name in NAMES}
    for edit in edits:
        try:
            planned = plan_relabeling(changed, edit)
        except ConfigError:
            continue  # of a label that is gone, into one that is there, or too few left
        if planned.change is None:
            continue
        run_here(changed, change_labels, planned, False)
        changed = open_project(changed.workspace.root)
        into = edit.into[0] if edit.into else SKIP
        became = {name: into if now in edit.labels else now for name, now in became.items()}
    start_root = shutil.copytree(empty_workspace, folder / "start")
    shutil.copy(changed.workspace.config_file, start_root / "pal.toml")
    start = open_project(start_root)
    take_headlines(start.workspace, 90)
    final = {item_id: became[label] for item_id, label in given_labels.items()}
    for split, part in SPLITS.items():
        give_labels(start.workspace, dict(list(final.items())[part]), split)
    for split in SPLITS:
        assert labeled(changed, split) == labeled(start, split)
    assert result(changed) == result(start)
    for project in (changed, start):
        project.workspace.close()
    shutil.rmtree(folder)


def labeled(project: Project, split: Split) -> dict[str, str]:
    store = project.workspace.store()
    table = labelled_texts(store, split, store.version())
    return dict(zip(table["item_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def result(project: Project) -> tuple[Any, ...]:
    """The labels of a model that is trained now, the hash of its weights, and its metrics."""
    model = train_model(project)
    manifest = json.loads((project.workspace.models / model.model_id / MANIFEST).read_text(encoding="utf-8"))
    return model.labels, manifest["weights_sha256"], evaluate_model(project, model).measurement.metrics
