"""How values are spelled: which spellings are one label (in batch files, simulations and pal.toml), and ids as text."""

from __future__ import annotations

import math
import re
import unicodedata

_WHOLE = re.compile(r"([+-]?\d+)[.,]0+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_LIST = re.compile(r"""\[\s*(?:(['"])(?P<quoted>.*)\1|(?P<plain>[^\[\],'"]*))\s*\]""", re.DOTALL)


def folded_label(label: str) -> str:
    """The spelling by which labels are compared: case, white space, width and the `.0` of a spreadsheet do not count.

    >>> folded_label(" Not  Related "), folded_label("1.0"), folded_label("\uff11"), folded_label("YES\u200b")
    ('not related', '1', '1', 'yes')
    """
    composed = unicodedata.normalize("NFKC", _INVISIBLE.sub("", label)).casefold()
    plain = " ".join(unicodedata.normalize("NFKC", composed).split())
    whole = _WHOLE.fullmatch(plain)
    return whole[1] if whole else plain


def label_text(value: object) -> str | None:
    """A label in JSON or Parquet as text; the one in a list of one; empty for none; None for what is no single label.

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
    """A label that a program wrote as the list of itself, without the brackets.

    >>> without_list("['yes']"), without_list("[]"), without_list("[a] b")
    ('yes', '', '[a] b')
    """
    found = _LIST.fullmatch(label)
    return label if found is None else (found["quoted"] or found["plain"] or "").strip()


def id_text(value: object) -> str | None:
    """An id as a string; a number that a spreadsheet turned into a float loses its `.0`; None for no id.

    >>> id_text(12.0), id_text(12), id_text(" a7 "), id_text(True)
    ('12', '12', 'a7', None)
    """
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value) if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return str(value).strip()
