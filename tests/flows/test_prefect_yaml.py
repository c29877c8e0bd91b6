"""prefect.yaml fits the code: every entrypoint is a flow that takes the parameters, and nightly has a schedule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli.annotating import EVENT, RESOURCE

PREFECT_YAML = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: dict[str, dict[str, Any]] = {each["name"]: each for each in PREFECT_YAML["deployments"]}


def test_every_flow_is_deployed() -> None:
    names = "import-items next-batch ingest adjudicate review publish-found predict adapt simulate nightly"
    assert set(DEPLOYMENTS) == set(names.split())


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_worker_loads_an_entrypoint_by_its_dotted_name_as_a_flow_that_takes_its_parameters(name: str) -> None:
    from prefect.flows import load_flow_from_entrypoint
    from prefect.utilities.callables import parameter_schema

    flow = load_flow_from_entrypoint(DEPLOYMENTS[name]["entrypoint"])
    assert flow.name == name
    flow.validate_parameters({**DEPLOYMENTS[name]["parameters"], "workspace": "/somewhere"})
    form = parameter_schema(flow).model_dump_for_openapi()
    assert not {"run", "workspace"} & set(form["properties"]), "the workspace of a deployment cannot be edited"
    assert '"null"' not in json.dumps(form), "the form would say: Property is type None"
    assert all(field["description"] for field in form["properties"].values()), "a caption for every field"
    assert len(flow.on_crashed_hooks) == 1
    assert flow.on_failure_hooks == [], "the run itself tells of other failures"


def test_nightly_runs_on_the_cron_and_in_the_zone_of_pal_toml_and_once_at_a_time() -> None:
    nightly = DEPLOYMENTS["nightly"]
    assert nightly["schedules"] == [
        {"slug": "nightly", "cron": "{{ $PAL_SCHEDULE_CRON }}", "timezone": "{{ $PAL_SCHEDULE_TIMEZONE }}"}
    ]
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_ingest_starts_from_the_event_that_submit_sends_one_after_another() -> None:
    (trigger,) = DEPLOYMENTS["ingest"]["triggers"]
    assert (trigger["expect"], trigger["match"]) == ([EVENT], {"prefect.resource.id": RESOURCE})
    assert DEPLOYMENTS["ingest"]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
