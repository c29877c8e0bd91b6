"""A run of a flow body on a project; its stages are timed, logged and recorded, in this process or as a Prefect run.

A flow body is a plain function `body(run, ...)` that calls `run.stage(function, ...)` for each step. Commands run a
body with `start`: as a Prefect flow run if a server is up, else directly, without importing Prefect. The types of a
body's parameters define the forms of the Prefect UI; a default that means "as in pal.toml" is a plain value, because
None makes an odd form.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, Protocol, Self, TypeVar

from pydantic import Field

from flows.log_lines import listen, say
from flows.notify import notify
from flows.server.command_runs import running_server
from storage.files.folders import remove_left_parts
from storage.records import RunRecord, RunStatus
from storage.run_records import new_run, run_state
from tasks.project import Project

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """A table that a run shows in addition to its log."""

    key: str
    description: str
    rows: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Markdown:
    """A text that a run shows in addition to its log."""

    key: str
    description: str
    text: str


Artifact = Table | Markdown


class Host(Protocol):
    """What executes the stages of a run and shows it: this process, or Prefect.

    Attributes:
        run_id: The id of the run in Prefect; None in this process.
    """

    run_id: str | None

    def stage(self, name: str, call: Callable[[], T]) -> T:
        """Run a stage under its name; its errors are raised unchanged."""
        ...

    def show(self, artifact: Artifact) -> None:
        """Show a table or a text with the run."""
        ...

    def rename(self, name: str) -> None:
        """Give the run a readable name."""
        ...


class ThisProcess:
    """Calls the stages directly and shows nothing."""

    run_id: str | None = None

    def stage(self, name: str, call: Callable[[], T]) -> T:  # noqa: ARG002
        """Call the stage."""
        return call()

    def show(self, artifact: Artifact) -> None:
        """Do nothing: the command prints the results."""

    def rename(self, name: str) -> None:
        """Do nothing: the record has the name."""


class Run:
    """A run of a flow body, recorded from its start to its end, however it ends.

    On entry, files shared by other machines are downloaded and crashed runs are marked; on exit, new files are
    uploaded.

    Attributes:
        project: The workspace and its settings.
        record: The record of the run.
        batch_id: The batch that is open after the run, once known.
        model_id: The model in production after the run, once known.
    """

    def __init__(self, project: Project, flow: str, host: Host | None = None) -> None:
        self.project = project
        self.batch_id: str | None = None
        self.model_id: str | None = None
        self._host: Host = host or ThisProcess()
        self._runs = project.workspace.runs()
        self._seconds: dict[str, float] = {}
        self._to_share: list[Path] = []
        self.record = new_run(flow, name=flow, server_run=self._host.run_id)

    def __enter__(self) -> Self:
        workspace = self.project.workspace
        self.project.store  # noqa: B018 - migrates a lake of an old version, which contains the runs
        workspace.pull()
        self._runs.mark_crashed()
        remove_left_parts(workspace.models, workspace.batches)
        self._runs.put(self.record)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            try:
                self.project.workspace.push(*self._to_share)
            except BaseException as failed:
                self._end(RunStatus.FAILED, _reason(failed))
                raise
            self._end(RunStatus.COMPLETED, self.record.message)
            return
        self._end(RunStatus.FAILED, _reason(error))
        if isinstance(error, Exception):
            text = f"{self.record.name} failed: {error}"
            facts = {"flow": self.record.flow, "run": self.record.name, "run_id": self.record.run_id}
            notify(self.project, "failure", text, **facts)

    def stage(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a stage: a plain function, timed and recorded under its name.

        >>> # model = run.stage(train_model, project)
        """
        name = function.__name__
        self.record = replace(self.record, stage=name, stages=dict(self._seconds))
        self._runs.enter_stage(self.record)
        started = time.monotonic()
        result = self._host.stage(name, lambda: function(*args, **kwargs))
        self._seconds[name] = round(self._seconds.get(name, 0.0) + time.monotonic() - started, 3)
        self.record = replace(self.record, stage=None)
        return result

    def show(self, artifacts: Callable[[], Iterable[Artifact]]) -> None:
        """Show tables and texts with the run in the Prefect UI; they are made only if there is one."""
        for artifact in artifacts() if self._host.run_id is not None else ():
            self._host.show(artifact)

    def rename(self, name: str) -> None:
        """Give the run a readable name, such as `next b0004-training`, and record it."""
        self.record = replace(self.record, name=name)
        self._runs.enter_stage(self.record)
        self._host.rename(name)

    def say(self, message: str) -> None:
        """Log the outcome of the run and save it in the record."""
        self.record = replace(self.record, message=message)
        log.info("%s", message)

    def share(self, *paths: Path) -> None:
        """Upload these files when the run ends, if files are shared with other machines."""
        self._to_share += paths

    def last_without_news(self) -> RunRecord | None:
        """Return the last complete run of this flow if lake and settings have not changed since; else None."""
        last = self._runs.recent(1, flow=self.record.flow, status=RunStatus.COMPLETED)
        return last[0] if last and last[0].state == self._state() else None

    def complete_work(self) -> None:
        """Record that only reporting remains, which does not affect what the next run does."""
        self.record = replace(self.record, state=self._state())

    def _state(self) -> str:
        return run_state(self.project.store.version(), self.project.settings)

    def _end(self, status: RunStatus, message: str) -> None:
        self.record = replace(
            self.record,
            status=status,
            ended_at=datetime.now(UTC),
            stages=dict(self._seconds),
            model_id=self.model_id,
            batch_id=self.batch_id,
            message=message,
        )
        self._runs.put(self.record)


def start(project: Project, body: Callable[Concatenate[Run, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a flow body for a command and return its result.

    With a Prefect server (this workspace's `pal up`, or $PREFECT_API_URL) it is a flow run of its deployment, executed
    in this process. Otherwise it is called directly.

    Raises:
        ServiceError: No server answers at $PREFECT_API_URL.
    """
    listen()
    if api := running_server(project):
        from flows.server.command_runs import run_deployment  # Prefect takes seconds to import

        return run_deployment(api, project, body, *args, **kwargs)
    say("Running without a Prefect server; to see runs in a browser: pal up")
    return run_here(project, body, *args, **kwargs)


def run_here(project: Project, body: Callable[Concatenate[Run, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a flow body in this process, without Prefect, and return its result."""
    with Run(project, flow_name(body)) as run:
        return body(run, *args, **kwargs)


def flow_name(body: Callable[..., Any]) -> str:
    """Return the name of the flow and deployment of a body.

    >>> flow_name(start)
    'start'
    """
    return body.__name__.replace("_", "-")


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "Interrupted at the keyboard."
    return str(error) or type(error).__name__


FormatName = Literal["csv", "xlsx", "html", "label-studio", "argilla", "doccano", "prodigy", "original"]
"""A format of batch files, as in `annotation.formats.registry`."""

KnownFormat = Literal["by content", "csv", "xlsx", "html", "label-studio", "argilla", "doccano", "prodigy", "original"]
"""The format of filled files, or "by content" to detect it."""

Size = Annotated[int, Field(ge=0)]
"""A number of items; 0 for that in pal.toml."""

Count = Annotated[int, Field(ge=1)]
"""A positive number."""

Seed = Annotated[int, Field(ge=0)]
"""A random seed."""

SeedOrOurs = Annotated[int, Field(ge=-1)]
"""A random seed; -1 for that in pal.toml."""

EncoderName = Literal["minilm-static", "bag-of-words"]
"""An encoder that ships with the package, as in `tasks.learning.encoders`."""
