import numpy as np
import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st
from pools import tokens_of

from tasks.learning.tokens import MAX_TOKENS, Tokens, ragged_take

runs = st.lists(st.lists(st.integers(0, MAX_TOKENS), max_size=6), max_size=12)


def texts_of(tokens: Tokens) -> list[list[int]]:
    return [tokens.ids[a:b].tolist() for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]


@given(runs, st.data())
def test_arrow_round_trip_of_a_sliced_array_gives_the_texts_of_the_slice(
    texts: list[list[int]], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    back = Tokens.from_arrow(tokens_of(texts).to_arrow().slice(start, stop - start))
    assert texts_of(back) == texts[start:stop]
    assert back.offsets[0] == 0
    assert (back.ids.dtype, back.offsets.dtype) == (np.uint16, np.int64)


def test_the_arrow_column_is_each_texts_ids_as_little_endian_uint16() -> None:
    column = tokens_of([[1, 258], []]).to_arrow()
    column.validate(full=True)
    assert column.to_pylist() == [b"\x01\x00\x02\x01", b""]


def test_arrow_columns_made_elsewhere_are_read_even_when_empty() -> None:
    assert texts_of(Tokens.from_arrow(pa.array([b"\x07\x00", b""], pa.binary()))) == [[7], []]
    assert texts_of(Tokens.from_arrow(pa.array([], pa.binary()))) == []
    assert texts_of(Tokens.from_arrow(pa.array([b"", b""], pa.binary()))) == [[], []]


def test_ids_are_not_copied_to_arrow_nor_back() -> None:
    tokens = tokens_of([[1, 2], [3]])
    column = tokens.to_arrow()
    back = Tokens.from_arrow(column.slice(1))
    assert column.buffers()[2].address == tokens.ids.ctypes.data
    assert back.ids.ctypes.data == tokens.ids.ctypes.data + 4
    assert np.shares_memory(back.ids, tokens.ids)


@given(runs, st.data())
def test_a_slice_is_its_texts_and_shares_the_ids(texts: list[list[int]], data: st.DataObject) -> None:
    tokens = tokens_of(texts)
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    part = tokens.slice(start, stop)
    assert texts_of(part) == texts[start:stop]
    assert part.offsets[0] == 0
    assert not len(part.ids) or np.shares_memory(part.ids, tokens.ids)


@given(runs.filter(len), st.data())
def test_take_gives_the_texts_at_the_positions_in_that_order_also_twice(
    texts: list[list[int]], data: st.DataObject
) -> None:
    positions = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=15))
    taken = tokens_of(texts).take(np.array(positions, np.int64))
    assert texts_of(taken) == [texts[position] for position in positions]
    assert texts_of(ragged_take(tokens_of(texts), np.array(positions, np.int64))) == texts_of(taken)


@given(runs, runs, runs)
def test_joined_parts_are_one_after_the_other(a: list[list[int]], b: list[list[int]], c: list[list[int]]) -> None:
    joined = Tokens.joined(tokens_of(part) for part in (a, b, c))
    assert texts_of(joined) == a + b + c
    assert joined.ids.dtype == np.uint16


def test_nothing_joined_is_no_texts() -> None:
    assert len(Tokens.joined([])) == 0
    assert Tokens.joined([]).offsets.tolist() == [0]


@given(runs)
def test_sums_add_the_values_of_each_texts_ids_counting_repeats(texts: list[list[int]]) -> None:
    values = np.random.default_rng(0).integers(0, 1000, MAX_TOKENS + 1).astype(np.float64)
    assert tokens_of(texts).sums(values).tolist() == [float(sum(values[token] for token in text)) for text in texts]


def test_tensors_are_int32_ids_and_starts_without_the_end() -> None:
    ids, starts = tokens_of([[1, MAX_TOKENS], [], [3]]).tensors()
    assert (ids.dtype, starts.dtype) == (torch.int32, torch.int32)
    assert ids.tolist() == [1, MAX_TOKENS, 3]
    assert starts.tolist() == [0, 2, 2]
