"""Nights that were missed while no worker was up: one run does their work."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from flows.server.prefect_api import COMMAND_TAG, ask

log = logging.getLogger(__name__)


def cancel_missed(api: str, deployment_id: str, run_id: str) -> int:
    """Cancel the other runs of a deployment whose time has come already; returns how many.

    Runs that a command has made are left: it waits for its turn.

    Args:
        run_id: The run that does their work.
    """
    filters = {
        "deployments": {"id": {"any_": [deployment_id]}},
        "flow_runs": {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "next_scheduled_start_time": {"before_": datetime.now(UTC).isoformat()},
        },
    }
    late = ask(api, "/flow_runs/filter", filters)
    missed = [run for run in late if run["id"] != run_id and COMMAND_TAG not in run["tags"]]
    state = {
        "type": "CANCELLED",
        "name": "Cancelled",
        "message": f"Missed while no worker was up; run {run_id} does its work.",
    }
    for run in missed:
        ask(api, f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
    if missed:
        nights = "1 scheduled run was" if len(missed) == 1 else f"{len(missed):,} scheduled runs were"
        log.warning("%s missed while no worker was up; this run does the work.", nights)
    return len(missed)
