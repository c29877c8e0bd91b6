"""Models: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_models import test_one_model_is_in_production_and_the_one_before_is_retired
