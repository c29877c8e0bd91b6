"""Columns become fields by their names, converted to what each field is declared as."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pytest

from storage.lake.store import Store
from storage.records import Batch, BatchStatus, Decision, Metric, Purpose, Share, to_records

AT = datetime(2026, 3, 1, 12)


@dataclass(frozen=True)
class Pair:
    batch: Batch
    n_answered: int


def test_columns_are_fields_by_name_whatever_their_order(store: Store) -> None:
    sql = "SELECT 0.25 AS low, 'f1' AS name, 0.5::DOUBLE AS value, 7 AS not_a_field, NULL AS reason"
    assert store.records(Metric, sql) == [Metric("f1", 0.5, 0.25)]


def test_values_become_what_fields_are_declared_as_and_null_the_default() -> None:
    columns = ("batch_id", "purpose", "status", "n", "created_at", "model_id", "seed", "lake_version", "label_set")
    row = ("b1", "review", "closed", 2, "2026-03-01 12:00:00", None, 0, 9, "d")
    more = ("mix", "shares", "stop_signs", "overlap", "formats", "n_answered")
    share = '[{"strategy": "entropy", "n": 2, "ran": "random", "missing": "a model", "options": {}}]'
    (pair,) = to_records(Pair, (*columns, *more), [(*row, '{"entropy": 2}', share, None, None, '["csv"]', 1)])
    wanted = Share("entropy", 2, "random", "a model")
    batch = Batch("b1", Purpose.REVIEW, BatchStatus.CLOSED, 2, AT, None, 0, 9, "d", {"entropy": 2}, (wanted,))
    assert pair == Pair(Batch(**{**vars(batch), "formats": ("csv",)}), 1)
    assert isinstance(pair.batch.purpose, Purpose)
    assert pair.batch.overlap == 1, "the default in place of NULL"


def test_numbers_become_booleans_and_a_missing_column_is_an_error() -> None:
    columns = ("model_id", "previous_id", "promoted", "decided_by", "reason", "decided_at")
    (decision,) = to_records(Decision, columns, [("m", None, 0, "gate", "", AT)])
    assert decision.promoted is False
    with pytest.raises(TypeError):
        to_records(Decision, columns[1:], [(None, 0, "gate", "", AT)])
