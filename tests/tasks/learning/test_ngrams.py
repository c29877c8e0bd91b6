"""N-grams against scikit-learn's TF-IDF and a hash in Python; words and characters against Python's strings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer

from tasks.learning import ngrams as room
from tasks.learning.encoders import StaticVectors
from tasks.learning.ngrams import (
    BUCKET_BITS,
    CHARACTER_ORDERS,
    N_BUCKETS,
    WORD_ORDERS,
    CharacterCodes,
    Stream,
    characters_of,
    count_terms,
    inverse_document_frequencies,
    rows_by_bucket,
    weighted,
    weights_and_norms,
    words_of,
)
from tasks.learning.tokens import Tokens

Ids = list[int]
TEXTS_OF_IDS = st.lists(st.lists(st.integers(0, 5) | st.integers(0, 2**32 - 1), max_size=9), min_size=1, max_size=9)


def stream(texts: Sequence[Ids]) -> Stream:
    ids = np.array([number for text in texts for number in text], np.uint32)
    return Stream(ids, np.cumsum([0, *map(len, texts)]))


def bucket(ngram: Ids) -> int:
    """The hash in Python's own integers."""
    rolling = 0
    for number in ngram:
        rolling = (rolling * 0x9E3779B1 + number) % 2**32
    mixed = (rolling + len(ngram)) * 0x9E3779B1 % 2**32
    mixed ^= mixed >> 15
    return (mixed * 0x85EBCA6B % 2**32) >> (32 - BUCKET_BITS)


@given(TEXTS_OF_IDS, st.sampled_from([WORD_ORDERS, CHARACTER_ORDERS]), st.integers(1, 3))
def test_weights_are_the_tf_idf_of_scikit_learn_also_of_texts_that_it_was_not_made_from(
    texts: list[Ids], orders: tuple[int, ...], n_known: int
) -> None:
    counts = sparse.dok_matrix((len(texts), N_BUCKETS))
    for number, text in enumerate(texts):
        for ngram in (text[k : k + order] for order in orders for k in range(len(text) - order + 1)):
            counts[number, bucket(ngram)] += 1
    matrix = counts.tocsr()
    reference = TfidfTransformer(sublinear_tf=True).fit(matrix[:n_known])
    is_known = matrix[:n_known].getnnz(axis=0) > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "SLICE_TEXTS", 3)
        patch.setattr(room, "SLICE_IDS", 12)
        idf = inverse_document_frequencies(count_terms(stream(texts[:n_known]), orders))
        found = weighted(count_terms(stream(texts), orders), idf).matrix()
        buckets = np.flatnonzero(idf).astype(np.int32)
        rows = count_terms(stream(texts), orders, rows_by_bucket(buckets))
    reference.idf_ = np.where(is_known, reference.idf_, 0)  # an n-gram that no known text has does not count
    assert abs(found - reference.transform(matrix)).max() < 1e-5
    weights, norms = weights_and_norms(rows, np.append(np.float32(0), idf[buckets]))
    known = sparse.csr_matrix((weights, buckets[rows.buckets - 1], rows.offsets), matrix.shape)
    assert abs(sparse.diags(1 / norms) @ known - found).max() < 1e-5, "rows of the known buckets say the same"


WORDS = st.sampled_from(["flood", "unaffable", "councillors", "ok", "a", "7", "1998", "q", "xylophonists"])
SENTENCES = st.lists(st.lists(WORDS | st.sampled_from([",", "!", "--"]), max_size=8).map(" ".join), max_size=6)


@given(SENTENCES)
def test_words_are_whole_without_punctuation_and_single_letters_and_alike_wherever_they_stand(texts: list[str]) -> None:
    encoder = StaticVectors()
    found = words_of(encoder.tokenize_few(texts), encoder.pieces())
    split = [[word for word in re.findall(r"\w+", text) if len(word) > 1] for text in texts]
    assert np.diff(found.offsets).tolist() == [len(words) for words in split]
    flat = [word for words in split for word in words]
    pairs = set(zip(flat, found.ids.tolist(), strict=True))
    assert len(pairs) == len(set(flat)) == len({number for _, number in pairs})


@given(st.lists(st.text(max_size=12), max_size=5))
def test_characters_are_alike_of_few_texts_and_of_an_arrow_column_with_case_and_width_folded(texts: list[str]) -> None:
    codes = CharacterCodes()
    few, column = codes.of_few(texts), codes.of(pa.array(texts, pa.string()))
    assert few.ids.tolist() == column.ids.tolist()
    assert few.offsets.tolist() == column.offsets.tolist()

    def folded(character: str) -> int | None:
        lower = unicodedata.normalize("NFKC", character).lower()
        if ord(character) >= 2**16:
            return None  # shares the number of another
        return 32 if character.isspace() else ord(lower if len(lower) == 1 else character)

    expected = [[32, *map(folded, text), 32] for text in texts]
    assert few.lengths.tolist() == [len(text) for text in expected]
    numbers = [number for text in expected for number in text]
    assert all(number in (None, code) for number, code in zip(numbers, few.ids.tolist(), strict=True))


def test_texts_that_differ_in_case_width_or_kind_of_space_have_the_same_characters() -> None:
    found = CharacterCodes().of_few(["abc ド", "ＡＢＣ\u3000ﾄﾞ"[:4] + "ド", "Abc\tド"])
    assert len({found.take(np.array([k])).ids.tobytes() for k in range(3)}) == 1
    beyond = CharacterCodes().of_few(["\U0001f600", "\U0001f601"])
    assert beyond.take(np.array([0])).ids.tolist() != beyond.take(np.array([1])).ids.tolist()


def test_texts_without_characters_are_refused_where_characters_are_read() -> None:
    with pytest.raises(ValueError, match="characters"):
        characters_of(Tokens(np.zeros(0, np.uint16), np.zeros(1, np.int64)))
