"""Runs: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_runs import test_a_run_is_taken_from_stage_to_stage_to_its_end
