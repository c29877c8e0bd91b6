"""Of the runs of a deployment whose time has come, the one that runs cancels the others, and leaves those to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL
from prefect.states import Scheduled

from flows.server.prefect_api import COMMAND_TAG
from flows.server.service import cancel_missed

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow(name="night")
def night() -> None:
    """Nothing."""


def scheduled(client: SyncPrefectClient, deployment_id: UUID, days: int, *tags: str) -> FlowRun:
    at = datetime.now(UTC) + timedelta(days=days)
    state = Scheduled(scheduled_time=at)  # type: ignore[arg-type]
    return client.create_flow_run_from_deployment(deployment_id, state=state, tags=tags)


def test_late_runs_are_canceled_but_not_those_to_come_of_commands_or_of_other_deployments() -> None:
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(night)
        deployments = [client.create_deployment(flow_id, name) for name in ("nightly", "other")]
        runs = [scheduled(client, deployments[0], days) for days in (-3, -2, -1, 1)]
        command = scheduled(client, deployments[0], -1, COMMAND_TAG)
        other = scheduled(client, deployments[1], -1)
        assert cancel_missed(str(PREFECT_API_URL.value()), str(deployments[0]), str(runs[0].id)) == 2
        states = [client.read_flow_run(run.id).state for run in (*runs, command, other)]
    assert [state.type.value for state in states if state] == [
        "SCHEDULED",
        "CANCELLED",
        "CANCELLED",
        "SCHEDULED",
        "SCHEDULED",
        "SCHEDULED",
    ]
    assert str(runs[0].id) in str(states[1].message)  # type: ignore[union-attr]
