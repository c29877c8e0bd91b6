"""Annotations: what holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_annotations import (
    batch_id,
    test_a_batch_is_complete_when_its_last_item_has_any_answer,
    test_a_file_that_grows_appends_only_what_is_new,
    test_an_answer_is_kept_with_all_it_says,
    test_labels_taken_twice_are_taken_once_and_more_of_them_make_another_batch,
    test_the_labelled_texts_of_a_split_are_those_of_the_version_asked_for,
    test_two_processes_that_read_one_file_at_the_same_time_append_it_once,
)
