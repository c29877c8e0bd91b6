"""A run: one flow body on a project; its stages are called in this process, or as tasks of a Prefect run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from flows.engine import listen, running_server, say
from flows.notify import notify
from tasks.project import Project

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Rows that a run shows beside its log."""

    key: str
    description: str
    rows: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Markdown:
    """A text that a run shows beside its log."""

    key: str
    description: str
    text: str


Artifact = Table | Markdown


class Host(Protocol):
    """Where a run is shown while it runs.

    Attributes:
        run_id: The id of the run there; None where nothing keeps it.
    """

    run_id: str | None

    def stage(self, name: str, call: Callable[[], T]) -> T:
        """Run a stage under its name; what it raises passes."""
        ...

    def show(self, artifact: Artifact) -> None:
        """Show a table or a text beside the run."""
        ...

    def rename(self, name: str) -> None:
        """Give the run a readable name."""
        ...


class ThisProcess:
    """Stages are called here; nobody watches."""

    run_id: str | None = None

    def stage(self, name: str, call: Callable[[], T]) -> T:  # noqa: ARG002
        """Call the stage."""
        return call()

    def show(self, artifact: Artifact) -> None:
        """Show nothing: the command prints what its user needs."""

    def rename(self, name: str) -> None:
        """Change nothing."""


class Run:
    """A run of a flow body."""

    def __init__(self, project: Project, flow: str, host: Host | None = None) -> None:
        self.project, self.name = project, flow
        self._host: Host = host or ThisProcess()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, Exception):
            notify(self.project, "failure", f"{self.name} failed: {error}", run=self.name)

    def stage(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a stage: a plain function, under its name."""
        return self._host.stage(function.__name__, lambda: function(*args, **kwargs))

    def show(self, *artifacts: Artifact) -> None:
        """Show tables and texts beside the run."""
        for artifact in artifacts:
            self._host.show(artifact)

    def rename(self, name: str) -> None:
        """Give the run a readable name."""
        self.name = name
        self._host.rename(name)

    def say(self, message: str) -> None:
        """What came of the run, into the log."""
        log.info("%s", message)


def start(project: Project, body: Callable[Concatenate[Run, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a flow body for a command; returns what it returns."""
    listen()
    if api := running_server(project):
        from flows.server.command_runs import run_deployment

        return run_deployment(api, project, body, *args, **kwargs)
    say("Running without a Prefect server; to see runs in a browser: pal up")
    with Run(project, flow_name(body)) as run:
        return body(run, *args, **kwargs)


def flow_name(body: Callable[..., Any]) -> str:
    """The name of a body's flow and deployment.

    >>> flow_name(start)
    'start'
    """
    return body.__name__.replace("_", "-")


def run(name: str, project: Project, **parameters: Any) -> Any:
    """Temporary: run a flow by its name."""
    from importlib import import_module

    from flows.server.command_runs import set_up_prefect

    listen()
    set_up_prefect()
    return start(project, getattr(import_module(f"flows.{name}"), name), **parameters)
