"""A run of a flow as it is recorded: its stages with their times, how it ended, what the one before it left."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from storage.folders import remove_left_parts
from storage.records import RunRecord, RunStatus
from storage.runs import new_run, run_state
from storage.workspace import Workspace

log = logging.getLogger(__name__)


class RunLog:
    """The run that is going on.

    Attributes:
        run_id: Names it and its report.
        model_id: The model in production after it, once known.
        batch_id: The batch that is open after it, once known.
        message: What came of it, in words.
    """

    def __init__(self, workspace: Workspace, flow: str, settings: str) -> None:
        self.model_id: str | None = None
        self.batch_id: str | None = None
        self.message = ""
        self._workspace, self._settings = workspace, settings
        self._runs = workspace.runs()
        self._record = new_run(flow)
        self.run_id = self._record.run_id
        self._stage: str | None = None
        self._since = time.monotonic()
        self._stages: dict[str, float] = {}
        self._state: str | None = None
        self._runs.begin(self._record)

    def stage(self, name: str) -> None:
        """The next stage begins, and the one before it is through."""
        self._end_stage()
        self._stage = name
        self._runs.enter_stage(self.run_id, name, self._stages)

    def nothing_new(self) -> RunRecord | None:
        """The last run of this flow that was through, where everything is as it left it; else None."""
        last = self._runs.recent(1, flow=self._record.flow, status=RunStatus.COMPLETED)
        return last[0] if last and last[0].state == self._now() else None

    def say(self, message: str) -> None:
        """What came of the run, into the log and the record of runs."""
        self.message = message
        log.info("%s", message)

    def through(self) -> None:
        """Everything that changes what the next run would do is done; only telling about it is left."""
        self._state = self._now()

    def end(self, status: RunStatus, message: str) -> None:
        """Record how it ended; one that was not through leaves its work to the next."""
        stage = None if status is RunStatus.COMPLETED else self._stage
        self._end_stage()
        self._runs.end(
            replace(
                self._record,
                status=status,
                ended_at=datetime.now(UTC),
                stage=stage,
                stages=self._stages,
                state=self._state,
                model_id=self.model_id,
                batch_id=self.batch_id,
                message=message,
            )
        )

    def _now(self) -> str:
        return run_state(self._workspace.store().version(), self._settings)

    def _end_stage(self) -> None:
        now = time.monotonic()
        if self._stage is not None:
            before = self._stages.get(self._stage, 0.0)
            self._stages[self._stage] = round(before + now - self._since, 3)
        self._stage, self._since = None, now


@contextmanager
def run_log(workspace: Workspace, flow: str, settings: str) -> Iterator[RunLog]:
    """Record a run from its begin to its end, whatever that is; those that crashed before it are marked first.

    Args:
        settings: Everything that a run follows besides the lake: pal.toml and the version of the code.
    """
    workspace.store()  # migrates an old lake, whose runs are still in it
    workspace.runs().mark_crashed()
    for folder in (workspace.models, workspace.batches):
        remove_left_parts(folder)
    run = RunLog(workspace, flow, settings)
    try:
        yield run
    except BaseException as error:
        run.end(RunStatus.FAILED, str(error) or type(error).__name__)
        raise
    run.end(RunStatus.COMPLETED, run.message)
