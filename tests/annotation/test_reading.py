"""A filled file is read as what it holds, not as what it is named; an archive of them part by part."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from annotation.checks import FilledFile, FilledRow
from annotation.formats.csv_file import read_csv, write_csv
from annotation.formats.detection import PageError, format_of, read_filled
from annotation.formats.journal import Journal
from annotation.formats.registry import FORMATS
from annotation.label_set import Handout
from storage.errors import BatchError
from storage.readers.spellings import text_hash
from storage.records import Answer, BatchItem
from tasks.config.template import DISASTER

FIXTURES = Path(__file__).with_name("exchange") / "fixtures"
HANDOUT = Handout("b1", DISASTER, [BatchItem("i1", "Floods", text_hash("Floods"))])


def put(path: Path, content: str = "x") -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def rows(path: Path) -> list[FilledRow]:
    return read_filled(FilledFile(path)).rows


def test_the_format_is_told_by_the_content(tmp_path: Path) -> None:
    answer = Answer("i1", "related", "anna", "why", 1.5)
    with Journal(tmp_path / "journal.csv") as journal:
        journal.append("b1", "h", answer)
    write_csv(tmp_path / "sheet.jsonl", HANDOUT)
    (row,) = rows(tmp_path / "journal.csv")
    assert (row.item_id, row.label, row.annotator, row.note, row.seconds) == ("i1", "related", "anna", "why", 1.5)
    assert (row.text, row.text_hash, row.batch_id, row.row) == (None, "h", "b1", 1)
    assert [row.text for row in rows(tmp_path / "sheet.jsonl")] == ["Floods"]


def test_a_journal_that_windows_saved_with_a_bom_is_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append("b1", "h", Answer("i1", "related", "anna"))
    (tmp_path / "j.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "j.jsonl").read_bytes())
    assert [row.item_id for row in rows(tmp_path / "j.jsonl")] == ["i1"]


def test_a_journal_left_without_an_answer_has_no_rows_and_is_no_error(tmp_path: Path) -> None:
    Journal(tmp_path / "answers-anna.jsonl").close()
    assert rows(tmp_path / "answers-anna.jsonl") == []
    with pytest.raises(BatchError, match=r"a\.csv"):
        rows(put(tmp_path / "a.csv", ""))


def test_a_lone_surrogate_in_a_journal_becomes_what_the_lake_can_keep(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append("b1", "h", Answer("i1", "related", "anna", note="caf\udce9"))
    assert rows(tmp_path / "j.jsonl")[0].note == "caf\ufffd"


@pytest.mark.parametrize("content", ['{"a": 1}', '{\n "a": 1\n}', json.dumps({"text": "x"}) + "\n{}"])
def test_json_that_is_no_journal_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(BatchError, match=r"x\.json"):
        rows(put(tmp_path / "x.json", content))


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json*")), ids=lambda path: path.name)
def test_what_another_tool_exports_is_known_whatever_it_is_named(tmp_path: Path, path: Path) -> None:
    (tmp_path / "anything.csv").write_bytes(path.read_bytes())
    assert path.name.startswith(format_of(tmp_path / "anything.csv").name)
    assert rows(tmp_path / "anything.csv")[0].item_id == "i0"
    (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-16")
    assert rows(tmp_path / path.name) == rows(path), "as a Windows shell saves it"


def test_the_page_itself_is_refused_with_what_to_do(tmp_path: Path) -> None:
    FORMATS["html"].write(tmp_path / "batch.txt", HANDOUT)
    with pytest.raises(PageError, match=r"batch\.txt") as caught:
        rows(tmp_path / "batch.txt")
    assert "Save answers" in caught.value.hint


def test_a_format_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", "i1,Floods,1\r\n")
    assert [row.label for row in read_filled(FilledFile(path), "original").rows] == ["1"]
    with pytest.raises(BatchError, match="row 1"):
        read_filled(FilledFile(path), "prodigy")


def zipped(path: Path, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return path


def test_a_file_of_two_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    for read in (rows, read_csv):
        with pytest.raises(BatchError, match=r"2,000,000,000 "):
            read(path)


def test_the_page_in_a_folder_that_was_sent_whole_is_no_fault_unless_nothing_else_has_an_answer(tmp_path: Path) -> None:
    FORMATS["html"].write(tmp_path / "batch.html", HANDOUT)
    write_csv(tmp_path / "batch.csv", HANDOUT)
    page, sheet = (tmp_path / "batch.html").read_bytes(), (tmp_path / "batch.csv").read_bytes()
    unanswered = zipped(tmp_path / "a.zip", batch_dot_html=page, batch_dot_csv=sheet)
    (told,) = read_filled(FilledFile(unanswered)).unreadable
    assert f"{unanswered}, batch.html" in told
    filled = sheet.replace(b"Floods,,", b"Floods,1,")
    assert filled != sheet
    answered = zipped(tmp_path / "b.zip", batch_dot_html=page, batch_dot_csv=filled)
    assert read_filled(FilledFile(answered)).unreadable == []


def test_an_export_of_nothing_has_no_rows(tmp_path: Path) -> None:
    assert rows(put(tmp_path / "a.json", "[]")) == []


@pytest.mark.parametrize("first", ["Floods", "Title", "Headline", "Comment"])  # words of headers, too
def test_five_columns_without_a_header_are_the_original_scripts(tmp_path: Path, first: str) -> None:
    path = put(tmp_path / "a.csv", f"i1,{first},1,random,0.5\r\ni2,Fire,0,,\r\n")
    assert [(row.item_id, row.label, row.batch_id) for row in rows(path)] == [("i1", "1", ""), ("i2", "0", "")]
