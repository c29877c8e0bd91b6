from pathlib import Path

import pytest

from storage.errors import SourceError
from storage.readers.columns import ColumnRequest, Columns, choose_columns, described

PATH = Path("f.csv")
ROWS = [["a1", "7", "floods cut off the town"], ["a2", "8", "council to meet again"]]


def choose(
    names: list[str] | None,
    rows: list[list[str]] = ROWS,
    text: str | None = None,
    item_id: str | None = None,
    label: str | None = None,
) -> Columns:
    return choose_columns(PATH, names, rows, ColumnRequest((text,) if text else (), item_id, label))


def test_known_names_are_found_however_they_are_spelled() -> None:
    assert choose(["Item ID", "Publish-Date", "headline_text"]) == Columns(2, 0, 1)
    assert choose(["title", "y", "TEXT"]) == Columns(2, None, None), "the best known one, not the first"


def test_without_names_the_longest_is_the_text_and_the_first_distinct_is_the_id() -> None:
    assert choose(None) == Columns(2, 0, None)
    assert choose(["a", "b", "c"]) == Columns(2, 0, None)
    assert choose(None, [["x", "one text here"], ["x", "another text"]]) == Columns(1, None, None)


def test_long_ids_are_not_taken_for_short_texts() -> None:
    ids = ["3f2b8c1e-0d4a-4b6f-9a57-1c2d3e4f5a6b", "9a57b8c1-0d4a-4b6f-3f2b-1c2d3e4f5a6b"]
    assert choose(None, [[ids[0], "a storm"], [ids[1], "new mayor"]]) == Columns(1, 0, None)


def test_texts_without_spaces_are_told_by_their_length() -> None:
    assert choose(None, [["a1", "上海一场大火一下子"], ["a2", "一场大火"]]) == Columns(1, 0, None)


def test_a_column_can_be_asked_for_by_name_or_by_number() -> None:
    assert choose(["a", "b", "text"], text="B").text == 1
    assert choose(["a", "b", "text"], text="2").text == 1
    assert choose(None, text="3", item_id="1") == Columns(2, 0, None)


def test_a_column_asked_for_is_not_taken_for_another_role() -> None:
    assert choose(["id", "date", "text"], item_id="date") == Columns(2, 1, None)
    assert choose(["id", "date", "text"], text="id") == Columns(0, None, 1)


def test_an_unknown_column_is_refused_with_the_columns_and_the_nearest() -> None:
    with pytest.raises(SourceError, match=r"'headlin'.*'id', 'headline', 'other'") as error:
        choose(["id", "headline", "other"], text="headlin")
    assert "--text-column headline" in error.value.hint
    with pytest.raises(SourceError, match="'4'") as error:
        choose(None, item_id="4")
    assert all(value in error.value.hint for value in ("--id-column", "3"))


def test_one_column_cannot_be_both() -> None:
    with pytest.raises(SourceError, match=r"--text-column\b.*--id-column"):
        choose(["a", "b", "c"], text="a", item_id="1")


@pytest.mark.parametrize(
    "rows",
    [
        [["1", "2"], ["3", "4"]],
        [["one text here", "two texts here"], ["more of these", "and of these"]],
    ],
)
def test_where_no_column_of_texts_can_be_told_the_error_says_what_to_type(rows: list[list[str]]) -> None:
    with pytest.raises(SourceError, match="'column 1', 'column 2'") as error:
        choose(None, rows)
    assert "--text-column" in error.value.hint


def test_dates_that_are_not_understood_are_said_so() -> None:
    columns, names = Columns(2, 0, 1), ["id", "date", "text"]
    assert described(columns, names, [["1", "", "x"], ["2", "20030219", "y"]]) == "text 'text', id 'id', date 'date'"
    assert described(columns, names, [["1", "", "x"]]) == "text 'text', id 'id', date 'date'"
    assert "'19/02/2003'" in described(columns, names, [["1", "19/02/2003", "x"]])


@pytest.mark.parametrize(("text", "item_id"), [(None, None), ("TEXT", "id"), (None, "Id")])
def test_two_columns_of_one_name_are_not_guessed_between(text: str | None, item_id: str | None) -> None:
    names = ["id", "text", "Text"] if item_id is None or text else ["Id", "id", "text"]
    with pytest.raises(SourceError) as error:
        choose(names, text=text, item_id=item_id)
    assert "columns 1 and 2" in error.value.what or "columns 2 and 3" in error.value.what
    assert choose(["a", "text", "Text"], text="3").text == 2


def test_two_columns_of_texts_are_not_guessed_between_unless_one_is_named_text() -> None:
    rows = [["floods cut off town", "a long story of it"], ["council to meet", "another story"]]
    with pytest.raises(SourceError) as error:
        choose(["headline", "body"], rows)
    assert error.value.hint.startswith("Use --text-column headline or body")
    assert choose(["headline", "text"], rows).text == 1
    assert choose(["headline", "body"], [["", "a story"], ["", "another one"]]).text == 1


def test_an_empty_id_column_is_left_out_or_refused_where_it_was_asked_for() -> None:
    rows = [["", "a", "one text"], [" ", "b", "another text"]]
    found = choose(["id", "key", "text"], rows)
    assert (found.item_id, found.notes) == (1, ())
    found = choose(["id", "x", "text"], rows)
    assert (found.item_id, len(found.notes)) == (None, 1)
    with pytest.raises(SourceError, match="'id'"):
        choose(["id", "x", "text"], rows, item_id="id")


LABELLED = [[str(i), f"a long text {i}", str(i % 2), f"{i % 3}.0"] for i in range(60)]


@pytest.mark.parametrize(
    ("names", "label"), [("id,headline,relevance,x", 2), ("nr,words,p,Label Name", 3), ("nr,message,class,q", 2)]
)
def test_labels_are_found_by_their_name(names: str, label: int) -> None:
    assert choose(names.split(","), LABELLED, label="").label == label


def test_labels_are_found_by_their_few_values_and_never_in_the_ids() -> None:
    rows = [[*row[:3], f"note {row[0]}"] for row in LABELLED[:40]]
    assert choose(["id", "headline", "x", "y z"], rows, label="").label == 2
    with pytest.raises(SourceError) as error:
        choose(["id", "headline", "p", "q"], LABELLED, label="")
    assert error.value.hint.startswith("Use --label-column p")
    with pytest.raises(SourceError) as error:
        choose(["id", "headline", "p", "q"], [[row[0], row[1], row[0], row[0]] for row in LABELLED], label="")
    assert "--label-column" in error.value.hint
    assert choose(["id", "headline", "p", "q"], LABELLED, label="4").label == 3
