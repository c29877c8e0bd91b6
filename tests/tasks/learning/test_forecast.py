"""The forecast of average precision: its middle follows a power law, its interval has both kinds of doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records import Metric
from tasks.learning.stopping import SLOPE, forecast

SHARES = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted)


def odds(share: float | None) -> float:
    assert share is not None
    return share / (1 - share)


@given(SHARES, st.integers(1, 10_000), st.integers(0, 10_000))
def test_the_interval_is_within_0_and_1_and_has_the_present_one(shares: list[float], n: int, more: int) -> None:
    low, value, high = shares
    found = forecast(Metric("ap", value, low, high), n, more)
    assert 0 < found.low <= found.value <= found.high < 1  # type: ignore[operator]
    assert found.high >= min(high, 0.995) - 1e-9  # type: ignore[operator]


def test_odds_grow_by_the_power_law_and_doubt_with_the_way() -> None:
    now = Metric("ap", 0.6, 0.5, 0.7)
    near, far = forecast(now, 100, 50), forecast(now, 100, 300)
    assert odds(far.value) / odds(now.value) == pytest.approx(4**SLOPE)
    assert odds(far.high) / odds(far.low) > odds(near.high) / odds(near.low) > odds(now.high) / odds(now.low)


def test_what_is_undefined_now_is_not_forecast() -> None:
    assert forecast(Metric("ap", None, reason="no positives"), 100, 100) is None
