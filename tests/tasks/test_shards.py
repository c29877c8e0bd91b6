"""Shards of the pool and of the features, as a worker makes them; what the workers lack is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dask
import pytest

from annotation.label_set import LabelSet
from storage.errors import ModelError, ServiceError, StoreError
from storage.items import bounds_without_features, pool_ids
from storage.workspace import ENVIRONMENT, Workspace
from tasks import shards
from tasks.learning.vectors import SummedVectors
from tasks.prepare import add_shard_features, current_encoder, make_features
from tasks.scale_config import ScaleConfig
from tasks.shards import Shard, ask_shard
from tasks.workers import open_workers

pytestmark = pytest.mark.usefixtures("outside_of_a_flow")

STATIC = "minilm-static"


@pytest.fixture
def shard(workspace: Workspace, label_set: LabelSet, take_headlines: Callable[..., dict[str, str]]) -> Shard:
    """All of 300 headlines."""
    take_headlines(workspace, 300)
    encoder_id = make_features.fn(workspace, STATIC)
    version = workspace.store().version()
    ids = pool_ids(workspace.store(), encoder_id, version)
    bounds = (ids[0].as_py(), ids[-1].as_py())
    return Shard(workspace, version, encoder_id, STATIC, None, label_set.names, bounds=bounds, n=len(ids))


def n_texts(vectors: SummedVectors) -> int:
    return len(vectors)


def test_a_shard_reads_the_version_it_is_asked_for_and_is_kept_until_another_pool_is_asked_for(
    shard: Shard, take_headlines: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask_shard.fn(shard, n_texts, ()) == 300
    take_headlines(shard.workspace, 400, 300)
    make_features.fn(shard.workspace, STATIC)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.shards.pool_features", lambda *_: pytest.fail("it was read already"))
        assert ask_shard.fn(shard, n_texts, ()) == 300
    newer = replace(shard, version=shard.workspace.store().version(), n=400, bounds=("demo-00001", "demo-00400"))
    assert ask_shard.fn(newer, n_texts, ()) == 400
    assert list(shards._kept) == [newer], "a pool that is over takes no memory"


def test_a_worker_that_sees_another_lake_says_so(shard: Shard) -> None:
    with pytest.raises(StoreError, match="reads 300 items from demo-00001 to demo-00300 in version") as caught:
        ask_shard.fn(replace(shard, n=301), n_texts, ())
    assert "the same [lake]" in caught.value.hint


def test_a_worker_works_where_its_own_workspace_is(
    shard: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(shard, workspace=replace(shard.workspace, root=tmp_path / "not-here"))
    monkeypatch.setenv(ENVIRONMENT, str(shard.workspace.root))
    assert ask_shard.fn(elsewhere, n_texts, ()) == 300


def test_features_of_a_run_are_made_once_whoever_makes_them_and_how_often(
    workspace: Workspace, take_headlines: Callable[..., dict[str, str]]
) -> None:
    take_headlines(workspace, 300)
    store, encoder = workspace.store(), current_encoder(workspace, STATIC)
    runs = bounds_without_features(store, encoder.encoder_id, 128)
    assert [int(end[-3:]) - int(begin[-3:]) + 1 for begin, end in runs] == [128, 128, 44]
    what = (workspace, STATIC, encoder.encoder_id)
    assert [add_shard_features.fn(*what, run) for run in (*runs[1:], runs[1], runs[0])] == [128, 44, 0, 128]
    assert bounds_without_features(store, encoder.encoder_id, 128) == []
    rows = store.rows("SELECT item_id, tokens FROM lake.features ORDER BY item_id")
    other = Workspace(workspace.root.parent / "other")
    other.make()
    take_headlines(other, 300)
    make_features.fn(other, STATIC)
    assert rows == other.store().rows("SELECT item_id, tokens FROM lake.features ORDER BY item_id")


def test_a_worker_with_another_encoder_says_so(workspace: Workspace) -> None:
    with pytest.raises(ModelError, match=r"this worker has encoder 'minilm-static:.*' / 'minilm-static:old' is asked"):
        add_shard_features.fn(workspace, STATIC, "minilm-static:old", ("a", "b"))


def test_a_scheduler_that_does_not_answer_or_has_no_workers_is_said_with_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ServiceError, match=r"127\.0\.0\.1:1") as caught,
        open_workers(ScaleConfig("dask", "tcp://127.0.0.1:1")),
    ):
        pytest.fail("nobody listens there")
    assert "dask scheduler" in caught.value.hint
    assert "dask worker tcp://127.0.0.1:1" in caught.value.hint


def test_workers_need_a_prefect_server_that_they_reach() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(ServiceError, match="needs a Prefect server that the workers reach"),
        open_workers(ScaleConfig("dask", "tcp://127.0.0.1:1")),
    ):
        pytest.fail("there is none")


def test_without_workers_nothing_of_dask_is_asked() -> None:
    with open_workers(ScaleConfig()) as workers:
        assert workers is None
