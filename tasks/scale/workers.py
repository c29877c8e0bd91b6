"""Dask workers: send calls to them, each to the worker that already has its data."""

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
"""Maximum time to wait for workers, which may start later than the scheduler."""
RETRIES = 1
"""How often a call that raised an exception is repeated."""
CHECK_S = 2.0
"""Interval between checks whether workers have accepted the calls."""

Call = tuple[int, dict[str, Any]]
Result = TypeVar("Result")
State = TypeVar("State")


class Workers:
    """The workers that were available at the start, by number.

    Args:
        client: A client of their scheduler.
        addresses: The addresses of the workers.
    """

    def __init__(self, client: Client, addresses: Sequence[str]) -> None:
        self._client, self._addresses = client, tuple(addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def run(self, function: Callable[..., Result], calls: Sequence[Call]) -> list[Result]:
        """Call a function on the workers and return the results in order.

        Call k is sent to worker k modulo the number of workers, or to another one if that has ended; the calls of a
        killed worker are repeated.

        Args:
            function: A function that the workers can import.
            calls: Number and keyword arguments of each call.

        Raises:
            ServiceError: A call killed several workers, or no worker is left.
            Exception: Any error that the function raised twice on a worker.
        """
        return list(self.in_order(function, calls))

    def in_order(
        self, function: Callable[..., Result], calls: Sequence[Call], resources: Mapping[str, float] | None = None
    ) -> Iterator[Result]:
        """Like `run`, but yield each result as soon as it and all results before it are available.

        Args:
            function: A function that the workers can import.
            calls: Number and keyword arguments of each call.
            resources: The resources that a worker must have; any worker with them may then run any call.
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
        """Wait until the first of these calls has ended.

        If the worker of a call and all others end at the same time, Dask keeps the call forever, even after they are
        restarted (with new addresses). Such a call is sent again, to any worker.
        """
        accepted_at = time.monotonic()
        while not self._ends_soon(sent[0].future):
            processing: dict[str, Sequence[str]] = self._client.processing()  # type: ignore[no-untyped-call]
            accepted = {key for keys in processing.values() for key in keys}
            waiting = [call for call in sent if call.future.key not in accepted and not call.future.done()]  # type: ignore[no-untyped-call]
            for call in waiting:
                if call.address and call.address not in processing:
                    call.address, call.future = "", self._submit(function, call.arguments)
            if len(waiting) < len(sent):
                accepted_at = time.monotonic()
            elif time.monotonic() - accepted_at > WAIT_S:
                raise ServiceError(
                    f"No Dask worker has accepted {function.__name__} for {WAIT_S} s.",
                    hint="Start workers (with --resources if [scale] in pal.toml names a resource) and run the command "
                    "again.",
                )

    def _ends_soon(self, future: Future[Any]) -> bool:
        """Whether a call ends within CHECK_S."""
        from distributed import wait

        with suppress(TimeoutError), self._client.as_current():
            wait([future], timeout=CHECK_S)  # type: ignore[no-untyped-call]
        return bool(future.done())  # type: ignore[no-untyped-call]

    def everywhere(self, value: Any) -> Any:
        """Send a value to every worker once; pass the returned object to calls as an argument.

        Raises:
            ServiceError: The workers cannot be reached.
        """
        with _dask_errors("Data could not be sent to Dask's workers"):
            return self._client.scatter(value, broadcast=True, hash=False)  # type: ignore[no-untyped-call]


@dataclass
class _Sent:
    """A call that was sent.

    Attributes:
        address: The worker that it was sent to; empty for any worker.
    """

    future: Future[Any]
    arguments: dict[str, Any]
    address: str = ""


@contextmanager
def _dask_errors(failure: str) -> Iterator[None]:
    """Translate Dask's errors into a `ServiceError` with a hint."""
    from distributed import CancelledError, KilledWorker

    try:
        yield
    except (KilledWorker, CancelledError, OSError, RuntimeError, ImportError) as error:
        raise ServiceError(
            f"{failure}: {str(error).rstrip('.')}.",
            hint="Check in the logs of the workers that each has this version of pal and enough memory, then run the "
            "command again.",
        ) from error


@contextmanager
def open_workers(scale: ScaleConfig) -> Iterator[Workers | None]:
    """Connect to the workers that pal.toml names; yields None if everything runs in this process.

    Raises:
        ServiceError: The scheduler cannot be reached, has no workers or workers of another version, or Dask is not
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
                hint=f"Start dask scheduler, then on each machine: dask worker {scale.address} --nthreads 1",
            ) from error
        addresses = _same_version(client)
        log.info("Connected to Dask at %s (workers: %d).", scale.address, len(addresses))
        yield Workers(client, addresses)


def _same_version(client: Client) -> list[str]:
    """Return the addresses of all workers after checking that they have the version of this process."""
    own = own_version()
    versions = client.run(installed_version, DISTRIBUTION, on_error="return")
    for address, version in sorted(versions.items()):
        if version != own:
            installed = version if isinstance(version, str) else "no version"
            raise ServiceError(
                f"The Dask worker {address} has {installed} of {DISTRIBUTION}, this machine has {own}.",
                hint=f"Install the same version on it and restart it: pip install '{DISTRIBUTION}[cluster]=={own}'",
            )
    return sorted(versions)


def worker_state(kind: type[State]) -> State:
    """Return the object of a class that this worker keeps between calls.

    Args:
        kind: The class; the first call creates the object without arguments.

    Raises:
        ValueError: This does not run on a Dask worker.
    """
    from distributed import get_worker

    states: dict[type, Any] = vars(get_worker()).setdefault("pal_state", {})
    if kind not in states:
        states[kind] = kind()
    state: State = states[kind]
    return state


def on_this_machine(workspace: Workspace) -> Workspace:
    """Return the workspace at its path on a worker: $PAL_WORKSPACE if that is set."""
    root = os.environ.get(ENVIRONMENT)
    return replace(workspace, root=Path(root).resolve()) if root else workspace


def own_version() -> str:
    """Return the installed version of this program."""
    return installed_version(DISTRIBUTION)
