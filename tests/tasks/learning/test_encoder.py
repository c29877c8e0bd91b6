import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from storage.errors import ModelError
from tasks.learning.encoders import (
    ARTEFACT,
    SHIPPED,
    BagOfWords,
    Encoder,
    Encoders,
    StaticVectors,
    fit_bag_of_words,
)
from tasks.learning.tokens import MAX_TOKENS, Tokens

JOINED_BY_THE_TOKENIZER = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
"""The documented exceptions: white space to us, dropped control characters to the tokenizer."""

VECTORS = StaticVectors()
WHOLE_TEXTS = Tokenizer.from_file(str(ARTEFACT / "tokenizer.json"))
unicode_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=JOINED_BY_THE_TOKENIZER), max_size=40
)
newsy_texts = st.lists(
    st.sampled_from(
        ["flood", "Floods!", "don't", "naïve", "洪水", "[UNK]", "##s", "x" * 120, " ", "\t", "\u00a0", "e\u0301"]
    ),
    max_size=8,
).map(" ".join)


def strings(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.string())


def texts_of(tokens: Tokens) -> list[list[int]]:
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]


@settings(max_examples=100)
@given(st.lists(unicode_texts | newsy_texts, max_size=5))
@example(["\u0301flood ﬂood İstanbul ΣΑΣ", "a\u200bb\u00adc\u2028d", "\ufffd\0x", "日本 flood。", ""])
def test_tokenizing_each_distinct_word_gives_what_tokenizing_whole_texts_gives(texts: list[str]) -> None:
    expected = [encoding.ids for encoding in WHOLE_TEXTS.encode_batch(texts, add_special_tokens=False)]
    assert texts_of(VECTORS.tokenize(strings(texts))) == expected


@pytest.mark.parametrize("space", JOINED_BY_THE_TOKENIZER)
def test_the_documented_exceptions_part_words_here_and_join_them_in_the_tokenizer(space: str) -> None:
    text = f"flood{space}fire"
    ids = VECTORS.tokenize(strings([text, "flood fire"]))
    assert texts_of(ids)[0] == texts_of(ids)[1]
    assert WHOLE_TEXTS.encode(text, add_special_tokens=False).ids != texts_of(ids)[0]


def test_no_other_character_than_the_documented_ones_parts_words_against_the_tokenizer() -> None:
    spaces = [c for c in map(chr, range(0x3100)) if c.isspace() and c not in JOINED_BY_THE_TOKENIZER]
    assert len(spaces) > 15
    texts = [f"flood{c}fire" for c in spaces]
    expected = [encoding.ids for encoding in WHOLE_TEXTS.encode_batch(texts, add_special_tokens=False)]
    assert texts_of(VECTORS.tokenize(strings(texts))) == expected


BAG = BagOfWords(("flood", "fire", "in", "the"))


@pytest.mark.parametrize("encoder", [VECTORS, BAG], ids=SHIPPED)
def test_a_sliced_array_gives_the_tokens_of_its_slice_and_no_text_none(encoder: Encoder) -> None:
    texts = ["flood in the city", "", "fire fire", "  ", "the end"]
    whole = texts_of(encoder.tokenize(strings(texts)))
    assert texts_of(encoder.tokenize(strings(texts).slice(1, 3))) == whole[1:4]
    assert texts_of(encoder.tokenize(strings(texts).slice(2, 0))) == []
    assert texts_of(encoder.tokenize(strings([]))) == []
    assert whole[1] == whole[3] == []


@pytest.mark.parametrize("encoder", [VECTORS, BAG], ids=SHIPPED)
def test_tokens_are_uint16_ids_below_n_tokens(encoder: Encoder) -> None:
    tokens = encoder.tokenize(strings(["Flood in the city!", "fire"]))
    assert tokens.ids.dtype == np.uint16
    assert tokens.offsets.dtype == np.int64
    assert int(tokens.ids.max()) < encoder.n_tokens <= MAX_TOKENS


def test_bag_of_words_drops_unknown_words_and_keeps_order_case_folded_and_repeats() -> None:
    tokens = BAG.tokenize(strings(["THE flood, The Fire the\tflood", "nothing known", "in\u00a0in"]))
    assert texts_of(tokens) == [[3, 3, 1, 3, 0], [], [2, 2]]
    assert BAG.n_tokens == 4


def test_vocabulary_is_words_seen_three_times_the_most_frequent_first() -> None:
    slices = [strings(["b a A", "c c  "]), strings(["b\tc C rare", "B", "rare a"])]
    assert fit_bag_of_words(slices).words == ("c", "a", "b")


@given(st.lists(st.lists(st.sampled_from(["a b", "B c c", "", "d  a", "Ä ä ä"]), max_size=4), max_size=4))
def test_vocabulary_does_not_depend_on_how_texts_are_sliced(slices: list[list[str]]) -> None:
    together = fit_bag_of_words([strings([text for texts in slices for text in texts])])
    assert fit_bag_of_words(strings(texts) for texts in slices) == together


def test_no_texts_and_blank_texts_make_an_empty_vocabulary() -> None:
    assert fit_bag_of_words([]).words == ()
    assert fit_bag_of_words([strings(["", " ", "\t\n"] * 5)]).words == ()


def test_vocabulary_stops_where_ids_end() -> None:
    many = [f"w{k:05d}" for k in range(MAX_TOKENS + 5)]
    bag = fit_bag_of_words([strings([" ".join(many)] * 3)])
    assert bag.words == tuple(many[:MAX_TOKENS])
    assert int(bag.tokenize(strings([many[MAX_TOKENS - 1]])).ids[0]) == MAX_TOKENS - 1


def test_an_encoder_id_is_name_and_hash_of_the_content() -> None:
    assert BAG.encoder_id.startswith("bag-of-words:")
    assert BAG.encoder_id == BagOfWords(BAG.words).encoder_id
    assert BAG.encoder_id != BagOfWords(BAG.words[::-1]).encoder_id
    assert VECTORS.encoder_id.startswith("minilm-static:")
    assert VECTORS.encoder_id == StaticVectors().encoder_id


def test_an_encoder_id_leads_back_to_its_encoder() -> None:
    encoders = Encoders()
    assert encoders.of(BAG.encoder_id, BAG.words) == BAG
    assert encoders.of(VECTORS.encoder_id, None) is encoders.shipped(), "read once"


@pytest.mark.parametrize(("encoder_id", "words_kept"), [("minilm-static:old", None), ("bag-of-words:old", BAG.words)])
def test_an_encoder_that_is_not_here_says_both_ids_and_what_to_type(
    encoder_id: str, words_kept: tuple[str, ...] | None
) -> None:
    here = BAG.encoder_id if words_kept else VECTORS.encoder_id
    with pytest.raises(ModelError) as caught:
        Encoders().of(encoder_id, words_kept)
    assert all(repr(value) in caught.value.what for value in (encoder_id, here))
    assert "pal next" in caught.value.hint


def test_vectors_are_the_artefacts_one_float32_row_per_token() -> None:
    vectors = VECTORS.vectors()
    assert vectors.shape == (VECTORS.n_tokens, 256) == (29_525, 256)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


@pytest.fixture
def artefact_copy(tmp_path: Path) -> Path:
    copy = tmp_path / "artefact"
    copy.mkdir()
    for name in ("manifest.json", "tokenizer.json", "vectors.safetensors"):
        shutil.copy(ARTEFACT / name, copy / name)
    return copy


@pytest.mark.parametrize("name", ["vectors.safetensors", "tokenizer.json"])
def test_an_artefact_with_one_byte_changed_is_refused_with_both_hashes(artefact_copy: Path, name: str) -> None:
    StaticVectors(artefact_copy)
    content = bytearray((artefact_copy / name).read_bytes())
    content[-2] ^= 1
    (artefact_copy / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        StaticVectors(artefact_copy)
    expected = json.loads((artefact_copy / "manifest.json").read_text(encoding="utf-8"))["sha256"][name]
    found = hashlib.sha256(content).hexdigest()
    assert all(value in caught.value.what for value in (str(artefact_copy / name), found, expected))
    assert "pip install --force-reinstall pytorch-active-learning" in caught.value.hint


def test_white_space_at_the_end_of_a_text_never_costs_its_last_word() -> None:
    """Arrow's splitting alone loses it about once in a thousand calls."""
    rng, words = random.Random(1), ["ø", "unaffable", "\u2028", "0\x93ã", "日本", "\xa0", "²o", "flood", "", "i", "σ"]
    encoder = BagOfWords(("i", "σ"))
    for _ in range(6_000):
        texts = [" ".join(rng.choices(words, k=rng.randint(0, 6))) for _ in range(rng.randint(0, 5))]
        known = [encoder.words.index(word) for text in texts for word in text.split() if word in encoder.words]
        assert encoder.tokenize(pa.array(texts, pa.string())).ids.tolist() == known
