"""Items and their features: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_items import test_features_are_added_once_per_item_and_encoder, test_taking_the_same_rows_again_takes_none
