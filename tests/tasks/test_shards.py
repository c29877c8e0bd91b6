"""Shards of the pool and of the features, as a worker makes them; what the workers lack is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from projects import project_of

from annotation.label_set import LabelSet
from storage.errors import ModelError, StoreError
from storage.lake.items import bounds_without_features, pool_ids
from storage.workspace import ENVIRONMENT, Workspace
from tasks.prepare import add_shard_features, current_encoder, make_features
from tasks.sample import load_pool
from tasks.scale.shards import KeptShards, Shard
from tasks.train import train_model

STATIC = "minilm-static"


@pytest.fixture
def shard(workspace: Workspace, label_set: LabelSet, take_headlines: Callable[..., dict[str, str]]) -> Shard:
    """All of 300 headlines."""
    take_headlines(workspace, 300)
    encoder_id = make_features(project_of(workspace))
    version = workspace.store().version()
    ids = pool_ids(workspace.store(), encoder_id, version)
    bounds = (ids[0].as_py(), ids[-1].as_py())
    return Shard(workspace, version, encoder_id, STATIC, None, label_set.names, bounds=bounds, n=len(ids))


def test_a_shard_reads_the_version_it_is_asked_for_and_is_kept_until_another_pool_is_asked_for(
    shard: Shard, take_headlines: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptShards()
    assert len(kept.vectors(shard)) == 300
    take_headlines(shard.workspace, 400, 300)
    make_features(project_of(shard.workspace))
    with monkeypatch.context() as patch:
        patch.setattr("tasks.scale.shards.pool_features", lambda *_: pytest.fail("it was read already"))
        assert len(kept.vectors(shard)) == 300
    newer = replace(shard, version=shard.workspace.store().version(), n=400, bounds=("demo-00001", "demo-00400"))
    assert len(kept.vectors(newer)) == 400
    assert len(kept) == 1, "a pool that is over takes no memory"


@pytest.mark.usefixtures("all_families")
def test_a_shard_of_a_model_that_reads_characters_has_the_same_hidden_vectors_as_the_pool_here(
    workspace: Workspace,
    label_set: LabelSet,
    take_headlines: Callable[..., dict[str, str]],
    give_labels: Callable[..., None],
) -> None:
    give_labels(workspace, dict(list(take_headlines(workspace, 300).items())[:70]))
    project = project_of(workspace, label_set)
    make_features(project)
    model, version = train_model(project), workspace.store().version()
    assert model.classifier.reads_characters
    pool = load_pool(project, version, model)
    ids, encoder_id = pool.item_ids.to_pylist(), model.encoder.encoder_id
    part = Shard(
        workspace, version, encoder_id, STATIC, model.model_id, label_set.names, True, (ids[20], ids[199]), 180
    )
    found, expected = KeptShards().vectors(part), pool.hidden.rows(np.arange(20, 200))
    np.testing.assert_allclose(found.rows(np.arange(180)), expected, atol=1e-6)


def test_a_worker_that_sees_another_lake_says_so(shard: Shard) -> None:
    with pytest.raises(StoreError, match=r"\b300\b.*demo-00001.*demo-00300") as caught:
        KeptShards().vectors(replace(shard, n=301))
    assert "[lake]" in caught.value.hint


def test_a_worker_works_where_its_own_workspace_is(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(shard, workspace=replace(shard.workspace, root=tmp_path / "not-here"))
    monkeypatch.setenv(ENVIRONMENT, str(shard.workspace.root))
    assert len(KeptShards().vectors(elsewhere)) == 300


def test_features_of_a_run_are_made_once_whoever_makes_them_and_how_often(
    workspace: Workspace, take_headlines: Callable[..., dict[str, str]]
) -> None:
    take_headlines(workspace, 300)
    store, encoder = workspace.store(), current_encoder(workspace, STATIC)
    runs = bounds_without_features(store, encoder.encoder_id, 128)
    assert [int(end[-3:]) - int(begin[-3:]) + 1 for begin, end in runs] == [128, 128, 44]
    what = (workspace, STATIC, encoder.encoder_id)
    assert [add_shard_features(*what, run) for run in (*runs[1:], runs[1], runs[0])] == [128, 44, 0, 128]
    assert bounds_without_features(store, encoder.encoder_id, 128) == []
    rows = store.rows("SELECT item_id, tokens FROM lake.features ORDER BY item_id")
    other = Workspace(workspace.root.parent / "other")
    other.make()
    take_headlines(other, 300)
    make_features(project_of(other))
    assert rows == other.store().rows("SELECT item_id, tokens FROM lake.features ORDER BY item_id")


def test_a_worker_with_another_encoder_says_so(workspace: Workspace) -> None:
    with pytest.raises(ModelError, match="'minilm-static:old'"):
        add_shard_features(workspace, STATIC, "minilm-static:old", ("a", "b"))
