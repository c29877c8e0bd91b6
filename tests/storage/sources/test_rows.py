import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.readers.rows import EMPTY_ID, EMPTY_TEXT, NOT_TEXT, NUL, Cells, checked
from storage.readers.source import MAX_CHARACTERS, TOO_LONG, shortened


@pytest.mark.parametrize(
    ("text", "item_id", "reason"),
    [
        (" \t", "a", EMPTY_TEXT),
        ("x" * (MAX_CHARACTERS + 1), "a", TOO_LONG),
        ("a\0b", "a", NUL),
        ("a\udcffb", "a", NOT_TEXT),
        ("fine", " ", EMPTY_ID),
        ("fine", "\udcff", NOT_TEXT),
        ("fine", "a\0", NUL),
    ],
)
def test_one_bad_row_among_good_ones_is_the_only_reject(text: str, item_id: str, reason: str) -> None:
    rows = np.array([4, 5, 9], dtype=np.int64)
    texts, ids = ["one", text, "three"], ["1", item_id, "3"]
    table, rejects = checked("f.csv", rows, Cells(texts, ids), lambda i: texts[i])
    assert table.to_pydict() == {
        "row": [4, 9],
        "item_id": ["1", "3"],
        "text": ["one", "three"],
        "published_at": [None, None],
    }
    assert [(reject.file, reject.row, reject.reason) for reject in rejects] == [("f.csv", 5, reason)]


def test_a_text_of_exactly_the_longest_length_is_taken_even_when_its_bytes_are_more() -> None:
    table, rejects = checked("f", np.array([1]), Cells(["é" * MAX_CHARACTERS]), lambda i: "")
    assert (len(table), rejects) == (1, [])


def test_a_blank_row_passes_in_silence() -> None:
    table, rejects = checked("f", np.array([1, 2]), Cells(["", "a"]), lambda i: None)
    assert (table["row"].to_pylist(), rejects) == ([2], [])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_texts_are_stripped_as_python_strips_them_and_else_unchanged(texts: list[str]) -> None:
    table, rejects = checked("f", np.arange(len(texts)), Cells(pa.array(texts, pa.string())), lambda i: "x")
    assert table["text"].to_pylist() == [text.strip() for text in texts if text.strip()]
    assert len(rejects) == sum(not text.strip() for text in texts)


@given(st.text())
def test_a_shown_value_is_one_short_line_that_can_be_written(value: str) -> None:
    shown = shortened(value * 50)
    assert len(shown) <= 200
    assert "\n" not in shown
    shown.encode("utf-8")
