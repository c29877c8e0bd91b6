"""The Prefect flows: each flow body wrapped with `@flow`; prefect.yaml refers to this module.

No other module imports Prefect. This one is imported only if a server is used: by workers, and by commands while a
server is up (`flows.server.command_runs`).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Concatenate, Generic, ParamSpec, TypeVar, get_type_hints
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
from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

import flows.adapt
import flows.import_texts
import flows.ingest
import flows.next_batch
import flows.nightly
import flows.predict
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
"""Maximum time, after a run, to send the remaining log lines and events to the server."""

SERVER_ERRORS = (httpx.HTTPError, OSError)
"""The errors of calls to a server that cannot be reached or refuses the call."""

log = logging.getLogger(__name__)


class PrefectHost:
    """Shows a run in Prefect: stages as task runs, tables and texts as artifacts.

    If the server becomes unreachable, the run continues without being shown.

    Attributes:
        run_id: The id of the flow run.
    """

    def __init__(self) -> None:
        self.run_id: str | None = runtime.flow_run.id
        self._is_lost = False

    def stage(self, name: str, call: Callable[[], T]) -> T:
        """Run a stage as a task run with this name; its errors are raised unchanged.

        Arguments and result bypass Prefect, which would hash and traverse them.
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
        """Create an artifact of the run."""
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
        log.warning("The Prefect server cannot be reached; the run continues without it: %s", error)
        self._is_lost = True


class _Outcome(Generic[T]):
    """A call that is made only once, and its result or error."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self.error: BaseException | None = None
        self._is_started = False

    def run(self) -> None:
        """Make the call."""
        self._is_started = True
        try:
            self._results.append(self._call())
        except BaseException as error:
            self.error = error
            raise

    def get(self) -> T:
        """Return the result of the call or raise its error; make the call if it has not been started."""
        if not self._is_started:
            self.run()
        if self.error is not None:
            raise self.error
        return self._results[0]


def as_flow(body: Callable[Concatenate[Run, P], T], name: str, project: Project | None = None) -> Flow[..., T]:
    """Make a Prefect flow of a flow body.

    Its parameters are `workspace`, then those of the body after `run`, with their types, limits and captions, so that
    the form of the UI shows them. `workspace` is a fixed parameter of the deployment, which the form does not show.

    Args:
        body: Called with a `Run` of the project, and the flow's other parameters.
        name: The name of the flow.
        project: The project, if a command has opened it; such a command reports a crash itself. None: `workspace` is
            opened, and a crash is reported to `[notify]`.
    """

    def call(workspace: str, **parameters: Any) -> T:
        for package in ROOMS:
            logging.getLogger(package).setLevel(logging.INFO)
        if inspect.unwrap(body) is flows.nightly.nightly:
            _cancel_missed()
        with Run(project or open_project(Path(workspace)), name, PrefectHost()) as run:
            return body(run, **parameters)  # type: ignore[call-arg]

    wrapped = _with_signature(call, body)
    if project is not None:
        return flow(name=name)(wrapped)
    prefect_flow = flow(name=name, flow_run_name=name, on_crashed=[_notify_crash])(wrapped)
    signature = inspect.signature(wrapped)
    _, *others = signature.parameters.values()
    prefect_flow.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return prefect_flow


def _with_signature(call: Callable[..., T], body: Callable[..., T]) -> Callable[..., T]:
    """Give a function the name, docstring and parameters of a body, with `workspace` instead of `run`."""
    types = get_type_hints(body, include_extras=True)
    _, *others = inspect.signature(body).parameters.values()
    first = inspect.Parameter("workspace", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str)
    keyword = inspect.Parameter.KEYWORD_ONLY  # Prefect would pass others by position
    parameters = [first, *(other.replace(kind=keyword, annotation=_captioned(types[other.name])) for other in others)]
    call.__name__ = call.__qualname__ = body.__name__
    call.__doc__ = body.__doc__
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=types.get("return", inspect.Signature.empty)
    )
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _captioned(of: Any) -> Any:
    """Give the fields of a dataclass the lines about them in its docstring as captions in the form of the UI."""
    return Annotated[of, _Captions(of)] if dataclasses.is_dataclass(of) else of


class _Captions:
    """The captions of the fields of a dataclass: the first line and the `Attributes` of its docstring."""

    def __init__(self, of: Any) -> None:
        text = inspect.getdoc(of) or ""
        self._title, _, attributes = text.partition("\n")
        entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE)
        self._captions = {name: " ".join(caption.split()) for name, caption in entries}

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema of the dataclass with captions."""
        reference = handler(schema)
        fields = handler.resolve_ref_schema(reference)
        fields["description"] = self._title
        for name, field in fields["properties"].items():
            field["description"] = self._captions[name]
        return reference


def _notify_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Notify the recipients in `[notify]` that the process of a run was killed; a run reports other failures itself."""
    try:
        project = open_project(Path(flow_run.parameters["workspace"]))
    except (PalError, OSError) as error:
        log.warning("Could not notify anyone of the crash: %s", error)
        return
    text = f"{flow_run.name} crashed: {state.message or 'see its log'}"
    notify(project, "failure", text, flow=flow.name, run=flow_run.name, run_id=str(flow_run.id))


def _cancel_missed() -> None:
    if (deployment_id := runtime.deployment.id) is not None:
        cancel_missed(str(PREFECT_API_URL.value()), str(deployment_id), str(runtime.flow_run.id))


import_items = as_flow(flows.import_texts.import_items, "import-items")
next_batch = as_flow(flows.next_batch.next_batch, "next-batch")
ingest = as_flow(flows.ingest.ingest, "ingest")
adjudicate = as_flow(flows.review.adjudicate, "adjudicate")
publish_found = as_flow(flows.next_batch.publish_found, "publish-found")
review = as_flow(flows.review.review, "review")
predict = as_flow(flows.predict.predict, "predict")
adapt = as_flow(flows.adapt.adapt, "adapt")
simulate = as_flow(flows.simulate.simulate, "simulate")
nightly = as_flow(flows.nightly.nightly, "nightly")

FLOWS: dict[str, Flow[..., Any]] = {value.name: value for value in [*globals().values()] if isinstance(value, Flow)}
"""Every flow by its name, which is also the name of its deployment."""


def create_deployment(api: str, name: str, project: Project) -> None:
    """Create the deployment of a flow on the server, as prefect.yaml describes it, without schedule and triggers.

    `pal up` and `prefect deploy` add these; a server without their deployments has no worker that would run them.
    """
    entries = _filled(yaml.safe_load(prefect_file().read_text(encoding="utf-8")), str(project.workspace.root))
    entry = next(entry for entry in entries["deployments"] if entry["name"] == name)
    limit = entry.get("concurrency_limit", {})
    strategy = limit.get("collision_strategy")
    prefect_flow = FLOWS[name]
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        client.create_deployment(
            client.create_flow(prefect_flow),
            name,
            concurrency_limit=limit.get("limit"),
            concurrency_options=ConcurrencyOptions(collision_strategy=strategy) if strategy else None,
            parameters=entry["parameters"],
            description=entry["description"],
            work_pool_name=entry["work_pool"]["name"],
            entrypoint=entry["entrypoint"],
            pull_steps=entries["pull"],
            parameter_openapi_schema=parameter_schema(prefect_flow).model_dump_for_openapi(),
            enforce_parameter_schema=True,
        )


def _filled(value: Any, workspace: str) -> Any:
    """Return the values of prefect.yaml with the path of the workspace filled in."""
    if isinstance(value, dict):
        return {key: _filled(inner, workspace) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, workspace) for inner in value]
    return value.replace("{{ $PAL_WORKSPACE }}", workspace) if isinstance(value, str) else value


def execute(api: str, project: Project, body: Callable[..., T], run_id: str, parameters: Mapping[str, Any]) -> T:
    """Execute a flow run, which has its slot, in this process, and return the result of the body.

    The result or error of the body is returned or raised even if it cannot be reported to the server.

    Args:
        api: The API URL of the server.
        project: The project.
        body: The flow body.
        run_id: The id of a PENDING flow run of the body's deployment.
        parameters: The parameters of the body without `run`.

    Raises:
        Exception: Any error of the body.
        ServiceError: Prefect could not start the run.
    """
    results: list[T] = []
    errors: list[Exception] = []

    @functools.wraps(body)
    def recorded(run: Run, /, **others: Any) -> T:
        try:
            results.append(body(run, **others))
        except Exception as error:
            errors.append(error)
            raise
        return results[0]

    prefect_flow = as_flow(recorded, flow_name(body), project)
    flow_parameters = {"workspace": str(project.workspace.root), **parameters}
    # Stopping the heartbeat takes a second per run; it is only needed for runs on other machines.
    with temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        try:
            with get_client(sync_client=True) as client:
                flow_run = client.read_flow_run(UUID(run_id))
            run_flow(prefect_flow, flow_run=flow_run, parameters=flow_parameters)
        except Exception as error:
            if errors:
                raise errors[0] from None
            if not results:
                message = f"Prefect could not start the run: {error}."
                raise ServiceError(message, hint="Run the command again.") from error
            log.warning("The run is complete, but this could not be reported to the Prefect server: %s", error)
        finally:
            _drain()
    return results[0]


def _drain() -> None:
    """Send the remaining log lines and events to the server, to avoid warnings when the process ends."""
    for service in (EventsWorker, APILogWorker):
        logging.getLogger(service.__name__).setLevel(logging.CRITICAL)
        service.drain_all(timeout=DRAIN_S)
