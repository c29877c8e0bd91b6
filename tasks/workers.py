"""Dask workers, through Prefect's task runner: tasks sent to them, each to the worker that has its data already."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import ServiceError
from storage.workspace import ENVIRONMENT, Workspace
from tasks.scale_config import ScaleConfig

if TYPE_CHECKING:
    from prefect import Task
    from prefect_dask.task_runners import DaskTaskRunner

log = logging.getLogger(__name__)

DISTRIBUTION = "pytorch-active-learning"
WAIT_S = 60
"""Workers that start with the scheduler may come a little later."""


Call = tuple[int, dict[str, Any]]


class Workers:
    """The workers that were there at the beginning, by number.

    Args:
        runner: Prefect's task runner, started.
        addresses: Of the workers.
    """

    def __init__(self, runner: DaskTaskRunner, addresses: Sequence[str]) -> None:
        self._runner, self._addresses = runner, tuple(addresses)

    def __len__(self) -> int:
        return len(self._addresses)

    def run(self, task: Task[Any, Any], calls: Sequence[Call]) -> list[Any]:
        """The results of a task for each of (number, parameters), in their order.

        The call with number k goes to worker k modulo their number, and to another where that one is gone: what a
        killed worker had begun is begun again.

        Raises:
            ServiceError: A call killed several workers, or there are none left.
        """
        return list(self.in_order(task, calls))

    def in_order(
        self, task: Task[Any, Any], calls: Sequence[Call], resources: Mapping[str, float] | None = None
    ) -> Iterator[Any]:
        """As `run`, each result as soon as it is there and those before it are.

        Args:
            resources: What a worker must have been started with; with it any such worker may take any call.
        """
        from distributed import CancelledError, KilledWorker
        from prefect_dask.task_runners import PrefectDaskFuture

        where = [{} if resources else {"workers": [self._addresses[n % len(self)]]} for n, _ in calls]
        futures = []
        for (_, parameters), place in zip(calls, where, strict=True):
            sent = self._runner.client.submit(  # type: ignore[no-untyped-call]
                task,
                parameters=parameters,
                return_type="state",
                allow_other_workers=not resources,
                resources=resources,
                **place,
            )
            futures.append(PrefectDaskFuture[Any](wrapped_future=sent, task_run_id=sent.task_run_id))
        try:
            while futures:
                yield futures.pop(0).result()
        except (KilledWorker, CancelledError, OSError, RuntimeError, ImportError) as error:
            raise ServiceError(
                f"Dask's workers could not finish {task.name}: {error}.",
                hint="see in their logs whether each has this version of pal and memory enough, then run again",
            ) from error

    def everywhere(self, value: Any) -> Any:
        """A value sent to every worker once: give what is returned to a task as its parameter."""
        return self._runner.client.scatter(value, broadcast=True, hash=False)  # type: ignore[no-untyped-call]


@contextmanager
def open_workers(scale: ScaleConfig) -> Iterator[Workers | None]:
    """The workers that pal.toml names; None where everything is done in this process.

    Raises:
        ServiceError: No scheduler answers there, it has no workers or some of another version, Dask is not installed,
            or there is no Prefect server that the workers could reach.
    """
    if scale.runner == "threads":
        yield None
        return
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise ServiceError(
            '[scale] runner = "dask" needs Dask, which is not installed.',
            hint="pip install 'pytorch-active-learning[cluster]'",
        ) from error
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        raise ServiceError(
            '[scale] runner = "dask" needs a Prefect server that the workers reach, and this run has a temporary one.',
            hint="start one: pal up --host 0.0.0.0; elsewhere name it: PREFECT_API_URL=http://HOST:4200/api",
        )
    runner = DaskTaskRunner(address=scale.address)
    how = f"start it: dask scheduler; then on each machine: dask worker {scale.address} --nthreads 1"
    with runner:
        try:
            runner.client.wait_for_workers(1, timeout=WAIT_S)
        except (OSError, ValueError) as error:
            raise ServiceError(f"[scale] address = {scale.address!r}: {error}.", hint=how) from error
        own = own_version()
        there = runner.client.run(installed_version, DISTRIBUTION, on_error="return")
        if unlike := {address: found for address, found in there.items() if found != own}:
            address = min(unlike)
            version = unlike[address] if isinstance(unlike[address], str) else "no"
            raise ServiceError(
                f"the Dask worker {address} has {version} {DISTRIBUTION} / {own} here.",
                hint=f"install the same there, then start it again: pip install '{DISTRIBUTION}[cluster]=={own}'",
            )
        addresses = sorted(there)
        log.info("%d Dask workers at %s", len(addresses), scale.address)
        yield Workers(runner, addresses)


def on_this_machine(workspace: Workspace) -> Workspace:
    """The workspace where a worker has it: at $PAL_WORKSPACE where that is set."""
    root = os.environ.get(ENVIRONMENT)
    return replace(workspace, root=Path(root).resolve()) if root else workspace


def own_version() -> str:
    """The version of this program that is installed here."""
    return installed_version(DISTRIBUTION)
