from pathlib import Path

import pytest

from storage.errors import SourceError
from storage.readers.columns import ColumnRequest
from storage.readers.delimited import find_dialect
from storage.readers.lines import ONE_COLUMN, Dialect

PATH = Path("a.csv")


def found(*lines: str, name: str = "a.csv", text_column: str | None = None) -> Dialect:
    request = ColumnRequest((text_column,) if text_column else ())
    return find_dialect(Path(name), [line + "\n" for line in lines], "utf-8", None, request)


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (("id;text", "1;a, b", "2;c"), ";"),
        (("1,a;b", "2,c", "3,d;e"), ","),
        (("1, a", "2, b", "3, c"), ","),
        (("Yes, it is.", "No, it is not.", "Well, who knows?"), ONE_COLUMN),
        (("text", "a,b", "c,d"), ONE_COLUMN),
        (("10,000 flee", "3,5 million lost", "1,200 jobs go"), ONE_COLUMN),
    ],
)
def test_the_delimiter_is_the_one_that_makes_a_table(lines: tuple[str, ...], delimiter: str) -> None:
    assert found(*lines).delimiter == delimiter


@pytest.mark.parametrize("lines", [("10,a town", "20,a fire", "30,a flood"), ("Yes,it is", "No,it is")])
def test_a_list_of_texts_is_never_cut_at_commas(lines: tuple[str, ...]) -> None:
    assert found(*lines, name="a.txt").delimiter == ONE_COLUMN
    assert found("id,text", *lines, name="a.txt").delimiter == ","


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
        (("Report, of 2024", "id,text", "1,one two"), 2),
        (("Export", "text", "one two"), 2),
        (("headline_en", "10,000 flee"), 1),
        (("politics,flood", "sports,match", "arts,review", "arts,a fair"), 0),
        (("some words,kind of thing", *("a long text,a", "another text,b") * 6), 1),
        (("a new text,a", *("a long text,a", "another text,b") * 6), 0),
    ],
)
def test_a_header_is_told_from_a_row(lines: tuple[str, ...], row: int) -> None:
    assert found(*lines).header_row == row


@pytest.mark.parametrize(
    "lines",
    [
        ("x1,A flood", "x2,A fire in town", "id,text", "x3,Rain today"),
        ("x2,A fire", "id,text", "x3,Rain today"),
        ("a flood,yes", "a fire,no", "text,label", "rain,no"),
    ],
)
def test_rows_above_a_header_are_never_skipped(lines: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match=lines[0].split(",")[0]):
        found(*lines)


def test_a_tab_in_a_list_of_texts_costs_nothing_of_it() -> None:
    assert found("one\ttwo words", "three\tfour words", name="a.txt").delimiter == ONE_COLUMN
    assert found("x1\ttwo words", "x2\tfour words", name="a.txt").delimiter == "\t"


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


def test_quotes_after_a_backslash_are_told_from_doubled_ones() -> None:
    assert found("id,text", r'1,"he said \"go\", then left"', r'2,"size 5\""').escaped
    assert found("id\ttext", '1\t"he said \\"go\\", then left"', '2\t"x"').escaped
    assert not found("id,text", '1,"he said ""go"", then left"', r'2,"a\b"').escaped


@pytest.mark.parametrize(
    ("lines", "is_text"), [(["id,text", "1,a\rb", "2,c"], True), (["id,text", "1,a\r2,b", "3,c"], False)]
)
def test_a_lone_carriage_return_ends_a_line_where_that_makes_the_better_table(lines: list[str], is_text: bool) -> None:
    split = "\n".join(lines).splitlines(keepends=True)
    assert find_dialect(PATH, split, "utf-8", None).lone_cr_is_text == is_text
