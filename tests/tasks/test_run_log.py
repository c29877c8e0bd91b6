"""A run is on record from its begin to its end; one whose process is gone is found; nothing new is known as such."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from storage.annotations import ingest
from storage.batches import items_of
from storage.records import Answer, Batch, RunStatus
from storage.workspace import Workspace
from tasks.run_log import run_log

SPAWN = multiprocessing.get_context("spawn")
NOW = datetime.now(UTC)
pytestmark = pytest.mark.usefixtures("outside_of_a_flow")


def begin_and_die(workspace: Workspace) -> None:
    with run_log(workspace, "nightly", "s") as run:
        run.stage("ingest")
        run.stage("train")
        os._exit(9)


def test_a_run_that_ends_has_its_stages_with_their_times_and_what_came_of_it(workspace: Workspace) -> None:
    with run_log(workspace, "nightly", "s") as run:
        run.stage("ingest")
        (during,) = workspace.runs().recent(9)
        assert (during.status, during.stage) == (RunStatus.RUNNING, "ingest")
        run.stage("train")
        run.batch_id = "b0001-training"
        run.say("a batch waits")
        run.through()
    (after,) = workspace.runs().recent(9)
    assert (after.run_id, after.status, after.stage) == (run.run_id, RunStatus.COMPLETED, None)
    assert list(after.stages) == ["ingest", "train"]
    assert all(seconds >= 0 for seconds in after.stages.values())
    assert (after.batch_id, after.message) == ("b0001-training", "a batch waits")
    assert after.ended_at is not None
    assert after.state


def test_a_run_that_fails_says_why_and_in_which_stage_and_is_no_reason_to_do_nothing(workspace: Workspace) -> None:
    def torn() -> None:
        with run_log(workspace, "nightly", "s") as run:
            run.stage("train")
            run.through()
            raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        torn()
    (failed,) = workspace.runs().recent(9)
    assert (failed.status, failed.stage, failed.message) == (RunStatus.FAILED, "train", "torn")
    with run_log(workspace, "nightly", "s") as run:
        assert run.nothing_new() is None


def test_a_killed_run_is_told_by_the_next_one(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    process = SPAWN.Process(target=begin_and_die, args=(workspace,))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    with caplog.at_level(logging.WARNING), run_log(workspace, "nightly", "s"):
        pass
    assert "crashed in stage 'train'" in caplog.text
    _, killed = workspace.runs().recent(9)
    assert (killed.status, killed.stage, list(killed.stages)) == (RunStatus.CRASHED, "train", ["ingest"])
    assert workspace.runs().mark_crashed() == []


def test_nothing_is_new_until_an_answer_or_a_setting_is(
    workspace: Workspace, reserve_batch: Callable[..., Batch]
) -> None:
    batch = reserve_batch(workspace, {"i1": "Floods", "i2": "Tea"})
    with run_log(workspace, "nightly", "s") as run:
        assert run.nothing_new() is None, "there was no run yet"
        run.through()
    with run_log(workspace, "nightly", "s") as run:
        before = run.nothing_new()
        run.through()
    assert before is not None
    with run_log(workspace, "nightly", "other settings") as run:
        assert run.nothing_new() is None
        run.through()
    with run_log(workspace, "next-batch", "other settings") as run:
        assert run.nothing_new() is None, "another flow"
    item = items_of(workspace.store(), batch.batch_id)[0]
    ingest(workspace.store(), batch.batch_id, [Answer(item.item_id, "related", "anna")], "a.csv")
    with run_log(workspace, "nightly", "other settings") as run:
        assert run.nothing_new() is None


def test_what_killed_processes_left_half_written_is_removed_after_a_day(workspace: Workspace) -> None:
    old, young = workspace.models / ".m1.7.part", workspace.models / ".m2.8.part"
    for left in (old, young):
        left.mkdir()
        (left / "model.safetensors").write_bytes(b"half")
    day_ago = NOW.timestamp() - 90_000
    os.utime(old, (day_ago, day_ago))
    with run_log(workspace, "nightly", "s"):
        pass
    assert (old.exists(), young.exists()) == (False, True)
