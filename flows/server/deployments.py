"""The flows as Prefect knows them: each flow body wrapped with `@flow`; prefect.yaml points here.

Nothing else imports Prefect, and this module is imported only where a server is used: by workers, and by commands
while a server is up (`flows.server.command_runs`).
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_type_hints
from uuid import UUID

import httpx
import yaml
from prefect import Flow, State, flow, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyOptions, FlowRun
from prefect.events.worker import EventsWorker
from prefect.flow_engine import run_flow
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect.utilities.callables import parameter_schema

import flows.adapt
import flows.adjudicate
import flows.import_texts
import flows.ingest
import flows.next_batch
import flows.nightly
import flows.predict
import flows.publish_found
import flows.review
import flows.simulate
from flows.log_lines import ROOMS
from flows.notify import notify
from flows.run import Artifact, Run, Table, flow_name
from flows.server.prefect_api import prefect_file
from flows.server.service import cancel_missed
from storage.errors import PalError, ServiceError
from tasks.project import Project, open_project

P = ParamSpec("P")
T = TypeVar("T")

DRAIN_S = 60.0
"""The longest wait, after a run, for what is still on its way to the server."""

SERVER_ERRORS = (httpx.HTTPError, OSError)
"""What a call to a server that is gone or refuses raises."""

log = logging.getLogger(__name__)


class PrefectHost:
    """Shows a run in Prefect: stages as task runs, tables and texts as artifacts.

    A server that is gone in the middle of a run is no reason for the run to fail: its work goes on unseen.

    Attributes:
        run_id: The id of the flow run.
    """

    def __init__(self) -> None:
        self.run_id: str | None = runtime.flow_run.id
        self._is_lost = False

    def stage(self, name: str, call: Callable[[], T]) -> T:
        """Run a stage as a task run of that name; what it raises passes unchanged.

        Neither arguments nor result pass through Prefect, which would hash and walk through them.
        """
        outcome = _Outcome(call)
        try:
            if not self._is_lost:
                task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(outcome.run)()
        except SERVER_ERRORS as error:
            if outcome.error is None:
                self._lose(error)
        return outcome.get()

    def show(self, artifact: Artifact) -> None:
        """Make an artifact of the run."""
        try:
            if self._is_lost:
                return
            if isinstance(artifact, Table):
                create_table_artifact(list(artifact.rows), key=artifact.key, description=artifact.description)
            else:
                create_markdown_artifact(artifact.text, key=artifact.key, description=artifact.description)
        except SERVER_ERRORS as error:
            self._lose(error)

    def rename(self, name: str) -> None:
        """Give the flow run a readable name."""
        try:
            if not self._is_lost:
                with get_client(sync_client=True) as client:
                    client.update_flow_run(UUID(self.run_id), name=name)
        except SERVER_ERRORS as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        log.warning("The Prefect server is gone; the run goes on without it: %s", error)
        self._is_lost = True


class _Outcome(Generic[T]):
    """A call that is made once, by whoever comes first, and what came of it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self.error: BaseException | None = None
        self._is_begun = False

    def run(self) -> None:
        """Make the call."""
        self._is_begun = True
        try:
            self._results.append(self._call())
        except BaseException as error:
            self.error = error
            raise

    def get(self) -> T:
        """What the call returned or raised; makes it where nobody has begun it."""
        if not self._is_begun:
            self.run()
        if self.error is not None:
            raise self.error
        return self._results[0]


def as_flow(body: Callable[Concatenate[Run, P], T], name: str, project: Project | None = None) -> Flow[..., T]:
    """Make a Prefect flow of a flow body.

    Its parameters are `workspace`, then those of the body after `run`, with their types, limits and captions, so that
    the form of the UI shows them.

    Args:
        body: Called with a `Run` of the project, and the flow's other parameters.
        name: The name of the flow.
        project: The project, where it is open already, by a command that tells of its end itself; else `workspace` is
            opened, and `[notify]` is told of a crash.
    """

    def call(workspace: str, **parameters: Any) -> T:
        for room in ROOMS:
            logging.getLogger(room).setLevel(logging.INFO)
        if inspect.unwrap(body) is flows.nightly.nightly:
            _cancel_missed()
        with Run(project or open_project(Path(workspace)), name, PrefectHost()) as run:
            return body(run, **parameters)  # type: ignore[call-arg]

    shaped = _shaped(call, body)
    if project is not None:
        return flow(name=name)(shaped)
    return flow(name=name, flow_run_name=name, on_crashed=[_notify_crash])(shaped)


def _shaped(call: Callable[..., T], body: Callable[..., T]) -> Callable[..., T]:
    """Give a function the name, the docstring and the parameters of a body, with `workspace` in place of `run`."""
    types = get_type_hints(body, include_extras=True)
    run, *others = inspect.signature(body).parameters.values()
    first = inspect.Parameter("workspace", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
    keyword = inspect.Parameter.KEYWORD_ONLY  # Prefect gives others by their position
    parameters = [first, *(other.replace(kind=keyword, annotation=types[other.name]) for other in others)]
    call.__name__ = call.__qualname__ = body.__name__
    call.__doc__ = _with_workspace(inspect.getdoc(body) or "", run.name)
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=types.get("return", inspect.Signature.empty)
    )
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _with_workspace(docstring: str, run: str) -> str:
    """Put the caption of `workspace` before the other captions.

    >>> print(_with_workspace("Publish it.\\n\\nArgs:\\n    run: The run.\\n    n: Items.", "run"))
    Publish it.
    <BLANKLINE>
    Args:
        workspace: The project's directory.
        n: Items.
    """
    lines = [line for line in docstring.splitlines() if not line.startswith(f"    {run}:")]
    if "Args:" not in lines:
        lines += ["", "Args:"]
    place = lines.index("Args:") + 1
    return "\n".join([*lines[:place], "    workspace: The project's directory.", *lines[place:]])


def _notify_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell whoever `[notify]` names that a run's process was killed; other failures are told by the run itself."""
    try:
        project = open_project(Path(flow_run.parameters["workspace"]))
    except (PalError, OSError) as error:
        log.warning("Nobody was notified of the crash: %s", error)
        return
    text = f"{flow_run.name} crashed: {state.message or 'see its log'}"
    notify(project, "failure", text, flow=flow.name, run=flow_run.name, run_id=str(flow_run.id))


def _cancel_missed() -> None:
    if (deployment_id := runtime.deployment.id) is not None:
        cancel_missed(str(PREFECT_API_URL.value()), str(deployment_id), str(runtime.flow_run.id))


import_items = as_flow(flows.import_texts.import_items, "import-items")
next_batch = as_flow(flows.next_batch.next_batch, "next-batch")
ingest = as_flow(flows.ingest.ingest, "ingest")
adjudicate = as_flow(flows.adjudicate.adjudicate, "adjudicate")
publish_found = as_flow(flows.publish_found.publish_found, "publish-found")
review = as_flow(flows.review.review, "review")
predict = as_flow(flows.predict.predict, "predict")
adapt = as_flow(flows.adapt.adapt, "adapt")
simulate = as_flow(flows.simulate.simulate, "simulate")
nightly = as_flow(flows.nightly.nightly, "nightly")

FLOWS: dict[str, Flow[..., Any]] = {
    made.name: made
    for made in (
        import_items,
        next_batch,
        ingest,
        adjudicate,
        review,
        publish_found,
        predict,
        adapt,
        simulate,
        nightly,
    )
}
"""Every flow, by its name, which is also that of its deployment."""


def create_deployment(api: str, name: str, project: Project) -> None:
    """Create the deployment of a flow on the server, as prefect.yaml describes it, without schedule and triggers.

    `pal up` and `prefect deploy` add those: a server where nobody deployed has no worker that would run them.
    """
    entries = _filled(yaml.safe_load(prefect_file().read_text(encoding="utf-8")), str(project.workspace.root))
    entry = next(entry for entry in entries["deployments"] if entry["name"] == name)
    limit = entry.get("concurrency_limit", {})
    strategy = limit.get("collision_strategy")
    made = FLOWS[name]
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        client.create_deployment(
            client.create_flow(made),
            name,
            concurrency_limit=limit.get("limit"),
            concurrency_options=ConcurrencyOptions(collision_strategy=strategy) if strategy else None,
            parameters=entry["parameters"],
            description=entry["description"],
            work_pool_name=entry["work_pool"]["name"],
            entrypoint=entry["entrypoint"],
            pull_steps=entries["pull"],
            parameter_openapi_schema=parameter_schema(made).model_dump_for_openapi(),
            enforce_parameter_schema=True,
        )


def _filled(value: Any, workspace: str) -> Any:
    """What prefect.yaml says, with the workspace filled in."""
    if isinstance(value, dict):
        return {key: _filled(inner, workspace) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, workspace) for inner in value]
    return value.replace("{{ $PAL_WORKSPACE }}", workspace) if isinstance(value, str) else value


def execute(api: str, project: Project, body: Callable[..., T], run_id: str, parameters: Mapping[str, Any]) -> T:
    """Execute a flow run, which has its slot, in this process; returns what the body returns.

    What the body returned or raised counts, also where the server can no longer be told of it.

    Args:
        run_id: A flow run of the body's deployment, PENDING.
        parameters: Of the body, without `run`.

    Raises:
        Exception: What the body raises.
    """
    results: list[T] = []
    errors: list[Exception] = []

    @functools.wraps(body)
    def noted(run: Run, /, **others: Any) -> T:
        try:
            results.append(body(run, **others))
        except Exception as error:
            errors.append(error)
            raise
        return results[0]

    made = as_flow(noted, flow_name(body), project)
    given = {"workspace": str(project.workspace.root), **parameters}
    # The heartbeat tells a server that a run on another machine is alive; ending it costs a second a run.
    with temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            with get_client(sync_client=True) as client:
                begun = client.read_flow_run(UUID(run_id))
            run_flow(made, flow_run=begun, parameters=given)
        except Exception as error:
            if errors:
                raise errors[0] from None
            if not results:
                what = f"Prefect could not begin the run: {error}."
                raise ServiceError(what, hint="Run the command again.") from error
            log.warning("The run is complete, but the Prefect server could not be told: %s", error)
        finally:
            _drain()
    return results[0]


def _drain() -> None:
    """Send what is still on its way to the server, so that nothing is said about it when the process ends."""
    for service in (EventsWorker, APILogWorker):
        logging.getLogger(service.__name__).setLevel(logging.CRITICAL)
        service.drain_all(timeout=DRAIN_S)
