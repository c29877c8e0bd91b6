"""A process that records a run is killed with -9 at lines spread over it: the history reads and goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kill_at_line import killed_at, lines_of
from test_runs import run

from storage.records import RunStatus
from storage.run_records import Runs


def begin_and_end(path: Path) -> None:
    Runs(path).put(run(1))
    Runs(path).put(replace(run(1), status=RunStatus.COMPLETED))


def test_after_kill_9_at_any_line_the_history_reads_and_goes_on(tmp_path: Path) -> None:
    lines = lines_of(begin_and_end, tmp_path / "undisturbed.sqlite")
    for line in range(1, lines + 1, max(1, lines // 8)):
        path = tmp_path / f"{line}.sqlite"
        killed_at(line, begin_and_end, path)
        assert len(Runs(path).all()) <= 1
        Runs(path).put(run(2))
        assert Runs(path).recent(1)[0].run_id == "nightly-2"
