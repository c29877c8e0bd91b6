"""Prodigy: tasks for its choice interface go out, and every decision of `db-out` comes back as it was taken."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from handouts import LABELS, NASTY, Filled, answered, filled, handout_of, known_items
from hypothesis import given

from annotation.checks import check_rows
from annotation.formats.json_entries import read_entries
from annotation.formats.prodigy import is_prodigy, read_prodigy, write_prodigy
from storage.errors import BatchError

FIXTURE = Path(__file__).with_name("fixtures") / "prodigy.jsonl"


def db_out(imported: Path, given: Filled) -> list[dict[str, Any]]:
    """What annotators decided in named sessions, task by task; `note` is the field of a text input."""
    found = []
    for session, answers in given.answers.items():
        for number, line in enumerate(imported.read_text(encoding="utf-8").splitlines()):
            task = json.loads(line)
            answer, note = answers.get(task["meta"]["item_id"], ("", ""))
            if not answer:
                continue
            assert answer == "skip" or answer in [option["id"] for option in task["options"]]
            task |= {"_input_hash": -number, "_task_hash": number, "_view_id": "choice"}
            task |= {
                "accept": [] if answer == "skip" else [answer],
                "answer": "ignore" if answer == "skip" else "accept",
            }
            task |= {"note": note} if note else {}
            found.append(task | {"_timestamp": 1767323045, "_annotator_id": session, "_session_id": session})
    return found


@given(filled(["headlines-anna", "headlines-bo"]))
def test_answers_come_back_whatever_the_texts_are(tmp_path_factory: pytest.TempPathFactory, given: Filled) -> None:
    folder = tmp_path_factory.mktemp("prodigy")
    write_prodigy(folder / "prodigy.jsonl", given.handout)
    lines = [json.dumps(task, ensure_ascii=False) + "\n" for task in db_out(folder / "prodigy.jsonl", given)]
    (folder / "out.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    assert answered(read_prodigy(folder / "out.jsonl"), given.handout) == given.answers


def test_the_export_is_read_as_documented() -> None:
    rows = read_prodigy(FIXTURE)
    assert [(row.row, row.item_id, row.annotator, row.label, row.note) for row in rows] == [
        (1, "i0", "headlines-anna", "related", "clear"),
        (2, "i1", "headlines-anna", "skip", ""),
        (3, "i1", "headlines-bo", "", ""),
        (4, "i1", "headlines-bo", "reject: related", ""),
        (5, "i0", "", "related, unsure", ""),
        (6, "i0", "headlines-cy", "related", ""),
        (7, "i1", "headlines-cy", "not_related", ""),
        (8, "i1", "headlines-dee", "reject: related", ""),
        (9, "i1", "", "", ""),
    ]
    assert [row.annotated_at for row in rows[::8]] == [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None]
    _, errors = check_rows(rows, known_items(), LABELS)
    assert [error.row for error in errors] == [4, 5, 8]


def test_the_file_given_back_untouched_answers_nothing(tmp_path: Path) -> None:
    handout = handout_of(NASTY, context="bo: related", annotator="anna")
    write_prodigy(tmp_path / "a.jsonl", handout)
    rows = read_prodigy(tmp_path / "a.jsonl")
    assert [(row.item_id, row.text, row.label) for row in rows] == [(i.item_id, i.text, "") for i in handout.items]
    assert {row.annotator for row in rows} == {"anna"}
    entries = [entry.values for entry in read_entries(tmp_path / "a.jsonl")]
    assert [option["id"] for option in entries[0]["options"]] == [*LABELS.names, "unsure"]
    assert entries[-1]["meta"]["context"] == "bo: related"


def test_of_three_labels_a_rejected_one_leaves_no_answer(tmp_path: Path) -> None:
    options = [{"id": name, "text": name} for name in ("a", "b", "c", "unsure")]
    task = {"text": "x", "label": "a", "options": options, "answer": "reject"}
    (tmp_path / "a.jsonl").write_text(json.dumps(task), encoding="utf-8")
    assert [row.label for row in read_prodigy(tmp_path / "a.jsonl")] == ["reject: a"]


@pytest.mark.parametrize(
    ("task", "value"),
    [
        ({"text": "x", "answer": "maybe"}, "'maybe'"),
        ({"text": "x", "answer": {}}, ""),
        ({"text": "x", "answer": "accept", "_timestamp": 10**40}, str(10**40)),
        ({"text": "x", "answer": "reject", "options": ["a"]}, "'options'"),
    ],
)
def test_what_prodigy_does_not_write_is_refused(tmp_path: Path, task: dict[str, Any], value: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n' + json.dumps(task) + "\n", encoding="utf-8")
    with pytest.raises(BatchError) as error:
        read_prodigy(tmp_path / "a.jsonl")
    assert "a.jsonl, row 2: " in error.value.what
    assert value in error.value.what


def test_a_powershell_redirection_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(FIXTURE.read_text(encoding="utf-8").replace("\n", "\r\n").encode("utf-16"))
    assert [row.label for row in read_prodigy(tmp_path / "a.jsonl")] == [row.label for row in read_prodigy(FIXTURE)]


def test_odd_values_are_no_crash(tmp_path: Path) -> None:
    task = {"text": None, "meta": "seen", "answer": "accept", "accept": 3, "_annotator_id": 7, "item_id": "i0"}
    (tmp_path / "a.jsonl").write_text(json.dumps(task), encoding="utf-8")
    (row,) = read_prodigy(tmp_path / "a.jsonl", batch_id="b9")
    assert (row.text, row.label, row.annotator, row.item_id, row.batch_id) == (None, "3", "7", "i0", "b9")


def test_its_entries_are_known() -> None:
    assert all(is_prodigy(entry.values) for entry in read_entries(FIXTURE))
