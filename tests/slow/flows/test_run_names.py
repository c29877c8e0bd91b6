"""A run is called after its flow, the iteration and the batch, from its start and again at its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from flows.config import open_project
from flows.run_names import name_after, name_at_start
from storage.batches import close_batch
from storage.records import Batch
from tasks.project import Project

pytestmark = pytest.mark.usefixtures("prefect_server")


def name_now() -> str:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run.id).name


@flow(name="nightly", flow_run_name=name_at_start)
def named(workspace: str, batch_id: str | None) -> tuple[str, str]:
    before = name_now()
    name_after(open_project().workspace.store(), batch_id)
    return before, name_now()


def test_the_name_says_the_iteration_and_the_batch(
    project: Project, reserve_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(project.workspace.root)
    monkeypatch.setenv("PAL_WORKSPACE", root)
    assert named(root, None) == ("nightly, iteration 1", "nightly, iteration 1")
    first = reserve_batch(project.workspace, {"i1": "Floods"}).batch_id
    assert named(root, first)[0] == f"nightly, iteration 1: {first}"
    close_batch(project.workspace.store(), first)
    second = reserve_batch(project.workspace, {"i2": "Tea"}).batch_id
    assert named(root, second)[1] == f"nightly, iteration 2: {second}"


def test_a_workspace_that_is_none_is_no_reason_for_a_run_without_a_name(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAL_WORKSPACE", str(project.workspace.root))
    assert named("/nowhere", None)[0] == "nightly"
