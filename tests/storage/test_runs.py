"""Runs as the lake keeps them, and what counts as something new."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from storage.models import add_model, promote
from storage.records import Batch, Model, ModelStatus, Run, RunStatus
from storage.runs import add_run, end_run, enter_stage, lake_state, recent_runs
from storage.workspace import Workspace

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def run(number: int, flow: str = "nightly") -> Run:
    return Run(f"{flow}-{number}", flow, RunStatus.RUNNING, "here", 7, START + timedelta(days=number))


def test_a_run_is_taken_from_stage_to_stage_to_its_end(workspace: Workspace) -> None:
    store = workspace.store()
    for each in (run(1), run(2), run(3, "ingest")):
        add_run(store, each)
    enter_stage(store, "nightly-2", "train", {"ingest": 1.5})
    (found,) = recent_runs(store, 1, flow="nightly")
    assert (found.run_id, found.stage, found.stages) == ("nightly-2", "train", {"ingest": 1.5})
    assert found.started_at == (START + timedelta(days=2)).replace(tzinfo=None), "in UTC"
    end_run(store, "nightly-2", RunStatus.COMPLETED, {"ingest": 1.5, "train": 2.0}, batch_id="b1", message="it's done")
    (found,) = recent_runs(store, 9, status=RunStatus.COMPLETED)
    assert (found.stage, found.batch_id, found.message) == (None, "b1", "it's done")
    assert found.ended_at is not None
    assert [each.run_id for each in recent_runs(store, 9)] == ["ingest-3", "nightly-2", "nightly-1"]


def test_the_state_is_another_only_where_a_run_would_do_something_else(
    workspace: Workspace, reserve_batch: Callable[..., Batch]
) -> None:
    store = workspace.store()
    seen = [lake_state(store, "s")]
    add_run(store, run(1))
    assert lake_state(store, "s") == seen[0], "a run alone is nothing new"
    seen.append(lake_state(store, "t"))
    reserve_batch(workspace, {"i1": "Floods"})
    seen.append(lake_state(store, "s"))
    add_model(store, Model("m1", START, 1, 1, "e", "{}", "h", ModelStatus.CANDIDATE))
    assert lake_state(store, "s") == seen[-1], "a candidate is not in production"
    promote(store, "m1")
    seen.append(lake_state(store, "s"))
    assert len(set(seen)) == 4


@pytest.mark.parametrize("status", RunStatus)
def test_every_status_reads_back(workspace: Workspace, status: RunStatus) -> None:
    add_run(workspace.store(), run(1))
    end_run(workspace.store(), "nightly-1", status, {})
    assert recent_runs(workspace.store(), 1)[0].status is status
