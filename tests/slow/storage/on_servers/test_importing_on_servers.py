"""Imports: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_importing import (
    directory,
    test_each_labelled_text_is_in_one_split_evaluation_first_then_validation_and_not_in_the_pool,
    test_importing_again_changes_nothing_and_rejects_the_same_rows,
)
