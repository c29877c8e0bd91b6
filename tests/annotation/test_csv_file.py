"""A batch as CSV: whatever a spreadsheet does to the file, rows come back as they went out or are errors."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from handouts import known_items
from hypothesis import given
from hypothesis import strategies as st

from annotation.checks import FilledRow, RowError
from annotation.formats.csv_file import (
    read_csv,
    restored,
    write_csv,
    write_errors,
    write_rows,
)
from annotation.label_set import Handout
from storage.errors import BatchError
from storage.files.spreadsheets import neutralised
from storage.readers.spellings import text_hash
from tasks.config.template import DISASTER


def published(path: Path, texts: list[str]) -> list[list[str]]:
    """Write a batch; its rows as another program reads them."""
    write_csv(path, Handout("b0001-training", DISASTER, known_items(texts)))
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))


def saved(path: Path, rows: list[list[str]], encoding: str = "utf-8", **dialect: object) -> Path:
    """Write rows as another program does."""
    text = io.StringIO(newline="")
    csv.writer(text, **dialect).writerows(rows)  # type: ignore[arg-type]
    path.write_bytes(text.getvalue().encode(encoding, "replace"))
    return path


def intact(rows: list[FilledRow]) -> list[bool]:
    return [text_hash(row.text or "") == row.text_hash for row in rows]


def test_the_file_is_utf8_with_bom_crlf_header_and_the_promised_columns(tmp_path: Path) -> None:
    rows = published(tmp_path / "b.csv", ["plain text", "Zoë"])
    content = (tmp_path / "b.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbftext,label,note,annotator,item_id,batch_id,text_hash,workspace_id\r\n")
    assert content.count(b"\n") == content.count(b"\r\n") == 3
    assert rows[1] == ["plain text", "", "", "", "i0", "b0001-training", text_hash("plain text"), ""]


encodable = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.lists(encodable, min_size=1, max_size=5))
def test_write_and_read_of_any_text_keeps_it(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("c") / "b.csv"
    rows = published(path, texts)
    assert [restored(row[0]) for row in rows[1:]] == texts
    read = read_csv(path)
    assert [row.text for row in read] == texts
    assert all(intact(read))
    assert [row.row for row in read] == list(range(2, len(texts) + 2))
    assert {(row.batch_id, row.lossy_encoding) for row in read} == {("b0001-training", None)}


@given(st.text(st.sampled_from("'=+-@\t\r\n＝a ")) | st.text())
def test_restored_undoes_neutralised_and_nothing_dangerous_is_left(cell: str) -> None:
    written = neutralised(cell)
    assert restored(written) == cell
    assert not written.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    assert written in (cell, f"'{cell}")


def test_no_cell_of_a_published_file_is_a_formula_wherever_a_spreadsheet_splits_it(tmp_path: Path) -> None:
    published(tmp_path / "b.csv", ["a;=1+1", "b\t=1+1", "c|=1+1", "=cmd|' /C calc'!A0"])
    # LibreOffice's import splits at comma, semicolon and tab alike, outside quotes; German Excel at the semicolon.
    content = (tmp_path / "b.csv").read_text(encoding="utf-8-sig")
    for delimiter in ",;\t":
        cells = [cell for row in csv.reader(content.splitlines(), delimiter=delimiter) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))], delimiter


@pytest.mark.parametrize(
    ("encoding", "text", "label"),
    [
        ("cp1252", "Zoë spent 5 € – “quoted”", "naïve"),
        ("mac_roman", "Zoë spent 5 € – “quoted”", "naïve"),
        ("cp1250", "Łódź zalana, žluťoučký kůň", "źle"),
        ("cp1251", "Наводнение в Москве", "да"),
        ("cp1253", "Πλημμύρα στην Αθήνα", "ναι"),
        ("cp932", "東京で火事、五人けが", "火事"),
        ("gbk", "北京发生火灾，五人受伤", "火灾"),
        ("cp949", "서울에서 큰 화재 발생", "화재"),
    ],
)
def test_the_old_encoding_of_a_spreadsheet_is_told_by_the_text_hashes(
    tmp_path: Path, encoding: str, text: str, label: str
) -> None:
    rows = published(tmp_path / "b.csv", [text, "plain"])
    rows[1][1] = label
    read = read_csv(saved(tmp_path / "x.csv", rows, encoding, delimiter=";"))
    assert (read[0].text, read[0].label) == (text, label)
    assert all(intact(read))


def test_of_a_character_that_windows_1252_lacks_the_row_says_so(tmp_path: Path) -> None:
    rows = published(tmp_path / "b.csv", ["Zoë saw 🔥", "Müller"])
    read = read_csv(saved(tmp_path / "x.csv", rows, "cp1252"))
    assert [row.text for row in read] == ["Zoë saw ?", "Müller"]
    assert {row.lossy_encoding for row in read} == {"cp1252"}


def test_a_byte_that_is_no_text_does_not_stop_the_reading(tmp_path: Path) -> None:
    published(tmp_path / "b.csv", ["Québec 🔥 burns", "Montréal"])
    content = (tmp_path / "b.csv").read_bytes()
    (tmp_path / "b.csv").write_bytes(content.replace("é".encode(), b"\xe9", 1))
    read = read_csv(tmp_path / "b.csv")
    assert [row.text for row in read] == ["Qu\ufffdbec 🔥 burns", "Montréal"]
    assert intact(read) == [False, True]


@pytest.mark.parametrize("above", [[[]], [["", "", ""]], [["sep=;"]], [["Table 1"], []], [["Batch 7, by Anna"]]])
def test_rows_above_the_header_and_blank_rows_are_passed_over_and_rows_are_counted_as_in_a_spreadsheet(
    tmp_path: Path, above: list[list[str]]
) -> None:
    rows = published(tmp_path / "b.csv", ["one", "two\nlines", "three"])
    body = [*above, *rows[:2], [], ["", " ", ""], *rows[2:], [], []]
    read = read_csv(saved(tmp_path / "x.csv", body, delimiter=";"))
    assert [(row.item_id, row.row - len(above)) for row in read] == [("i0", 2), ("i1", 5), ("i2", 6)]


def test_columns_that_are_not_there_are_none_and_a_row_without_a_batch_gets_the_folders(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.csv", [["item_id", "label"], ["i0", "1"]])
    (read,) = read_csv(path, batch_id="b7")
    assert (read.text, read.text_hash, read.batch_id, read.note, read.annotator) == (None, None, "b7", "", "")
    assert read.cells["batch_id"] == "b7", "so that its line of errors can be ingested from anywhere"
    path = saved(tmp_path / "y.csv", [["item_id", "label", "batch_id"], ["i0", "1", "b8"], ["i1", "1"]])
    assert [row.batch_id for row in read_csv(path, batch_id="b7")] == ["b8", "b7"]


def test_two_columns_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.csv", [["text", "label", "Label"], ["a", "1", "0"]])
    with pytest.raises(BatchError, match=r"x\.csv.*\b2\b.*'label'"):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"id,text\r\n1,floods\r\n", "'id,text'"),
        (b"\r\n\r\n  \r\n", ""),
        (b"just a sentence, with a label", "'just a sentence, with a label'"),
        (b"", ""),
        (b"\xef\xbb\xbf", ""),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG"),
        (b"PK\x03\x04" + bytes(99), ""),
        (b'"' + b"x" * 200_000, ""),
        (bytes(range(256)) * 50, ""),
    ],
)
def test_a_file_that_is_no_batch_file_is_an_error_with_the_way_out(tmp_path: Path, content: bytes, value: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(BatchError) as caught:
        read_csv(path)
    assert "file.csv" in caught.value.what
    assert value in caught.value.what
    assert "CSV UTF-8" in caught.value.hint or "pal import" in caught.value.hint


def test_a_cell_longer_than_any_text_costs_no_other_row(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.csv", [["text", "label"], ["x" * 200_000, "1"], ["two", "1"]])
    assert [(row.row, row.text, row.label[:3]) for row in read_csv(path)] == [(2, None, "xxx"), (3, "two", "1")]


def test_rows_of_errors_stand_as_they_stood_with_the_reason_and_are_read_again(tmp_path: Path) -> None:
    published(tmp_path / "b.csv", ["=1+1", "two"])
    rows = read_csv(tmp_path / "b.csv")
    write_errors(tmp_path / "e.csv", [RowError(row.row, "label", "?", "is no answer", row.cells) for row in rows])
    again = read_csv(tmp_path / "e.csv")
    assert [(row.text, row.item_id, row.batch_id, row.text_hash) for row in again] == [
        (row.text, row.item_id, row.batch_id, row.text_hash) for row in rows
    ]
    assert all(value in again[0].cells["error"] for value in ("row 2", "label", "'?'", "is no answer"))
    write_errors(tmp_path / "f.csv", [RowError(9, "label", "!", "new", row.cells) for row in again])
    (first, _) = read_csv(tmp_path / "f.csv")
    assert all(value in first.cells["error"] for value in ("row 9", "label", "'!'", "new"))
    assert "is no answer" not in first.cells["error"]


def test_errors_of_files_with_other_columns_stand_under_one_header(tmp_path: Path) -> None:
    errors = [RowError(2, "label", "", "r", {"label": "a", "x": "1"}), RowError(3, "label", "", "r", {"y": "2"})]
    write_errors(tmp_path / "e.csv", errors)
    header, *rows = csv.reader((tmp_path / "e.csv").read_text(encoding="utf-8-sig").splitlines())
    assert header == ["label", "x", "y", "error"]
    assert [row[:3] for row in rows] == [["a", "1", ""], ["", "", "2"]]


def test_write_rows_neutralises_every_column(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.csv", [{"a": "=1", "b": "x"}, {"b": "+2"}], ["a", "b"])
    assert (tmp_path / "r.csv").read_bytes().endswith(b"a,b\r\n'=1,x\r\n,'+2\r\n")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_text_that_reads_like_a_header_under_another_delimiter_hides_no_row(tmp_path: Path, delimiter: str) -> None:
    texts = ["item_id,label,text", "Floods"]
    path = tmp_path / "a.csv"
    write_csv(path, Handout("b0001-training", DISASTER, known_items(texts)))
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = list(csv.reader(file))
    for order in (records, [records[0], records[2], records[1]]):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows(order)
        assert sorted(row.text or "" for row in read_csv(path)) == sorted(texts)


def test_rows_sorted_above_the_header_are_refused(tmp_path: Path) -> None:
    header, *rows = published(tmp_path / "b.csv", ["a fire", "rain", "a flood"])
    with (tmp_path / "b.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([*rows[:2], header, rows[2]])
    with pytest.raises(BatchError, match="a fire"):
        read_csv(tmp_path / "b.csv")
