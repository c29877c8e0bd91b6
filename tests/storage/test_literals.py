"""Every value that is written into SQL comes back from DuckDB as it went in, and nothing else of the query changes."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.lake.connection import bound, literal

CONNECTION = duckdb.connect()
ODD = ["'", "''", "?", "$a", "--", "\0", "a\0'b", '"']
TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(ODD)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.datetimes()
    | st.lists(TEXT, max_size=4)
)


@given(VALUES, VALUES)
def test_values_come_back_as_they_went_in(first: Any, second: Any) -> None:
    row = CONNECTION.execute(bound("SELECT ?, '?', ?", [first, second]))
    assert row.fetchone() == (first, "?", second)
    row = CONNECTION.execute(bound("SELECT $b, $a, $b -- $c\n", {"a": first, "b": second}))
    assert row.fetchone() == (second, first, second)


def test_what_is_not_a_number_and_times_with_a_zone_come_back_too() -> None:
    (value,) = CONNECTION.execute(bound("SELECT ?", [math.nan])).fetchone() or ()
    assert math.isnan(value)
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert CONNECTION.execute(bound("SELECT epoch_us(?)", [at])).fetchone() == (round(at.timestamp() * 1e6),)


@pytest.mark.parametrize("value", [b"bytes", date(2026, 1, 1), {"a": 1}, [1], ["a", None]])
def test_a_value_without_a_literal_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"bytes|date|dict|list|NoneType"):
        literal(value)


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?", [1, 2]),
        ("SELECT ?, ?", [1]),
        ("SELECT $a", {"b": 1}),
        ("SELECT $a", {"a": 1, "b": 2}),
        ("SELECT ?", {"a": 1}),
    ],
)
def test_parameters_and_placeholders_must_match(sql: str, parameters: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(sql)):
        bound(sql, parameters)
