"""What runs are called in the Prefect UI: the flow, the iteration and the batch."""

from __future__ import annotations

from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

from flows.config import open_project
from storage.batches import count_iterations, open_batches
from storage.errors import PalError
from storage.store import Store


def name_at_start() -> str:
    """`nightly, iteration 6: b0008-training` of the run that begins, the batch being the one that is open."""
    flow = str(flow_run.flow_name)
    try:
        store = open_project(Path(flow_run.parameters["workspace"])).workspace.store()
    except (PalError, OSError):
        return flow  # it fails with just this error
    opened = open_batches(store, again=False)
    return _name(flow, store, opened[0].batch.batch_id if opened else None)


def name_after(store: Store, batch_id: str | None) -> None:
    """Give the run its name again, now that its batch is known."""
    if (run_id := flow_run.id) is not None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run_id, name=_name(str(flow_run.flow_name), store, batch_id))


def _name(flow: str, store: Store, batch_id: str | None) -> str:
    iteration = count_iterations(store) + (batch_id is None)
    return f"{flow}, iteration {iteration}" + (f": {batch_id}" if batch_id else "")
