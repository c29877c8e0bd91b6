from datetime import date, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from storage.readers.spellings import parse_date, parse_dates


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("20030219", datetime(2003, 2, 19)),
        ("2003-02-19", datetime(2003, 2, 19)),
        (" 2003-02-19 10:30 ", datetime(2003, 2, 19, 10, 30)),
        ("2003-02-19T10:30:00Z", datetime(2003, 2, 19, 10, 30)),
        ("2003-02-19T10:30:00.5+02:00", datetime(2003, 2, 19, 8, 30, 0, 500_000)),
        ("1514764800", datetime(2018, 1, 1)),
        ("1514764800000", datetime(2018, 1, 1)),
        ("20031319", None),
        ("19/02/2003", None),
        ("2003", None),
        ("0001-01-01T00:00+05:00", None),
        ("", None),
    ],
)
def test_a_date_is_read_in_utc_or_left_out(written: str, moment: datetime | None) -> None:
    assert parse_date(written) == moment


def test_numbers_and_nulls_among_dates_are_read_too() -> None:
    assert parse_dates([20030219, 20030219.0, None, "\udcff"]).to_pylist() == [datetime(2003, 2, 19)] * 2 + [None] * 2


def test_date_columns_of_arrow_are_in_utc() -> None:
    day = pa.array([date(2003, 2, 19), None])
    zoned = pa.array([datetime(2003, 2, 19, 10, tzinfo=timezone(timedelta(hours=2)))], pa.timestamp("ns", "Asia/Tokyo"))
    assert parse_dates(day).to_pylist() == [datetime(2003, 2, 19), None]
    assert parse_dates(zoned).to_pylist() == [datetime(2003, 2, 19, 8)]
    assert parse_dates(pa.array([5], pa.time64("us"))).to_pylist() == [None]
