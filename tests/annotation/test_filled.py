"""Rows against their batch: the right label for the right item, or an error with a way out."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from annotation.checks import FilledRow, ItemNames, RowError, check_rows
from annotation.label_set import LabelSet
from storage.readers.spellings import text_hash
from storage.records import UNNAMED, Answer, BatchItem

BATCH = "b0001-training"


def item(item_id: str, text: str) -> BatchItem:
    return BatchItem(item_id, text, text_hash(text))


ITEMS = [item("284006", "Floods hit"), item("00123", "Fire in shed"), item("123456789012", "Storm"), item("x-1", "Cat")]
TRUTH = {"284006": "related", "00123": "not_related", "123456789012": "related", "x-1": "not_related"}


def row_of(of: BatchItem, label: str = "related", row: int = 2) -> FilledRow:
    cells = {"label": label, "item_id": of.item_id}
    return FilledRow(row, BATCH, of.item_id, label, of.text, of.text_hash, cells=cells)


def rows_of(items: list[BatchItem] = ITEMS) -> list[FilledRow]:
    return [row_of(each, TRUTH[each.item_id], row) for row, each in enumerate(items, start=2)]


def given(answers: list[Answer]) -> dict[str, str]:
    return {answer.item_id: answer.answer for answer in answers}


def only_error(row: FilledRow, label_set: LabelSet, items: list[BatchItem] = ITEMS) -> RowError:
    answers, errors = check_rows([row], items, label_set)
    assert (answers, len(errors)) == ([], 1)
    return errors[0]


def test_a_filled_row_is_an_answer(label_set: LabelSet) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    row = replace(row_of(ITEMS[0], "1"), note=" why ", annotator=" anna ", seconds=2.5, annotated_at=when)
    assert check_rows([row], ITEMS, label_set) == ([Answer("284006", "related", "anna", "why", 2.5, when)], [])


def test_the_row_of_an_erased_text_has_an_error_of_its_own(label_set: LabelSet) -> None:
    gone = item("i9", "Floods hit another town")
    names = ItemNames(ITEMS, erased={gone.text_hash})
    reasons = []
    for row in (row_of(gone), replace(row_of(gone), text_hash=None), row_of(item("i10", "Nothing"))):
        answers, (error,) = check_rows([row], names, label_set)
        reasons.append(error.reason)
        assert (answers, error.column) == ([], "item_id")
    assert reasons[0] == reasons[1] != reasons[2]


def test_a_row_without_a_name_is_unnamed_and_an_empty_row_is_neither_answer_nor_error(label_set: LabelSet) -> None:
    rows = [replace(row_of(ITEMS[0]), annotator="  "), row_of(ITEMS[1], " ")]
    answers, errors = check_rows(rows, ITEMS, label_set)
    assert [answer.annotator for answer in answers] == [UNNAMED]
    assert errors == []


def test_an_unknown_cell_is_never_a_label_and_the_error_names_row_column_value_and_nearest_answer(
    label_set: LabelSet,
) -> None:
    rows = rows_of()
    rows[1] = replace(rows[1], label="relatd")
    answers, (error,) = check_rows(rows, ITEMS, label_set)
    assert given(answers) == {k: v for k, v in TRUTH.items() if k != "00123"}, "good rows are taken"
    assert (error.row, error.column, error.value, error.cells) == (3, "label", "relatd", rows[1].cells)
    assert all(value in str(error) for value in ("row 3", "label", "'relatd'", "'related'"))


@pytest.mark.parametrize("column", ["text", "item_id", "text_hash"])
@pytest.mark.parametrize("gone", [None, "text", "text_hash", "item_id"])
@pytest.mark.parametrize("floats", [False, True])
def test_one_column_sorted_alone_gives_errors_and_no_wrong_label(
    label_set: LabelSet, column: str, gone: str | None, floats: bool
) -> None:
    for seed in range(20):
        rows = rows_of()
        if floats:  # as Excel saves them: floats, lost zeros, six digits of twelve
            ids = ["284006.0", "123", "1.23457E+11", "x-1"]
            rows = [replace(row, item_id=each) for row, each in zip(rows, ids, strict=True)]
        cells = [getattr(row, column) for row in rows]
        random.Random(seed).shuffle(cells)
        moved = sum(cell != getattr(row, column) for cell, row in zip(cells, rows, strict=True))
        rows = [replace(row, **{column: cell}) for row, cell in zip(rows, cells, strict=True)]
        if gone:
            rows = [replace(row, **{gone: "" if gone == "item_id" else None}) for row in rows]
        answers, errors = check_rows(rows, ITEMS, label_set)
        assert not [each for each in answers if each.answer != TRUTH[each.item_id]]
        if gone is None and not floats:
            assert len(errors) == moved
            assert len(answers) == len(ITEMS) - moved


@pytest.mark.parametrize(
    ("n", "mangled"),
    [
        *((0, each) for each in ("284006.0", "284006,0", "2.84006E+05", "2,84006E+05", "0284006", "284006")),
        *((1, each) for each in ("123", "123.0")),  # lost zeros and digits are made good by the text
        *((2, each) for each in ("1.23457E+11", "1.23456789012E+11")),
    ],
)
def test_a_numeric_id_that_a_spreadsheet_changed_is_still_that_id(label_set: LabelSet, n: int, mangled: str) -> None:
    for fields in ({}, {"text": None}, {"text_hash": None}):
        row = replace(row_of(ITEMS[n]), item_id=mangled, **fields)
        assert given(check_rows([row], ITEMS, label_set)[0]) == {ITEMS[n].item_id: "related"}


def test_ids_that_a_spreadsheet_would_make_equal_stay_apart(label_set: LabelSet) -> None:
    items = [item("7", "one"), item("007", "two"), item("7.0", "three")]
    rows = [row_of(each, label) for each, label in zip(items, ("related", "not_related", "skip"), strict=True)]
    expected = {"7": "related", "007": "not_related", "7.0": "skip"}
    assert given(check_rows(rows, items, label_set)[0]) == expected
    assert given(check_rows([replace(row, item_id="7") for row in rows], items, label_set)[0]) == {"7": "related"}
    lost = [replace(row, item_id="7.00") for row in rows]
    assert given(check_rows(lost, items, label_set)[0]) == expected, "the texts tell them apart"


def test_an_id_that_became_a_date_or_went_missing_is_made_good_by_text_and_hash(label_set: LabelSet) -> None:
    for wrong in ("02-Jan", "", "#REF!", "1e999", "9" * 400, "٣"):
        assert given(check_rows([replace(row_of(ITEMS[3]), item_id=wrong)], ITEMS, label_set)[0]) == {"x-1": "related"}
    error = only_error(replace(row_of(ITEMS[3]), item_id="02-Jan", text_hash=None), label_set)
    assert (error.column, error.value) == ("item_id", "02-Jan")
    assert "x-1" in error.reason


def test_an_item_of_no_such_batch_is_an_error(label_set: LabelSet) -> None:
    error = only_error(row_of(item("nope", "Some other text")), label_set)
    assert (error.column, error.value) == ("item_id", "nope")
    assert BATCH in error.reason


def test_an_edited_text_is_an_error_that_shows_the_text_and_the_way_out(label_set: LabelSet) -> None:
    error = only_error(replace(row_of(ITEMS[0]), text="Floods hit hard"), label_set)
    assert (error.column, error.value) == ("text", "Floods hit hard")
    assert "'Floods hit'" in error.reason
    assert f"pal annotate {BATCH}" in error.reason
    assert only_error(replace(row_of(ITEMS[0]), text=""), label_set).column == "text"


def test_a_text_column_that_was_deleted_is_made_good_by_the_hash_and_the_other_way_round(label_set: LabelSet) -> None:
    assert given(check_rows([replace(row, text=None) for row in rows_of()], ITEMS, label_set)[0]) == TRUTH
    assert given(check_rows([replace(row, text_hash=None) for row in rows_of()], ITEMS, label_set)[0]) == TRUTH


def test_a_row_with_neither_text_nor_whole_hash_is_an_error(label_set: LabelSet) -> None:
    for broken in (None, "1.2E+31", "abc"):
        error = only_error(replace(row_of(ITEMS[0]), text=None, text_hash=broken), label_set)
        assert (error.column, error.value) == ("text_hash", broken or "")


def test_a_hash_that_a_spreadsheet_took_for_a_number_does_not_count_beside_the_text(label_set: LabelSet) -> None:
    assert check_rows([replace(row_of(ITEMS[0]), text_hash="1.2E+31")], ITEMS, label_set)[1] == []


def test_a_hash_of_another_item_is_an_error(label_set: LabelSet) -> None:
    error = only_error(replace(row_of(ITEMS[0]), text_hash=ITEMS[1].text_hash), label_set)
    assert (error.column, error.value) == ("text_hash", ITEMS[1].text_hash)


@pytest.mark.parametrize("saved", ["Zoë saw ?? in ??", "Zoë saw ? in ??"])
def test_characters_that_an_old_encoding_lacks_do_not_matter(label_set: LabelSet, saved: str) -> None:
    fire = item("f", "Zoë saw 🔥 in 東京")
    row = replace(row_of(fire), text=saved, lossy_encoding="cp1252")
    assert given(check_rows([row], [fire], label_set)[0]) == {"f": "related"}
    assert given(check_rows([replace(row, item_id="")], [fire], label_set)[0]) == {"f": "related"}
    assert only_error(replace(row, lossy_encoding=None), label_set, [fire]).column == "text"
    assert only_error(replace(row, text="Zoe saw ?? in ??"), label_set, [fire]).column == "text"


@pytest.mark.parametrize(
    ("text", "saved"),
    [
        ("'I was terrified'", "I was terrified'"),  # Google Sheets takes a leading ' for a mark
        ("Floods hit", " FLOODS\r\n hit "),
        ("007", "7"),
        ("1.50", "1.5"),
        ("123456789012", "1.23457E+11"),
        ("a\x00b\x07c", "abc"),
        ("zero\u200bwidth", "zerowidth"),
        ("x" * 50_000, "x" * 32_767),
    ],
)
def test_what_spreadsheets_do_to_a_text_by_themselves_does_not_matter(
    label_set: LabelSet, text: str, saved: str
) -> None:
    whole = item("w", text)
    assert given(check_rows([replace(row_of(whole), text=saved)], [whole], label_set)[0]) == {"w": "related"}


@pytest.mark.parametrize(("text", "saved"), [("007", "8"), ("1.50", "1.6"), ("x" * 50_000, "x" * 1000), ("abc", "7")])
def test_what_they_do_not_do_is_an_edit(label_set: LabelSet, text: str, saved: str) -> None:
    whole = item("w", text)
    assert only_error(replace(row_of(whole), text=saved), label_set, [whole]).column == "text"


def test_two_rows_that_contradict_each_other_are_both_errors(label_set: LabelSet) -> None:
    rows = [row_of(ITEMS[0], "1", 2), row_of(ITEMS[1], "1", 3), row_of(ITEMS[2], "?", 4), row_of(ITEMS[0], "0", 5)]
    answers, errors = check_rows(rows, ITEMS, label_set)
    assert given(answers) == {"00123": "related"}
    told = [(error.row, error.column, error.value) for error in errors]
    assert told == [(2, "label", "1"), (4, "label", "?"), (5, "label", "0")], "in the order of the file"
    assert all(value in errors[0].reason for value in ("row 2", "'related'", "row 5", "'not_related'"))


def test_the_same_answer_twice_is_one_answer_with_both_notes(label_set: LabelSet) -> None:
    rows = [replace(row_of(ITEMS[0], label), note=note) for label, note in (("1", "a"), ("related", ""), ("1", "b"))]
    assert check_rows(rows, ITEMS, label_set) == ([Answer("284006", "related", UNNAMED, "a; b")], [])


def test_two_annotators_may_differ(label_set: LabelSet) -> None:
    rows = [replace(row_of(ITEMS[0], "1"), annotator="anna"), replace(row_of(ITEMS[0], "0"), annotator="ben")]
    answers, errors = check_rows(rows, ITEMS, label_set)
    assert ({answer.annotator: answer.answer for answer in answers}, errors) == (
        {"anna": "related", "ben": "not_related"},
        [],
    )


def test_answers_with_times_are_a_history_and_all_are_kept_in_order(label_set: LabelSet) -> None:
    times = [datetime(2026, 1, 2, hour, tzinfo=UTC) for hour in (3, 4)]
    rows = [replace(row_of(ITEMS[0], str(n)), annotated_at=when) for n, when in enumerate(times)]
    answers, errors = check_rows(rows, ITEMS, label_set)
    assert ([answer.answer for answer in answers], errors) == (["not_related", "related"], [])
