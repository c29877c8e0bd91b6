"""doccano: items and labels go out, and the file of each annotator comes back as it was filled in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from handouts import LABELS, handout_of, known_items

from annotation.checks import check_rows
from annotation.formats.doccano import doccano_annotator, doccano_labels, read_doccano, write_doccano

FIXTURE = Path(__file__).with_name("fixtures") / "doccano.jsonl"


def test_the_export_is_read_as_documented() -> None:
    rows = read_doccano(FIXTURE, annotator="anna")
    assert [(row.row, row.item_id, row.annotator, row.label, row.note) for row in rows] == [
        (1, "i0", "anna", "related", "clear; case"),
        (2, "i1", "anna", "", ""),
        (3, "i1", "anna", "not_related, unsure", ""),
    ]
    answers, errors = check_rows(rows, known_items(), LABELS)
    assert [(answer.item_id, answer.answer) for answer in answers] == [("i0", "related")]
    assert [(error.row, error.value) for error in errors] == [(3, "not_related, unsure")]


@pytest.mark.parametrize(
    ("name", "annotator"),
    [
        ("anna.jsonl", "anna"),
        ("bo@x.test.JSON", "bo@x.test"),
        ("a.b+c_d-e.jsonl", "a.b+c_d-e"),
        ("all.jsonl", ""),
        ("unknown.jsonl", ""),
        ("doccano.jsonl", ""),
        ("doccano-anna.jsonl", ""),
        ("allan.jsonl", "allan"),
    ],
)
def test_the_name_of_a_file_says_whose_it_is(name: str, annotator: str) -> None:
    assert doccano_annotator(name) == annotator


def test_a_file_of_nobody_is_of_whom_it_was_made_for(tmp_path: Path) -> None:
    write_doccano(tmp_path / "a.jsonl", handout_of(["a"], annotator="anna"))
    assert [row.annotator for row in read_doccano(tmp_path / "a.jsonl")] == ["anna"]
    assert [row.annotator for row in read_doccano(tmp_path / "a.jsonl", annotator="bo")] == ["bo"]


def test_labels_to_import_have_unsure_and_skip_and_only_keys_that_doccano_takes() -> None:
    assert json.loads(doccano_labels(handout_of(["a"]))) == [
        {"text": "related", "suffixKey": "1"},
        {"text": "not_related", "suffixKey": "0"},
        {"text": LABELS.names[2]},
        {"text": "unsure", "suffixKey": "u"},
        {"text": "skip"},
    ]


def test_spans_of_another_project_are_no_answers(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": 5, "label": [[0, 5, "related"]]}\n', encoding="utf-8")
    (row,) = read_doccano(tmp_path / "a.jsonl", batch_id="b9")
    assert (row.label, row.text, row.item_id, row.batch_id) == ("(a JSON list)", "5", "", "b9")
