import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from storage.readers.rows import Cells, checked
from storage.readers.source import MAX_CHARACTERS, shortened


def test_a_text_of_exactly_the_longest_length_is_taken_even_when_its_bytes_are_more() -> None:
    table, rejects = checked("f", np.array([1]), Cells(["é" * MAX_CHARACTERS]), lambda i: "")
    assert (len(table), rejects) == (1, [])


def test_a_blank_row_passes_in_silence() -> None:
    table, rejects = checked("f", np.array([1, 2]), Cells(["", "a"]), lambda i: None)
    assert (table["row"].to_pylist(), rejects) == ([2], [])


@given(st.text())
def test_a_shown_value_is_one_short_line_that_can_be_written(value: str) -> None:
    shown = shortened(value * 50)
    assert len(shown) <= 200
    assert "\n" not in shown
    shown.encode("utf-8")
