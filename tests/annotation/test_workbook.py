"""A batch as a workbook: easy to fill in, hard to spoil, and read back whatever was done to it."""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import openpyxl
import pytest
from handouts import IDS, NASTY
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.worksheet.worksheet import Worksheet

from annotation.checks import FilledRow, check_rows
from annotation.formats.csv_file import COLUMNS, CONTEXT_COLUMN
from annotation.formats.workbook import MOST_IN_AN_EXCEL_CELL, read_workbook, write_workbook
from annotation.label_set import Handout, Label, LabelSet
from storage.errors import BatchError
from storage.files.spreadsheets import restored
from storage.readers.sheets import WorkbookReader
from storage.readers.spellings import text_hash
from storage.records import BatchItem, Proposal

BATCH = "b0001-training"
NUL = "nul\x00, \x01 bell\x07, \x1b[0m, \x0b\x0c tabs, \x1c\x1f\x7f\x85"
ODD = ["\rreturned", "two\r\nlines", "lone\rreturn", NUL, "\ufffe\uffff\ufdd0", "'=both", "'\ttabbed"]
ODD += ["_x000D_ and _x0041_", "_x000D_x000D_", "_x005F_x000D_", "x005F_", "text", "label", "x" * 32_767, "y" * 40_000]
TEXTS = [text for text in NASTY if "\r" not in text and "\x00" not in text] + ODD


def items_of(texts: Sequence[str]) -> list[BatchItem]:
    ids = itertools.chain(IDS, (f"i{n}" for n in itertools.count()))
    return [BatchItem(item_id, text, text_hash(text)) for item_id, text in zip(ids, texts, strict=False)]


@pytest.fixture
def handout(label_set: LabelSet) -> Handout:
    return Handout(BATCH, label_set, items_of(TEXTS))


def published(path: Path, handout: Handout) -> tuple[openpyxl.Workbook, Worksheet]:
    """Write a handout, and open it as another program does."""
    write_workbook(path, handout)
    workbook = openpyxl.load_workbook(path)
    return workbook, workbook["items"]


def column(sheet: Worksheet, name: str) -> int:
    return [cell.value for cell in sheet[1]].index(name) + 1


def fill(sheet: Worksheet, answers: Sequence[object]) -> None:
    for row, answer in enumerate(answers, start=2):
        sheet.cell(row, column(sheet, "label")).value = answer  # type: ignore[assignment]


def saved(workbook: openpyxl.Workbook, path: Path) -> list[FilledRow]:
    workbook.save(path)
    return read_workbook(path)


def test_the_columns_are_those_of_the_csv_in_their_order_and_all_cells_are_text(
    tmp_path: Path, handout: Handout
) -> None:
    handout = replace(handout, annotator="anna")
    workbook, sheet = published(tmp_path / "b.xlsx", handout)
    assert workbook.sheetnames == ["items", "definition"]
    header, *rows = sheet.iter_rows()
    assert tuple(cell.value for cell in header) == COLUMNS
    assert len(rows) == len(TEXTS)
    for row, item in zip(rows, handout.items, strict=True):
        filled = dict(zip(COLUMNS, row, strict=True))
        assert {cell.number_format for cell in row} == {"@"}
        assert {cell.data_type for cell in row if cell.value is not None} == {"s"}
        assert all(cell.quotePrefix for cell in row if cell.value is not None)
        shown = [filled[name].value for name in ("label", "note", "annotator", "batch_id", "text_hash")]
        assert shown == [None, None, "anna", BATCH, item.text_hash]


def test_a_text_is_changed_only_where_no_spreadsheet_can_hold_it(tmp_path: Path, handout: Handout) -> None:
    write_workbook(tmp_path / "b.xlsx", handout)
    read = {item.text: row.text for item, row in zip(handout.items, read_workbook(tmp_path / "b.xlsx"), strict=True)}
    changed = {text: shown for text, shown in read.items() if text != shown}
    assert changed.pop("y" * 40_000) == "y" * MOST_IN_AN_EXCEL_CELL
    assert changed == {
        "\rreturned": "\nreturned",
        "two\r\nlines": "two\nlines",
        "lone\rreturn": "lone\nreturn",
        "\ufffe\uffff\ufdd0": "\ufdd0",
        NUL: "nul,  bell, [0m, \n\n tabs, \n\n\x7f\x85",
    }


@pytest.fixture(scope="module")
def workbooks() -> WorkbookReader:
    """One process for many workbooks."""
    return WorkbookReader()


@example(["'\r\x080"])
@given(st.lists(st.text() | st.text("_x0D5F\r\n\x00'= "), min_size=1, max_size=5, unique_by=text_hash))
def test_any_text_comes_back_as_its_item(
    tmp_path_factory: pytest.TempPathFactory, workbooks: WorkbookReader, texts: list[str]
) -> None:
    labels = LabelSet("t", "?", "", (Label("yes", "1"), Label("no", "0")))
    items = [BatchItem(f"i{n}", text, text_hash(text)) for n, text in enumerate(texts)]
    path = tmp_path_factory.mktemp("w") / "b.xlsx"
    write_workbook(path, Handout(BATCH, labels, items))
    rows = [replace(row, label="1") for row in read_workbook(path, workbooks=workbooks)]
    answers, errors = check_rows(rows, items, labels)
    assert errors == []
    assert [answer.item_id for answer in answers] == [item.item_id for item in items]


PRINTABLE = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")


@given(st.lists(st.text(PRINTABLE) | st.text("_x0D5F'= "), min_size=1, max_size=5))
def test_ids_and_notes_of_printable_characters_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, workbooks: WorkbookReader, values: list[str]
) -> None:
    labels = LabelSet("t", "?", "", (Label("yes", "1"), Label("no", "0")))
    items = [BatchItem(value, "a", text_hash("a"), context=value) for value in values]
    path = tmp_path_factory.mktemp("w") / "b.xlsx"
    write_workbook(path, Handout(BATCH, labels, items))
    read = read_workbook(path, workbooks=workbooks)
    assert [row.item_id for row in read] == [restored(value).strip() for value in values]
    shown = [row.cells.get(CONTEXT_COLUMN, "") for row in read]
    assert shown == [restored(value) if value.strip() else "" for value in values], "of white space alone nothing shows"


def test_a_text_of_two_unit_characters_is_cut_between_them(tmp_path: Path, label_set: LabelSet) -> None:
    write_workbook(tmp_path / "b.xlsx", Handout(BATCH, label_set, items_of(["x" + "🔥" * 20_000])))
    assert read_workbook(tmp_path / "b.xlsx")[0].text == "x" + "🔥" * (MOST_IN_AN_EXCEL_CELL // 2)


def test_the_label_is_chosen_from_names_first_then_unsure_and_skip_then_keys(tmp_path: Path, handout: Handout) -> None:
    workbook, sheet = published(tmp_path / "b.xlsx", handout)
    (choice,) = (each for each in sheet.data_validations.dataValidation if each.type == "list")
    assert str(choice.sqref) == f"B2:B{len(TEXTS) + 1}"
    assert (choice.showErrorMessage, choice.errorStyle in (None, "stop"), choice.allowBlank) == (True, True, True)
    assert all(answer in str(choice.error) for answer in ("related", "1", "not_related", "0", "unsure", "skip"))
    place = choice.formula1.removeprefix("'definition'!").replace("$", "")
    offered = [cell.value for (cell,) in workbook["definition"][place]]
    assert offered == ["related", "not_related", "unsure", "skip", "1", "0"]
    assert all(handout.label_set.answer(each) for each in offered)


def test_many_and_odd_labels_are_offered_and_their_message_fits_into_what_excel_allows(
    tmp_path: Path, handout: Handout
) -> None:
    labels = tuple(Label(f'a, rather "long" =label\' number {n}', key) for n, key in enumerate("123456789abcefg"))
    odd = (Label("1e5", "z"), Label("=1+1", "y"), Label("x", "x"))
    many = replace(handout, label_set=LabelSet("t", "Which?", "", (*labels, *odd)))
    workbook, sheet = published(tmp_path / "b.xlsx", many)
    (choice,) = (each for each in sheet.data_validations.dataValidation if each.type == "list")
    assert choice.error is not None
    assert len(choice.error) <= 224
    assert "definition" in choice.error
    place = choice.formula1.removeprefix("'definition'!").replace("$", "")
    offered = [cell.value for (cell,) in workbook["definition"][place]]
    assert offered[:18] == list(many.label_set.names)
    assert len(offered) == len(set(offered)) == 18 + 2 + 17
    assert {cell.data_type for (cell,) in workbook["definition"][place]} == {"s"}


def test_what_says_the_item_is_not_typed_over_yet_the_sheet_can_be_sorted(tmp_path: Path, handout: Handout) -> None:
    _, sheet = published(tmp_path / "b.xlsx", handout)
    (fixed,) = (each for each in sheet.data_validations.dataValidation if each.type == "custom")
    last = len(TEXTS) + 1
    assert set(str(fixed.sqref).split()) == {f"{letter}2:{letter}{last}" for letter in "AEFGH"}
    assert (fixed.formula1, fixed.showErrorMessage, fixed.allowBlank) == ("FALSE", True, False)
    assert not sheet.protection.sheet, "Excel sorts no rows that have a locked cell"


def test_the_sheet_is_laid_out_to_be_read_and_printed(tmp_path: Path, handout: Handout) -> None:
    _, sheet = published(tmp_path / "b.xlsx", handout)
    last = len(TEXTS) + 1
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", f"A1:H{last}")
    assert sheet.print_title_rows == "$1:$1"
    assert sheet.print_area == f"'items'!$A$1:$D${last}", "ids are not printed"
    assert (sheet.page_setup.orientation, sheet.page_setup.fitToHeight) == ("landscape", 0)
    assert sheet["A2"].alignment.wrap_text
    short, two_lines, long = (sheet.row_dimensions[TEXTS.index(each) + 2].height for each in ("=1+1", ODD[1], ODD[-1]))
    assert short < two_lines < long <= 409
    colors = {sheet.cell(2, n + 1).fill.start_color.rgb for n, name in enumerate(COLUMNS) if name != "label"}
    assert sheet["B2"].fill.start_color.rgb not in colors
    assert sheet.sheet_view.selection[0].activeCell == "B2"
    assert [str(each.sqref) for each in sheet.conditional_formatting] == [f"B2:B{last}"]


def test_the_second_sheet_says_what_is_asked_and_is_no_table_of_answers(tmp_path: Path, handout: Handout) -> None:
    workbook, _ = published(tmp_path / "b.xlsx", handout)
    rows = {key: text for key, text in workbook["definition"].iter_rows(values_only=True) if key}
    assert rows["Question"] == handout.label_set.question
    assert rows["Definition"] == handout.label_set.definition
    assert "1" in str(rows["related"])
    assert "not_related" in str(rows["0"])
    assert "pal ingest" in str(rows["Return"])
    assert len(read_workbook(tmp_path / "b.xlsx")) == len(TEXTS)


def test_an_adjudicator_sees_the_answers_so_far_and_others_no_such_column(tmp_path: Path, handout: Handout) -> None:
    items = [handout.items[0], replace(handout.items[1], context="anna: related\nben: =not_related")]
    _, sheet = published(tmp_path / "b.xlsx", replace(handout, items=items))
    names = [cell.value for cell in sheet[1]]
    assert names == [*COLUMNS[:3], CONTEXT_COLUMN, *COLUMNS[3:]]
    assert [cell.value for cell in sheet["D"]] == [CONTEXT_COLUMN, None, "anna: related\nben: =not_related"]
    fixed = next(each for each in sheet.data_validations.dataValidation if each.type == "custom")
    assert set(str(fixed.sqref).split()) == {"A2:A3", "F2:F3", "G2:G3", "H2:H3", "I2:I3"}
    assert read_workbook(tmp_path / "b.xlsx")[1].cells[CONTEXT_COLUMN] == "anna: related\nben: =not_related"


def test_nothing_that_would_bias_an_answer_is_in_the_file(tmp_path: Path, handout: Handout) -> None:
    proposals = {item.item_id: Proposal(item.item_id, "entropy", 0.123456, 1) for item in handout.items}
    write_workbook(tmp_path / "a.xlsx", handout)
    write_workbook(tmp_path / "b.xlsx", replace(handout, proposals=proposals))
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()


def test_the_same_handout_is_the_same_bytes_at_any_time(tmp_path: Path, handout: Handout) -> None:
    workbook, _ = published(tmp_path / "a.xlsx", handout)
    write_workbook(tmp_path / "b.xlsx", handout)
    assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()
    assert workbook.properties.created == workbook.properties.modified == datetime(2000, 1, 1)
    with zipfile.ZipFile(tmp_path / "a.xlsx") as parts:
        assert {part.date_time for part in parts.infolist()} == {(2000, 1, 1, 0, 0, 0)}
    write_workbook(tmp_path / "c.xlsx", replace(handout, annotator="anna"))
    assert (tmp_path / "a.xlsx").read_bytes() != (tmp_path / "c.xlsx").read_bytes()


@pytest.mark.parametrize(
    ("cell", "label", "means"),
    [
        ("related", "related", "related"),
        (1, "1", "related"),
        (0.0, "0", "not_related"),
        (1234567890123456, "1234567890123456", None),
        ("1", "1", "related"),
        (True, "TRUE", None),
        (date(2026, 1, 2), "2026-01-02", None),
        ('="rel"&"ated"', '="rel"&"ated"', None),
        ("#N/A", "#N/A", None),
        (0.5, "0.5", None),
        (CellRichText("re", TextBlock(InlineFont(b=True), "lated")), "related", "related"),
    ],
)
def test_a_label_of_any_kind_of_cell_is_what_it_shows(
    tmp_path: Path, handout: Handout, cell: object, label: str, means: str | None
) -> None:
    workbook, sheet = published(tmp_path / "b.xlsx", handout)
    fill(sheet, [cell])
    rows = saved(workbook, tmp_path / "c.xlsx")
    assert rows[0].label == label
    answers, errors = check_rows(rows, handout.items, handout.label_set)
    assert [answer.answer for answer in answers] == ([means] if means else [])
    assert [(error.row, error.column, error.value) for error in errors] == ([] if means else [(2, "label", label)])


def test_sorted_moved_added_deleted_hidden_and_blank_rows_and_columns_change_no_answer(
    tmp_path: Path, handout: Handout
) -> None:
    workbook, sheet = published(tmp_path / "b.xlsx", handout)
    draw = itertools.cycle(["related", "0", " UNSURE ", "skip", None])
    fill(sheet, [next(draw) for _ in TEXTS])
    expected, errors = check_rows(saved(workbook, tmp_path / "c.xlsx"), handout.items, handout.label_set)
    assert (len(expected), errors) == (len(TEXTS) - len(TEXTS) // 5, [])
    sheet.insert_cols(2)
    sheet["B1"], sheet["B5"] = "my Column", "seen"
    sheet.insert_cols(1, 2)
    sheet.move_range(f"J1:J{len(TEXTS) + 1}", cols=-9)
    sheet["A1"] = " TEXT_Hash "
    sheet.insert_rows(10, 3)
    sheet.insert_rows(1, 4)
    sheet["C1"] = "Batch 7, by Anna"
    sheet.delete_rows(6)
    sheet.row_dimensions[20].hidden = True
    sheet.title = "fertig"
    workbook.move_sheet("definition", -1)
    rows = saved(workbook, tmp_path / "d.xlsx")
    answers, errors = check_rows(rows, handout.items, handout.label_set)
    assert errors == []
    assert answers == expected[1:]
    assert rows[0].row == 6
    assert rows[2].cells["my column"] == "seen"
    assert {row.part for row in rows} == {""}


def test_the_rows_of_every_sheet_count_and_an_error_says_which_sheet(tmp_path: Path, handout: Handout) -> None:
    workbook, sheet = published(tmp_path / "b.xlsx", handout)
    second = workbook.copy_worksheet(sheet)
    second.title = "Anna 2"
    second.delete_rows(2, 1)
    fill(sheet, ["related"])
    fill(second, ["relatd"])
    rows = saved(workbook, tmp_path / "c.xlsx")
    assert {row.part for row in rows} == {"items", "Anna 2"}
    answers, (error,) = check_rows(rows, handout.items, handout.label_set)
    assert [answer.item_id for answer in answers] == [IDS[0]]
    assert all(value in str(error) for value in ("Anna 2, row 2", "label", "'relatd'"))


def test_rows_that_were_moved_to_a_sheet_without_a_header_are_not_lost(tmp_path: Path, handout: Handout) -> None:
    workbook, sheet = published(tmp_path / "b.xlsx", handout)
    fill(sheet, ["related", "not_related"])
    moved, notes = workbook.create_sheet("done"), workbook.create_sheet("notes")
    for column_number in range(1, sheet.max_column + 1):
        moved.cell(1, column_number).value = sheet.cell(2, column_number).value
        moved.cell(1, column_number).data_type = "s"
    sheet.delete_rows(2, 1)
    notes["A1"].value = "ask anna about these"
    answers, errors = check_rows(saved(workbook, tmp_path / "c.xlsx"), handout.items, handout.label_set)
    assert errors == []
    assert {answer.item_id: answer.answer for answer in answers} == {IDS[0]: "related", IDS[1]: "not_related"}


def test_rows_of_another_folder_get_its_batch_where_they_name_none(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    workbook.worksheets[0].append(["item_id", "label"])
    workbook.worksheets[0].append(["i0", "1"])
    workbook.save(tmp_path / "b.xlsx")
    (row,) = read_workbook(tmp_path / "b.xlsx", batch_id="b7")
    assert (row.batch_id, row.cells["batch_id"], row.text, row.text_hash) == ("b7", "b7", None, None)


@pytest.mark.parametrize("above", [9, 10])
def test_a_workbook_without_the_header_in_its_first_rows_is_no_batch_file(
    tmp_path: Path, handout: Handout, above: int
) -> None:
    workbook, sheet = published(tmp_path / "b.xlsx", handout)
    sheet.insert_rows(1, above)
    for row in range(1, above + 1):
        sheet.cell(row, 2).value, sheet.cell(row, 3).value = "some", "title"
    if above < 10:
        assert len(saved(workbook, tmp_path / "c.xlsx")) == len(TEXTS)
        return
    with pytest.raises(BatchError) as caught:
        saved(workbook, tmp_path / "c.xlsx")
    assert "'some, title'" in caught.value.what
    assert "text,label,note" in caught.value.hint
