"""Maintenance: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_maintenance import (
    test_old_versions_answer_the_same_and_little_is_left_in_the_catalog,
    test_who_was_there_all_the_while_goes_on_reading_and_writing,
)
