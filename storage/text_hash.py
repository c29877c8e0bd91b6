"""When two texts are the same: Unicode NFC, case and space folded; and the hash that says so."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

HASH_CHARS = 32
"""Hex characters of a text hash (128 bits)."""


def folded(text: str) -> str:
    """`text` with Unicode NFC, case and white space folded.

    >>> folded("  Floods\\u00a0hit   STRASSE ") == folded("floods hit stra\\u00dfe")
    True
    """
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def text_hash(text: str) -> str:
    """Hash of the folded text: equal for texts that are one item."""
    return hashlib.sha256(folded(text).encode()).hexdigest()[:HASH_CHARS]


def folded_texts(texts: pa.Array) -> pa.Array:
    """`folded` of a string array (n,); plain ASCII, most of what there is, without making Python strings."""
    import pyarrow as pa  # `folded` and `text_hash` need none of it
    import pyarrow.compute as pc

    result = pc.ascii_lower(texts)
    # Python's white space in ASCII has four separators (0x1c to 0x1f) that RE2's \s does not.
    odd = pc.match_substring_regex(result, r"[\t-\r\x1c-\x1f]|  |^ | $")
    if pc.any(odd).as_py():
        spaced = pc.replace_substring_regex(result.filter(odd), r"[\t-\r\x1c-\x1f ]+", " ")
        result = pc.replace_with_mask(result, odd, pc.ascii_trim(spaced, characters=" "))
    plain = pc.string_is_ascii(texts)
    if pc.all(plain).as_py() is not False:
        return result
    others = pa.array([folded(text) for text in texts.filter(pc.invert(plain)).to_pylist()], result.type)
    return pc.replace_with_mask(result, pc.invert(plain), others)
