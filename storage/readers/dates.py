"""Parse dates into UTC timestamps: ISO 8601, `20030219`, or seconds or milliseconds since 1970."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def parse_dates(values: Iterable[object] | pa.Array) -> pa.Array:
    """Return timestamps in UTC (without a zone, n of n values); null where a date is missing or cannot be parsed.

    >>> parse_dates(["20030219", "", "2003-02-19T10:00:00+02:00"]).to_pylist()
    [datetime.datetime(2003, 2, 19, 0, 0), None, datetime.datetime(2003, 2, 19, 8, 0)]
    """
    import pyarrow as pa

    if isinstance(values, pa.Array) and pa.types.is_temporal(values.type):
        return _from_temporal(values)
    if isinstance(values, pa.Array):
        values = values.to_pylist()
    # Large files have few distinct dates, so each spelling is parsed once.
    spellings = pa.array([_plain(value) for value in values], pa.string()).dictionary_encode()
    parsed = pa.array([parse_date(spelling) for spelling in spellings.dictionary.to_pylist()], pa.timestamp("us"))
    return parsed.take(spellings.indices)


def parse_date(value: str) -> datetime | None:
    """Return a date in UTC without a zone, or None where it cannot be parsed, as `19/02/2003`, which is ambiguous.

    >>> parse_date("1045616400"), parse_date("19/02/2003")
    (datetime.datetime(2003, 2, 19, 1, 0), None)
    """
    value = value.strip()
    try:
        if value.isdecimal() and len(value) in (9, 10, 13):
            moment = datetime.fromtimestamp(int(value) / (1000 if len(value) == 13 else 1), UTC)
        elif value.isdecimal() and len(value) != 8:
            return None
        else:
            moment = datetime.fromisoformat(value)
        return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return None


def _from_temporal(values: pa.Array) -> pa.Array:
    """Convert a date or timestamp column to microseconds in UTC; times of day and durations become null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_timestamp(values.type) or pa.types.is_date(values.type)):
        return pa.nulls(len(values), pa.timestamp("us"))
    zone = values.type.tz if pa.types.is_timestamp(values.type) else None
    return pc.cast(values, pa.timestamp("us", zone), safe=False).cast(pa.timestamp("us"))


def _plain(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else str(value)
