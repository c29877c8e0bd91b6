from pathlib import Path

import pytest

from storage.errors import SourceError
from storage.readers.delimited import find_dialect
from storage.readers.lines import ONE_COLUMN, Dialect

PATH = Path("a.csv")


def found(*lines: str, name: str = "a.csv", text_column: str | None = None) -> Dialect:
    return find_dialect(Path(name), [line + "\n" for line in lines], "utf-8", None, text_column)


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (("id;text", "1;a, b", "2;c"), ";"),
        (("1,a;b", "2,c", "3,d;e"), ","),
        (("x1|a, b", "x2|c", "x3|d, e"), "|"),
        (("1, a", "2, b", "3, c"), ","),
        (("Yes, it is.", "No, it is not.", "Well, who knows?"), ONE_COLUMN),
        (("text", "a,b", "c,d"), ONE_COLUMN),
    ],
)
def test_the_delimiter_is_the_one_that_makes_a_table(lines: tuple[str, ...], delimiter: str) -> None:
    assert found(*lines).delimiter == delimiter


def test_the_suffix_tsv_settles_a_tie() -> None:
    lines = ("one,two\tthree", "four,five\tsix")
    assert found(*lines, name="a.tsv").delimiter == "\t"


@pytest.mark.parametrize(
    ("lines", "row"),
    [
        (("id,text", "1,one two"), 1),
        (("", "nr,words", "1,one two"), 2),
        (("1,title", "2,a longer title"), 0),
        (("x1,hello", "x2,how are you"), 0),
        (("id,text,2019", "1,one two,5"), 1),
        (("hello", "how are you"), 0),
    ],
)
def test_a_header_is_told_from_a_row(lines: tuple[str, ...], row: int) -> None:
    assert found(*lines).header_row == row


def test_the_name_that_is_asked_for_makes_a_header() -> None:
    assert found("a1,b1", "c,d", text_column="b1").header_row == 1
    assert found("a1,b1", "c,d").header_row == 0


def test_quotes_are_text_where_most_of_them_do_not_close() -> None:
    assert not found('x1\t"Yes," he said', 'x2\t"No," she said').quoted
    assert found('x1\t"one\ttwo"', "x2\tthree").quoted
    assert found('x1,"Yes," he said', "x2,no", "x3,no", "x4,no").quoted


def test_lines_without_a_record_are_refused() -> None:
    with pytest.raises(SourceError):
        found("", "  ")
