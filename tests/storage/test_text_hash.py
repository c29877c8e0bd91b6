"""When two texts are the same: one rule, the same for a string, for a column and in the lake."""

from __future__ import annotations

import hashlib
import sys
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.lake.items import folded_texts
from storage.readers.spellings import HASH_CHARS, folded, text_hash

CONTROL = "".join(map(chr, range(0x21))) + "\x7f\x85\xa0\u2028\u3000\u200b\ufeff"
texts = st.text() | st.text(st.sampled_from(CONTROL + "aZéß")) | st.text(st.characters(max_codepoint=127))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Floods hit", "FLOODS HIT"),
        ("Floods hit", " floods\t\r\n hit  "),
        ("caf\u00e9", "cafe\u0301"),
        ("CAF\u00c9", "cafe\u0301"),
        ("straße", "STRASSE"),
        ("a\u00a0b\u3000c", "a b c"),
        ("a\x1cb\x1fc\x0bd", "a b c d"),
        ("\u01f0", "J\u030c"),  # casefold decomposes it: NFC once more
        ("a\u200bb\ufeff", "ab"),
        ("\uff11\u00b2 \ufb02oods", "12 floods"),
    ],
)
def test_form_case_and_space_make_no_difference(one: str, other: str) -> None:
    assert one != other
    assert folded(one) == folded(other)
    assert text_hash(one) == text_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a b", "ab"), ("a.", "a"), ("\u00e9", "e"), ("1/2", "12"), ("", "a"), ("a-b", "a b")],
)
def test_everything_else_does(one: str, other: str) -> None:
    assert text_hash(one) != text_hash(other)


def test_the_hash_is_the_first_half_of_sha256_of_the_folded_text_in_utf8() -> None:
    assert text_hash("  CAF\u00c9 ") == hashlib.sha256("caf\u00e9".encode()).hexdigest()[:32]
    assert HASH_CHARS == 32
    assert text_hash("") == "e3b0c44298fc1c149afbf4c8996fb924"


@given(texts)
def test_folding_is_stable_in_nfkc_and_leaves_single_spaces(text: str) -> None:
    once = folded(text)
    assert unicodedata.is_normalized("NFKC", once)
    assert once == " ".join(once.split())
    assert folded(once) == once


@given(st.lists(texts, min_size=2), st.data())
def test_a_slice_of_a_column_folds_as_its_strings_do(values: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(values)))
    part = pa.array(values, pa.string())[start:]
    assert folded_texts(part).to_pylist() == [folded(value) for value in values[start:]]


def test_every_character_there_is_folds_in_a_column_as_it_does_alone() -> None:
    values = [f"A{chr(code)}b " for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    assert folded_texts(pa.array(values)).to_pylist() == [folded(value) for value in values]
