"""The schema: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_schema import (
    test_a_lake_of_an_older_program_gets_the_steps_it_lacks,
    test_every_column_is_a_scalar,
    test_labels_of_an_old_version_are_those_it_had,
)
