"""What holds of a lake on one machine holds of one on PostgreSQL and S3."""

from __future__ import annotations

from test_annotations import (
    batch_id,
    test_a_batch_is_complete_when_its_last_item_has_any_answer,
    test_an_answer_is_kept_with_all_it_says,
    test_labels_taken_twice_are_taken_once_and_more_of_them_make_another_batch,
    test_the_labelled_texts_of_a_split_are_those_of_the_version_asked_for,
    test_two_processes_that_read_one_file_at_the_same_time_append_it_once,
)
from test_backup import (
    lived,
    test_a_backup_while_others_write_is_of_one_version,
    test_after_a_loss_the_lake_is_there_again,
)
from test_batches import (
    pool,
    test_a_batch_is_kept_with_all_that_was_drafted,
    test_an_item_is_in_its_batch_once_and_every_strategy_that_proposed_it_is_kept,
    test_closing_gives_the_unanswered_items_back_once,
    test_no_item_goes_to_two_of_three_racing_processes,
)
from test_importing import (
    directory,
    test_each_labelled_text_is_in_one_split_evaluation_first_then_validation_and_not_in_the_pool,
    test_importing_again_changes_nothing_and_rejects_the_same_rows,
)
from test_items import test_features_are_added_once_per_item_and_encoder, test_taking_the_same_rows_again_takes_none
from test_maintenance import (
    test_old_versions_answer_the_same_and_little_is_left_in_the_catalog,
    test_who_was_there_all_the_while_goes_on_reading_and_writing,
)
from test_models import test_one_model_is_in_production_and_the_one_before_is_retired
from test_runs import (
    other,
    test_a_machine_sees_what_another_one_records,
    test_a_run_is_recorded_from_its_begin_over_its_stages_to_its_end,
    test_crashed_runs_are_marked_once_and_those_going_on_are_left_alone,
    test_processes_that_begin_at_once_in_a_new_workspace_lose_nothing,
    test_text_that_a_database_cannot_store_is_recorded_without_it,
)
from test_schema import (
    test_a_lake_of_an_older_program_gets_the_steps_it_lacks,
    test_every_column_is_a_scalar,
)
