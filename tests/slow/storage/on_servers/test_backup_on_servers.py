"""Backups: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_backup import (
    lived,
    test_a_backup_while_others_write_is_of_one_version,
    test_after_a_loss_the_lake_is_there_again,
)
