"""Dask workers: calls sent to them, each to the worker that has its data already."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from storage.errors import ServiceError
from storage.workspace import ENVIRONMENT, Workspace
from tasks.config.settings import ScaleConfig

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

DISTRIBUTION = "pytorch-active-learning"
WAIT_S = 60
"""Workers that start with the scheduler may come a little later."""
RETRIES = 1
"""How often a call that raised an exception is made again."""
CHECK_S = 2.0
"""Between two looks at whether a worker has the calls that are waited for."""

Call = tuple[int, dict[str, Any]]
Result = TypeVar("Result")
State = TypeVar("State")


class Workers:
    """The workers that were there at the beginning, by number.

    Args:
        client: Connected to their scheduler.
        addresses: Of the workers.
    """

    def __init__(self, client: Client, addresses: Sequence[str]) -> None:
        self._client, self._addresses = client, tuple(addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def run(self, function: Callable[..., Result], calls: Sequence[Call]) -> list[Result]:
        """The results of a function for each of (number, its keyword arguments), in their order.

        The call with number k goes to worker k modulo their number, and to another one where that is gone: what a
        killed worker had begun is begun again.

        Args:
            function: Importable on the workers.

        Raises:
            ServiceError: A call killed several workers, or there are none left.
            Exception: What the function raised twice, as it was raised on the worker.
        """
        return list(self.in_order(function, calls))

    def in_order(
        self, function: Callable[..., Result], calls: Sequence[Call], resources: Mapping[str, float] | None = None
    ) -> Iterator[Result]:
        """As `run`, each result as soon as it is there and those before it are.

        Args:
            resources: What a worker must have been started with; with it any such worker may take any call.
        """
        with _dask_errors(f"Dask's workers could not finish {function.__name__}"):
            sent = deque(self._send(function, number, arguments, resources) for number, arguments in calls)
            while sent:
                self._wait(function, sent)
                yield sent.popleft().future.result()

    def _send(
        self,
        function: Callable[..., Any],
        number: int,
        arguments: dict[str, Any],
        resources: Mapping[str, float] | None,
    ) -> _Sent:
        if resources:
            return _Sent(self._submit(function, arguments, resources=resources), arguments)
        address = self._addresses[number % len(self)]
        future = self._submit(function, arguments, workers=[address], allow_other_workers=True)
        return _Sent(future, arguments, address)

    def _submit(self, function: Callable[..., Any], arguments: dict[str, Any], **where: Any) -> Future[Any]:
        return self._client.submit(function, pure=False, retries=RETRIES, **where, **arguments)

    def _wait(self, function: Callable[..., Any], sent: Sequence[_Sent]) -> None:
        """Until the first of these calls has ended.

        When the worker that a call is meant for and all others are gone at the same time, Dask keeps the call for ever,
        even if they are started again (their addresses are new). Such a call is sent again, to whichever worker.
        """
        taken_at = time.monotonic()
        while not self._ends_soon(sent[0].future):
            processing: dict[str, Sequence[str]] = self._client.processing()  # type: ignore[no-untyped-call]
            taken = {key for keys in processing.values() for key in keys}
            waiting = [call for call in sent if call.future.key not in taken and not call.future.done()]  # type: ignore[no-untyped-call]
            for call in waiting:
                if call.address and call.address not in processing:
                    call.address, call.future = "", self._submit(function, call.arguments)
            if len(waiting) < len(sent):
                taken_at = time.monotonic()
            elif time.monotonic() - taken_at > WAIT_S:
                raise ServiceError(
                    f"No Dask worker has taken {function.__name__} for {WAIT_S} s.",
                    hint="Start workers, with --resources where [scale] in pal.toml names a resource, then run again.",
                )

    def _ends_soon(self, future: Future[Any]) -> bool:
        """Whether a call ends within CHECK_S."""
        from distributed import wait

        with suppress(TimeoutError), self._client.as_current():
            wait([future], timeout=CHECK_S)  # type: ignore[no-untyped-call]
        return bool(future.done())  # type: ignore[no-untyped-call]

    def everywhere(self, value: Any) -> Any:
        """A value sent to every worker once: give what is returned to a call as one of its arguments.

        Raises:
            ServiceError: The workers cannot be reached.
        """
        with _dask_errors("Data could not be sent to Dask's workers"):
            return self._client.scatter(value, broadcast=True, hash=False)  # type: ignore[no-untyped-call]


@dataclass
class _Sent:
    """A call that was sent.

    Attributes:
        address: The worker it is meant for; empty where any may take it.
    """

    future: Future[Any]
    arguments: dict[str, Any]
    address: str = ""


@contextmanager
def _dask_errors(failure: str) -> Iterator[None]:
    """Errors of Dask's own in our words."""
    from distributed import CancelledError, KilledWorker

    try:
        yield
    except (KilledWorker, CancelledError, OSError, RuntimeError, ImportError) as error:
        raise ServiceError(
            f"{failure}: {str(error).rstrip('.')}.",
            hint="Check in the workers' logs that each has this version of pal and enough memory, then run again.",
        ) from error


@contextmanager
def open_workers(scale: ScaleConfig) -> Iterator[Workers | None]:
    """The workers that pal.toml names; None where everything is done in this process.

    Raises:
        ServiceError: No scheduler answers there, it has no workers or some of another version, or Dask is not
            installed.
    """
    if scale.runner == "threads":
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ServiceError(
            '[scale] runner = "dask" needs Dask, which is not installed.',
            hint="Install it: pip install 'pytorch-active-learning[cluster]'",
        ) from error
    with ExitStack() as stack:
        try:
            client = stack.enter_context(Client(scale.address, set_as_default=False))  # type: ignore[no-untyped-call]
            client.wait_for_workers(1, timeout=WAIT_S)
        except (OSError, ValueError) as error:
            raise ServiceError(
                f"[scale] address = {scale.address!r}: {str(error).rstrip('.')}.",
                hint=f"Start it: dask scheduler; then on each machine: dask worker {scale.address} --nthreads 1",
            ) from error
        addresses = _same_version(client)
        log.info("%d Dask workers at %s", len(addresses), scale.address)
        yield Workers(client, addresses)


def _same_version(client: Client) -> list[str]:
    """The addresses of all workers, each with the version of this process."""
    own = own_version()
    versions = client.run(installed_version, DISTRIBUTION, on_error="return")
    for address, version in sorted(versions.items()):
        if version != own:
            there = version if isinstance(version, str) else "no version"
            raise ServiceError(
                f"The Dask worker {address} has {there} of {DISTRIBUTION}, this machine has {own}.",
                hint=f"Install the same there and restart it: pip install '{DISTRIBUTION}[cluster]=={own}'",
            )
    return sorted(versions)


def worker_state(kind: type[State]) -> State:
    """In a call on a worker: the one object of a class that this worker keeps from call to call.

    Args:
        kind: Takes no arguments; the first call that asks for one makes it.

    Raises:
        ValueError: This is no call on a Dask worker.
    """
    from distributed import get_worker

    states: dict[type, Any] = vars(get_worker()).setdefault("pal_state", {})
    if kind not in states:
        states[kind] = kind()
    state: State = states[kind]
    return state


def on_this_machine(workspace: Workspace) -> Workspace:
    """The workspace where a worker has it: at $PAL_WORKSPACE where that is set."""
    root = os.environ.get(ENVIRONMENT)
    return replace(workspace, root=Path(root).resolve()) if root else workspace


def own_version() -> str:
    """The version of this program that is installed here."""
    return installed_version(DISTRIBUTION)
