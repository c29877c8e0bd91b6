"""Nights that were missed while no worker was up: one run does their work."""

from __future__ import annotations

import logging
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled
from prefect.types import DateTime

log = logging.getLogger(__name__)


def cancel_missed() -> int:
    """Cancel the other runs of this run's deployment whose time has come already; returns how many.

    A run that is of no deployment has no others.
    """
    if deployment.id is None:
        return 0
    waiting = FlowRunFilterStateType(any_=[StateType.SCHEDULED])
    due = FlowRunFilterNextScheduledStartTime(before_=DateTime.now("UTC"))
    with get_client(sync_client=True) as client:
        late = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[UUID(deployment.id)])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=waiting), next_scheduled_start_time=due),
        )
        missed = [run for run in late if str(run.id) != flow_run.id]
        for run in missed:
            state: State[None] = Cancelled(
                message=f"missed while no worker was up; the run {flow_run.name} does its work"
            )
            client.set_flow_run_state(run.id, state, force=True)
    if missed:
        log.warning("%d nights were missed while no worker was up; this run does their work", len(missed))
    return len(missed)
