"""The record of runs: what holds of one in a file holds of one on PostgreSQL."""

from __future__ import annotations

from test_runs import (
    other,
    test_a_machine_sees_what_another_one_records,
    test_a_run_is_recorded_from_its_begin_over_its_stages_to_its_end,
    test_crashed_runs_are_marked_once_and_those_going_on_are_left_alone,
    test_processes_that_begin_at_once_in_a_new_workspace_lose_nothing,
    test_text_that_a_database_cannot_store_is_recorded_without_it,
)
