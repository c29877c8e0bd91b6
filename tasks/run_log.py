"""A run of a flow as the lake remembers it: its stages with their times, how it ended, what the one before it left."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from storage.folders import remove_left_parts
from storage.records import Run, RunStatus
from storage.runs import add_run, end_run, enter_stage, lake_state, recent_runs
from storage.store import Store
from storage.workspace import Workspace

log = logging.getLogger(__name__)

LOST_AFTER = timedelta(days=1)
"""A run that says nothing for so long is held for crashed."""


class RunLog:
    """The run that is going on.

    Attributes:
        run_id: Names it and its report.
        model_id: The model in production after it, once known.
        batch_id: The batch that is open after it, once known.
        message: What came of it, in words.
    """

    def __init__(self, store: Store, flow: str, settings: str) -> None:
        self.model_id: str | None = None
        self.batch_id: str | None = None
        self.message = ""
        self._store, self._flow, self._settings = store, flow, settings
        started = datetime.now(UTC)
        self.run_id = f"{flow}-{started:%Y%m%d-%H%M%S}-{os.getpid()}"
        self._stage: str | None = None
        self._since = time.monotonic()
        self._stages: dict[str, float] = {}
        self._state: str | None = None
        add_run(store, Run(self.run_id, flow, RunStatus.RUNNING, socket.gethostname(), os.getpid(), started))

    def stage(self, name: str) -> None:
        """The next stage begins, and the one before it is through."""
        self._end_stage()
        self._stage = name
        enter_stage(self._store, self.run_id, name, self._stages)

    def nothing_new(self) -> Run | None:
        """The last run of this flow that was through, where everything is as it left it; else None."""
        last = recent_runs(self._store, 1, flow=self._flow, status=RunStatus.COMPLETED)
        return last[0] if last and last[0].state == lake_state(self._store, self._settings) else None

    def say(self, message: str) -> None:
        """What came of the run, into the log and the lake."""
        self.message = message
        log.info("%s", message)

    def through(self) -> None:
        """Everything that changes what the next run would do is done; only telling about it is left."""
        self._state = lake_state(self._store, self._settings)

    def end(self, status: RunStatus, message: str) -> None:
        """Remember how it ended; one that was not through leaves its work to the next."""
        early = None if status is RunStatus.COMPLETED else self._stage
        self._end_stage()
        end_run(
            self._store,
            self.run_id,
            status,
            self._stages,
            stage=early,
            state=self._state,
            model_id=self.model_id,
            batch_id=self.batch_id,
            message=message,
        )

    def _end_stage(self) -> None:
        now = time.monotonic()
        if self._stage is not None:
            before = self._stages.get(self._stage, 0.0)
            self._stages[self._stage] = round(before + now - self._since, 3)
        self._stage, self._since = None, now


@contextmanager
def run_log(workspace: Workspace, flow: str, settings: str) -> Iterator[RunLog]:
    """Remember a run from its begin to its end, whatever that is; told first is what an earlier one was killed in.

    Args:
        settings: Everything that a run follows besides the lake: pal.toml and the version of the code.
    """
    store = workspace.store()
    find_crashed(store)
    for folder in (workspace.models, workspace.batches):
        remove_left_parts(folder)
    run = RunLog(store, flow, settings)
    try:
        yield run
    except BaseException as error:
        run.end(RunStatus.FAILED, str(error) or type(error).__name__)
        raise
    run.end(RunStatus.COMPLETED, run.message)


def find_crashed(store: Store) -> list[Run]:
    """Mark the runs whose process is gone without a word, and return them."""
    crashed = [run for run in recent_runs(store, 100, status=RunStatus.RUNNING) if not _is_alive(run)]
    for run in crashed:
        where = f"in stage {run.stage}" if run.stage else "before its first stage"
        began = f"{run.started_at:%Y-%m-%d %H:%M}"
        log.warning("the run %s of %s UTC was cut off %s; what it left is finished now", run.flow, began, where)
        end_run(store, run.run_id, RunStatus.CRASHED, run.stages, stage=run.stage, message=f"cut off {where}")
    return crashed


def runs_going_on(store: Store) -> list[Run]:
    """The runs that go on now, as far as can be told: on another host all that have not said that they ended."""
    return [run for run in recent_runs(store, 100, status=RunStatus.RUNNING) if _is_alive(run)]


def _is_alive(run: Run) -> bool:
    if datetime.now(UTC).replace(tzinfo=None) - run.started_at > LOST_AFTER or run.pid == os.getpid():
        return False  # a run of this process ends before the next begins
    if run.host != socket.gethostname() or os.name == "nt":  # there os.kill ends the process that it asks about
        return True
    try:
        os.kill(run.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, so it is there
    return True
