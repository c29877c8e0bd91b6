"""Batch files in a real spreadsheet: LibreOffice fills them in, sorts and saves them, and the same labels come back."""

from __future__ import annotations

import csv
import itertools
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import openpyxl
import pytest
from handouts import IDS, NASTY
from libreoffice import (
    CSV_QUOTED,
    CSV_SEMICOLON,
    CSV_UTF8,
    CSV_UTF16_TABS,
    CSV_WINDOWS,
    OLD_WORKBOOK,
    OPEN_DOCUMENT,
    WORKBOOK,
    Edit,
    Office,
    Saved,
    libreoffice,
)

from annotation.checks import FilledRow, RowError, check_rows
from annotation.formats.csv_file import read_csv, write_csv
from annotation.formats.workbook import read_workbook, write_workbook
from annotation.label_set import Handout, LabelSet
from storage.errors import BatchError
from storage.readers.spellings import text_hash
from storage.records import Answer, BatchItem

BATCH = "b0001-training"
SHEETS = [
    "Floods hit Québec, 3 dead – “Zoë”",
    "#N/A",
    "TRUE",
    "2026-01-02",
    "_x000D_ and _x0041_",
    "=cmd|' /C calc'!A0",
]
SHEETS += ["_x000D_ and _x0041_", "'=both", "bell\x07, \x0b tab", "x" * 32_767]
# Saved as Windows-1252, U+2028 and U+0085 become other characters: such a row is an error.
DISTINCT = {text_hash(text): text for text in [*NASTY, *SHEETS] if "\u2028" not in text}.values()
TEXTS = dict(zip([*IDS, *(f"i{n}" for n in range(99))], DISTINCT, strict=False))
CSVS = {
    "utf8.csv": CSV_UTF8,
    "quoted.csv": CSV_QUOTED,
    "semicolon.csv": CSV_SEMICOLON,
    "utf16.txt": CSV_UTF16_TABS,
    "windows.csv": CSV_WINDOWS,
}
EDITS: list[Edit] = [
    ("sort", "text", True),
    ("insert_columns", 1, "my column", "seen"),
    ("move_column_to_front", "text_hash"),
    ("delete_rows", 3, 2),
    ("insert_rows", 10, 4),
    ("hide_rows", 20, 5),
    ("rename", "finished"),
]


def items_of(texts: Mapping[str, str]) -> list[BatchItem]:
    return [BatchItem(item_id, text, text_hash(text)) for item_id, text in texts.items()]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with libreoffice(tmp_path_factory.mktemp("office")) as running:
        yield running


@pytest.fixture
def handout(label_set: LabelSet) -> Handout:
    return Handout(BATCH, label_set, items_of(TEXTS), "anna")


@pytest.fixture
def real_handout(label_set: LabelSet, real_data: Path) -> Handout:
    with (real_data / "unlabeled_data" / "unlabeled_data.csv").open(encoding="utf-8", newline="") as file:
        distinct = {text_hash(row[1]): BatchItem(row[0], row[1], text_hash(row[1])) for row in csv.reader(file)}
    return Handout(BATCH, label_set, [*itertools.islice(distinct.values(), 200), *items_of(TEXTS)])


def labels_for(items: Sequence[BatchItem]) -> dict[str, str]:
    """item_id -> what its annotator writes."""
    ways = itertools.cycle(["related", "1", "not_related", "0", "unsure", "skip"])
    return {item.item_id: next(ways) for item in items}


def read(path: Path) -> list[FilledRow]:
    return read_workbook(path) if path.suffix == ".xlsx" else read_csv(path)


def came_back(path: Path, handout: Handout) -> tuple[dict[str, str], list[RowError]]:
    """item_id -> answer."""
    answers, errors = check_rows(read(path), handout.items, handout.label_set)
    return {answer.item_id: answer.answer for answer in answers}, errors


def meant(labels: dict[str, str], label_set: LabelSet) -> dict[str, str]:
    return {item_id: str(label_set.answer(label)) for item_id, label in labels.items()}


def saves(folder: Path) -> dict[Path, Saved]:
    return {folder / name: how for name, how in {"filled.xlsx": WORKBOOK, **CSVS}.items()}


def by_row(handout: Handout, labels: dict[str, str]) -> dict[str, str]:
    """The labels by what stands in the column text_hash, which no spreadsheet changes."""
    return {item.text_hash: labels[item.item_id] for item in handout.items}


def publish(path: Path, handout: Handout) -> Saved:
    """Write a batch file; how LibreOffice is told to read it."""
    (write_workbook if path.suffix == ".xlsx" else write_csv)(path, handout)
    return ("", "") if path.suffix == ".xlsx" else CSV_UTF8


@pytest.mark.parametrize("name", ["batch.xlsx", "batch.csv"])
def test_a_file_filled_in_and_saved_in_any_way_gives_the_same_labels_for_real_headlines(
    tmp_path: Path, office: Office, real_handout: Handout, name: str
) -> None:
    labels = labels_for(real_handout.items)
    how = publish(tmp_path / name, real_handout)
    office.edit(tmp_path / name, saves(tmp_path), [("fill", "label", by_row(real_handout, labels))], read_as=how)
    for path in saves(tmp_path):
        assert came_back(path, real_handout) == (meant(labels, real_handout.label_set), []), path.name


@pytest.mark.parametrize("name", ["batch.xlsx", "batch.csv"])
def test_sorted_moved_added_deleted_and_hidden_rows_and_columns_change_no_answer(
    tmp_path: Path, office: Office, handout: Handout, name: str
) -> None:
    labels = labels_for(handout.items)
    how = publish(tmp_path / name, handout)
    edits = [("fill", "label", by_row(handout, labels)), *EDITS]
    office.edit(tmp_path / name, saves(tmp_path), edits, read_as=how)
    for path in saves(tmp_path):
        answers, errors = came_back(path, handout)
        assert errors == [], path.name
        assert len(answers) == len(TEXTS) - 2
        assert answers.items() <= meant(labels, handout.label_set).items()
        rows = read(path)
        assert [row.item_id for row in rows] != [item.item_id for item in handout.items if item.item_id in answers]
        assert {row.cells["my column"] for row in rows} == {"seen"}
        assert {row.annotator for row in rows} == {"anna"}


def test_a_text_that_a_spreadsheet_takes_for_a_time_or_a_price_is_kept_by_a_workbook_and_told_of_a_csv(
    tmp_path: Path, office: Office, label_set: LabelSet
) -> None:
    handout = Handout(BATCH, label_set, items_of({"a": "12:30", "b": "1,234.50", "c": "1/2/2026", "d": "Storm"}))
    labels = labels_for(handout.items)
    edits = [("fill", "label", by_row(handout, labels))]
    write_workbook(tmp_path / "batch.xlsx", handout)
    office.edit(tmp_path / "batch.xlsx", saves(tmp_path), edits)
    for path in saves(tmp_path):
        assert came_back(path, handout) == (meant(labels, label_set), []), path.name
    write_csv(tmp_path / "batch.csv", handout)
    office.edit(tmp_path / "batch.csv", {tmp_path / "filled.csv": CSV_UTF8}, edits, read_as=CSV_UTF8)
    answers, errors = came_back(tmp_path / "filled.csv", handout)
    assert answers.keys() | {handout.items[error.row - 2].item_id for error in errors} == labels.keys()
    assert answers.items() <= meant(labels, label_set).items()
    assert {error.column for error in errors} == {"text"}


@pytest.mark.parametrize("separators", ["44", "59", "9", "44/59/9"])
def test_a_csv_opened_with_the_wrong_separators_runs_nothing(
    tmp_path: Path, office: Office, handout: Handout, separators: str
) -> None:
    write_csv(tmp_path / "batch.csv", handout)
    how = ("Text - txt - csv (StarCalc)", f"{separators},34,76,1")
    office.edit(tmp_path / "batch.csv", {tmp_path / "saved.xlsx": WORKBOOK}, read_as=how)
    with zipfile.ZipFile(tmp_path / "saved.xlsx") as parts:
        assert not re.search(b"<f[ >]", parts.read("xl/worksheets/sheet1.xml"))


def test_a_workbook_opened_and_saved_still_guards_the_items_and_offers_the_answers(
    tmp_path: Path, office: Office, handout: Handout
) -> None:
    write_workbook(tmp_path / "batch.xlsx", handout)
    office.edit(tmp_path / "batch.xlsx", {tmp_path / "saved.xlsx": WORKBOOK})
    workbook = openpyxl.load_workbook(tmp_path / "saved.xlsx")
    sheet, last = workbook["items"], len(TEXTS) + 1
    rules = {each.type: each for each in sheet.data_validations.dataValidation}
    assert set(rules) == {"list", "custom"}
    assert str(rules["list"].sqref) == f"B2:B{last}"
    assert all(answer in rules["list"].error for answer in ("related", "1", "not_related", "0", "unsure", "skip"))
    place = rules["list"].formula1.replace("definition!", "").replace("$", "")
    offered = [cell.value for (cell,) in workbook["definition"][place]]
    assert offered == ["related", "not_related", "unsure", "skip", "1", "0"]
    assert set(str(rules["custom"].sqref).split()) >= {f"A2:A{last}"}
    assert (rules["custom"].showErrorMessage, rules["custom"].errorStyle) == (True, "stop")
    assert (sheet.freeze_panes, sheet.auto_filter.ref) == ("A2", f"A1:H{last}")
    assert {cell.number_format for row in sheet.iter_rows(max_row=last) for cell in row} == {"@"}
    assert len(sheet.conditional_formatting) == 1
    with zipfile.ZipFile(tmp_path / "saved.xlsx") as parts:
        assert not re.search(b"<f[ >]", parts.read("xl/worksheets/sheet1.xml"))


def test_what_a_spreadsheet_makes_of_a_typed_label_is_taken_or_told(
    tmp_path: Path, office: Office, handout: Handout
) -> None:
    typed = ["1", "0.0", "related", "2026-01-02", "=1+1", "TRUE", "=NA()", "50%"]
    labels = dict(zip((item.text_hash for item in handout.items), typed, strict=False))
    write_workbook(tmp_path / "batch.xlsx", handout)
    office.edit(tmp_path / "batch.xlsx", {tmp_path / "saved.xlsx": WORKBOOK}, [("type", "label", labels)])
    answers, errors = came_back(tmp_path / "saved.xlsx", handout)
    assert list(answers.values()) == ["related", "not_related", "related"]
    assert [error.value for error in errors] == ["2026-01-02", "2", "TRUE", "#N/A", "0.5"]
    assert [error.row for error in errors] == [5, 6, 7, 8, 9]


def test_the_annotator_of_a_row_is_who_writes_over_the_name(tmp_path: Path, office: Office, handout: Handout) -> None:
    first = handout.items[0]
    edits = [("fill", "label", {first.text_hash: "1"}), ("fill", "annotator", {first.text_hash: "Zoë"})]
    write_workbook(tmp_path / "batch.xlsx", handout)
    edits.append(("fill", "note", {first.text_hash: "=not sure, 'ask'\nthem"}))
    office.edit(tmp_path / "batch.xlsx", saves(tmp_path), edits)
    for path in saves(tmp_path):
        answers, _ = check_rows(read(path), handout.items, handout.label_set)
        assert answers == [Answer("284006", "related", "Zoë", "=not sure, 'ask'\nthem")], path.name


@pytest.mark.parametrize(
    ("name", "how", "kind"), [("batch.xls", OLD_WORKBOOK, "(.xls)"), ("batch.ods", OPEN_DOCUMENT, "(.ods)")]
)
def test_other_formats_of_spreadsheets_are_named_with_the_way_out(
    tmp_path: Path, office: Office, handout: Handout, name: str, how: Saved, kind: str
) -> None:
    write_workbook(tmp_path / "batch.xlsx", handout)
    office.edit(tmp_path / "batch.xlsx", {tmp_path / name: how})
    with pytest.raises(BatchError) as caught:
        read_workbook(tmp_path / name)
    assert all(value in caught.value.what for value in (str(tmp_path / name), kind))
    assert ".xlsx" in caught.value.hint
