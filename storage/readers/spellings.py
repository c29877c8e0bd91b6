"""Normalize spellings: which texts, labels and annotators are the same, ids as strings, dates as UTC timestamps.

Everything that compares what people wrote uses `folded`. Dates are ISO 8601, `20030219`, or seconds or milliseconds
since 1970.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_WHOLE = re.compile(r"([+-]?\d+)[.,]0+")
INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
"""Invisible characters, for use in a character class of a regular expression."""

_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_LIST = re.compile(r"""\[\s*(?:(['"])(?P<quoted>.*)\1|(?P<plain>[^\[\],'"]*))\s*\]""", re.DOTALL)


HASH_CHARS = 32
"""Length of a text hash in hexadecimal characters (128 bits)."""


def folded(value: str) -> str:
    """Return the normalized spelling by which texts, labels and annotators are compared.

    Unicode form (NFKC: width, ligatures, superscripts), case, white space and invisible characters are ignored.

    >>> folded("  Floods\\u00a0hit   STRASSE ") == folded("floods \\u200bhit stra\\u00dfe")
    True
    """
    if value.isascii():
        return " ".join(value.lower().split())
    composed = unicodedata.normalize("NFKC", _INVISIBLE.sub("", value)).casefold()
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFKC", composed)).split())


def text_hash(text: str) -> str:
    """Return the hash of the folded text; texts of the same item have the same hash."""
    return hash_of_folded(folded(text))


def hash_of_folded(text: str) -> str:
    """Return the hash of a text that is already folded."""
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]


def old_text_hash(text: str) -> str:
    """Return the `text_hash` of before schema 7, which older batch files contain: NFC, with invisible characters."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return hashlib.sha256(" ".join(composed.split()).encode()).hexdigest()[:HASH_CHARS]


def folded_label(label: str) -> str:
    """Return the normalized spelling by which labels are compared: `folded`, without the `.0` of a spreadsheet.

    >>> folded_label(" Not  Related "), folded_label("1.0"), folded_label("\uff11"), folded_label("YES\u200b")
    ('not related', '1', '1', 'yes')
    """
    plain = folded(label)
    whole = _WHOLE.fullmatch(plain)
    return whole[1] if whole else plain


def label_text(value: object) -> str | None:
    """Convert a label from JSON or Parquet to a string; a list may have one label. Empty means none, None not a label.

    >>> [label_text(value) for value in ("yes", 1.0, True, [], ["no"], None)]
    ['yes', '1', 'true', '', 'no', '']
    >>> label_text(["yes", "no"])
    """
    if isinstance(value, list):
        return "" if not value else label_text(value[0]) if len(value) == 1 else None
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def without_list(label: str) -> str:
    """Remove the brackets of a label that a program wrote as a list of one element.

    >>> without_list("['yes']"), without_list("[]"), without_list("[a] b")
    ('yes', '', '[a] b')
    """
    match = _LIST.fullmatch(label)
    return label if match is None else (match["quoted"] or match["plain"] or "").strip()


def id_text(value: object) -> str | None:
    """Convert an id to a string; a float from a spreadsheet loses its `.0`; None if the value is not an id.

    >>> id_text(12.0), id_text(12), id_text(" a7 "), id_text(True)
    ('12', '12', 'a7', None)
    """
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value) if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value).strip()


def spelled_first(names: Iterable[str]) -> dict[str, str]:
    """Map each annotator's `folded` name to the first spelling of it.

    >>> spelled_first(["Anna", "anna ", "Ben  Lee"])
    {'anna': 'Anna', 'ben lee': 'Ben Lee'}
    """
    spellings: dict[str, str] = {}
    for name in names:
        spellings.setdefault(folded(name), " ".join(name.split()))
    return spellings


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
