"""The night is a cron expression in a zone; what is none is told with the way out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.schedule_config import ScheduleConfig, ServerConfig


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/30 0-4 * * mon-fri", "15 3 1 * *"])
def test_a_cron_expression_in_a_zone_is_no_fault(cron: str) -> None:
    assert ScheduleConfig(cron, "Asia/Kolkata").faults() == []


@pytest.mark.parametrize("cron", ["", "2 o'clock", "0 25 * * *", "61 2 * * *", "0 2 * *"])
def test_what_is_no_cron_expression_is_told_with_an_example(cron: str) -> None:
    (fault,) = ScheduleConfig(cron).faults()
    assert repr(cron) in fault
    assert "'0 2 * * *'" in fault


def test_a_zone_that_is_none_is_told_with_the_nearest() -> None:
    for wrong in ("Europe/Berln", "#"):
        (fault,) = ScheduleConfig(timezone=wrong).faults()
        assert repr(wrong) in fault
        assert "'Europe/Berlin'" in fault


def test_the_next_night_is_in_the_zone_also_where_the_clock_changes() -> None:
    schedule = ScheduleConfig("0 4 * * *", "Europe/Berlin")
    before = schedule.next_night(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert before.isoformat() == "2026-03-29T04:00:00+02:00"


def test_a_port_that_is_none_is_told() -> None:
    assert ServerConfig().faults() == []
    assert ServerConfig(port=0).faults() == ["port = 0; 1 to 65535"]
