"""prefect.yaml fits the code: every entrypoint is a flow that takes the parameters, and nightly has a schedule."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

PREFECT_YAML = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: dict[str, dict[str, Any]] = {each["name"]: each for each in PREFECT_YAML["deployments"]}


def test_every_flow_is_deployed() -> None:
    assert set(DEPLOYMENTS) == {"import-items", "next-batch", "ingest", "adjudicate", "review", "nightly"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_an_entrypoint_is_a_flow_of_that_name_that_takes_its_parameters(name: str) -> None:
    module, _, function = DEPLOYMENTS[name]["entrypoint"].rpartition(".")
    flow = getattr(import_module(module), function)
    assert flow.name == name
    flow.validate_parameters({**DEPLOYMENTS[name]["parameters"], "workspace": "/somewhere"})
    captions = flow.__doc__ or ""
    assert all(f"{parameter}:" in captions for parameter in flow.parameters.properties), "a caption for every field"


def test_nightly_runs_on_a_cron_with_a_zone_and_missed_nights_do_not_pile_up() -> None:
    nightly = DEPLOYMENTS["nightly"]
    (schedule,) = nightly["schedules"]
    assert schedule["slug"]
    assert schedule["cron"]
    assert schedule["timezone"]
    assert nightly["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
