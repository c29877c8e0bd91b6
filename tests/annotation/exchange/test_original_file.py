"""The original scripts' five columns: out as they write them, in as they or a spreadsheet leave them."""

from __future__ import annotations

from pathlib import Path

import pytest
from handouts import LABELS, NASTY, handout_of

from annotation.checks import check_rows
from annotation.formats.csv_file import write_csv
from annotation.formats.doccano import write_doccano
from annotation.formats.label_studio import write_label_studio
from annotation.formats.original_rows import is_original, read_original, write_original
from storage.errors import BatchError
from storage.readers.spellings import text_hash
from storage.records import BatchItem

FIXTURE = Path(__file__).with_name("fixtures") / "original.csv"


def test_rows_are_as_the_scripts_write_them(tmp_path: Path) -> None:
    write_original(tmp_path / "a.csv", handout_of(['he said "no"', "=1+1", "Zoë, 🔥"]))
    expected = 'i0,"he said ""no""",,entropy,0.25\r\ni1,=1+1,,,\r\ni2,"Zoë, 🔥",,,\r\n'
    assert (tmp_path / "a.csv").read_bytes() == expected.encode()


def test_what_people_leave_of_it_is_read() -> None:
    rows = read_original(FIXTURE)
    assert [(row.row, row.item_id, row.text, row.label) for row in rows] == [
        (1, "i0", "Floods hit", "1"),
        (3, "i1", "Council meets", "0"),
        (4, "i2", "Fire; two dead", "related"),
        (5, "i3", "Two\r\nlines", ""),
        (7, "i4", "Wet, wild", ""),
    ]
    assert {(row.batch_id, row.text_hash, row.annotator, row.note) for row in rows} == {("", None, "", "")}
    items = [BatchItem(row.item_id, row.text or "", text_hash(row.text or "")) for row in rows]
    answers, errors = check_rows(rows, items, LABELS)
    assert [(answer.item_id, answer.answer) for answer in answers] == [
        ("i0", "related"),
        ("i1", "not_related"),
        ("i2", "related"),
    ]
    assert not errors


@pytest.mark.parametrize(
    ("item_id", "text", "saved"),
    [
        ("007", "=1+1", "7,'=1+1,1"),
        ("123456789012345678", "-5 degrees", "1.23457E+17,-5 degrees,1"),
        ("i0", "1e5", "i0,100000,1"),
        ("i0", "+61 2 9999", "i0,'+61 2 9999,1,random,0.5"),
        ("i0", "\ttab first", "i0,tab first,1.0,,"),
    ],
)
def test_what_a_spreadsheet_makes_of_a_cell_still_matches(tmp_path: Path, item_id: str, text: str, saved: str) -> None:
    (tmp_path / "a.csv").write_text(f"{saved}\r\n", encoding="utf-8-sig", newline="")
    answers, errors = check_rows(read_original(tmp_path / "a.csv"), [BatchItem(item_id, text, text_hash(text))], LABELS)
    assert not errors
    assert [(answer.item_id, answer.answer) for answer in answers] == [(item_id, "related")]


def test_an_old_encoding_costs_no_row_its_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("i0,Zoë ? Kraków,1\r\n".encode("cp1252", "replace"))
    items = [BatchItem("i0", "Zoë 火 Kraków", text_hash("Zoë 火 Kraków"))]
    answers, errors = check_rows(read_original(tmp_path / "a.csv"), items, LABELS)
    assert (len(answers), errors) == (1, [])


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("i0,Floods hit, 3 dead,1,random,0.5", "'3 dead'"),
        ("i0,Floods hit,1,random,0.5,more", "'Floods hit, 3 dead'"),
        ('i0,"Floods hit, 3 dead,1', "'i0,\"Floods hit, 3 dead,1'"),
        ("i0", "'i0'"),
        ("1", "text_hash"),
    ],
)
def test_a_row_that_is_none_is_told_and_costs_no_other(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / "a.csv").write_text(f"{line}\r\ni1,Council meets,0\r\n", encoding="utf-8", newline="")
    items = [BatchItem("i0", "Floods hit, 3 dead", text_hash("Floods hit, 3 dead"))]
    items.append(BatchItem("i1", "Council meets", text_hash("Council meets")))
    answers, errors = check_rows(read_original(tmp_path / "a.csv"), items, LABELS)
    assert [(answer.item_id, answer.answer) for answer in answers] == [("i1", "not_related")]
    assert len(errors) == 1
    assert value in str(errors[0])


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04")
    with pytest.raises(BatchError, match=r"a\.csv"):
        read_original(tmp_path / "a.csv")
    with pytest.raises(BatchError, match=r"none\.csv"):
        read_original(tmp_path / "none.csv")


def test_its_files_are_known_by_their_rows(tmp_path: Path) -> None:
    write_original(tmp_path / "a.csv", handout_of(NASTY))
    assert is_original(tmp_path / "a.csv")
    assert is_original(FIXTURE)


def test_other_files_are_not_taken_for_it(tmp_path: Path) -> None:
    handout = handout_of(NASTY)
    write_csv(tmp_path / "batch.csv", handout)
    write_doccano(tmp_path / "a.jsonl", handout)
    write_label_studio(tmp_path / "a.json", handout)
    contents = {
        "short.csv": "text,label,item_id\r\nFloods hit,1,i0\r\n",
        "pool.csv": "i0,Floods hit\r\ni1,Council meets\r\n",
        "prose.txt": "Floods hit the town.\r\nThe council meets, it says.\r\n",
        "empty.csv": "",
        "journal.jsonl": '{"batch_id": "b", "item_id": "i0", "text_hash": "x", "answer": "related"}\n',
        "three.txt": '{"text":"a","label":["x"],"id":1}\n{"text":"b","label":[],"id":2}\n',
        "zip.csv": "PK\x03\x04",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_original(path)] == []
    assert not is_original(tmp_path / "none.csv")
    assert not is_original(tmp_path)
