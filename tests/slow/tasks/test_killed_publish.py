"""A publication that is killed, or runs twice at once, leaves one whole batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from projects import project_of
from test_publish import TEXTS, Reserve, assert_whole

from storage.workspace import Workspace
from tasks.sample import publish_batches


def test_a_kill_at_any_line_leaves_no_half_batch_and_the_next_run_publishes(
    workspace: Workspace,
    reserve_batch: Reserve,
    kill_at_lines: Callable[[str, list[Path]], None],
    tmp_path: Path,
) -> None:
    batch = reserve_batch(workspace, TEXTS)
    roots = [Path(shutil.copytree(workspace.root, tmp_path / f"copy{k}")) for k in range(9)]
    kill_at_lines("publish", roots)
    published = 0
    for root in roots:
        copy = Workspace(root)
        folder = copy.batches / batch.batch_id
        there = (folder / "manifest.json").is_file()
        published += there
        assert there == folder.exists()
        assert publish_batches(project_of(copy)) == ([] if there else [folder])
        assert_whole(folder)
    assert 1 <= published < len(roots)


def test_two_runs_at_once_publish_one_batch(
    workspace: Workspace, reserve_batch: Reserve, run_at_once: Callable[[str, Path], None]
) -> None:
    batch = reserve_batch(workspace, TEXTS)
    run_at_once("publish", workspace.root)
    assert_whole(workspace.batches / batch.batch_id)
    assert [path.name for path in workspace.batches.iterdir()] == [batch.batch_id]
