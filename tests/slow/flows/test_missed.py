"""Of the runs of a deployment whose time has come, the one that runs cancels the others, and leaves those to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from flows.server.missed import cancel_missed

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow(name="night")
def night() -> int:
    return cancel_missed()


def scheduled(client: SyncPrefectClient, deployment_id: UUID, days: int) -> FlowRun:
    at = datetime.now(UTC) + timedelta(days=days)
    return client.create_flow_run_from_deployment(deployment_id, state=Scheduled(scheduled_time=at))  # type: ignore[arg-type]


def test_late_runs_are_cancelled_but_not_those_to_come_nor_those_of_other_deployments() -> None:
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(night)
        deployments = [client.create_deployment(flow_id, name) for name in ("nightly", "other")]
        runs = [scheduled(client, deployments[0], days) for days in (-3, -2, -1, 1)]
        other = scheduled(client, deployments[1], -1)
        assert run_flow(night, flow_run=runs[0]) == 2
        states = [client.read_flow_run(run.id).state for run in (*runs, other)]
    assert [state.type.value for state in states if state] == [
        "COMPLETED",
        "CANCELLED",
        "CANCELLED",
        "SCHEDULED",
        "SCHEDULED",
    ]
    assert "missed while no worker was up" in str(states[1].message)  # type: ignore[union-attr]


def test_a_run_of_no_deployment_cancels_none() -> None:
    assert night() == 0
