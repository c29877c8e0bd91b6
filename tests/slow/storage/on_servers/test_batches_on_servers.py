"""Batches: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_batches import (
    pool,
    test_a_batch_is_kept_with_all_that_was_drafted,
    test_an_item_is_in_its_batch_once_and_every_strategy_that_proposed_it_is_kept,
    test_closing_gives_the_unanswered_items_back_once,
    test_no_item_goes_to_two_of_three_racing_processes,
)
