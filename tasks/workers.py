"""Dask workers: calls sent to them, each to the worker that has its data already."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from storage.errors import ServiceError
from storage.workspace import ENVIRONMENT, Workspace
from tasks.scale_config import ScaleConfig

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

DISTRIBUTION = "pytorch-active-learning"
WAIT_S = 60
"""Workers that start with the scheduler may come a little later."""
RETRIES = 1
"""How often a call that raised an exception is made again."""

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
            futures = [
                self._client.submit(
                    function, pure=False, retries=RETRIES, **self._place(number, resources), **arguments
                )
                for number, arguments in calls
            ]
            while futures:
                yield futures.pop(0).result()

    def _place(self, number: int, resources: Mapping[str, float] | None) -> dict[str, Any]:
        if resources:
            return {"resources": resources}
        return {"workers": [self._addresses[number % len(self)]], "allow_other_workers": True}

    def everywhere(self, value: Any) -> Any:
        """A value sent to every worker once: give what is returned to a call as one of its arguments.

        Raises:
            ServiceError: The workers cannot be reached.
        """
        with _dask_errors("Data could not be sent to Dask's workers"):
            return self._client.scatter(value, broadcast=True, hash=False)  # type: ignore[no-untyped-call]


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
