"""doccano: items and labels go out, and the file of each annotator comes back as it was filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from handouts import LABELS, NASTY, Filled, answered, filled, handout_of, known_items
from hypothesis import given

from annotation.checks import check_rows
from annotation.formats.doccano import doccano_annotator, doccano_labels, is_doccano, read_doccano, write_doccano
from annotation.formats.json_entries import read_entries
from storage.errors import BatchError

FIXTURE = Path(__file__).with_name("fixtures") / "doccano.jsonl"


def export(imported: Path, answers: dict[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """The rows of an annotator's file: what is neither text nor label is metadata, the id is doccano's."""
    found = []
    for number, line in enumerate(imported.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        meta = json.loads(line)
        text = meta.pop("text")
        meta.pop("label")
        answer, note = answers.get(meta["item_id"], ("", ""))
        row = {"id": number, "text": text, **meta, "label": [answer] if answer else []}
        found.append(row | {"Comments": [note] if note else []})
    return found


@given(filled(["anna", "bo@x.test"]))
def test_answers_come_back_whatever_the_texts_are(tmp_path_factory: pytest.TempPathFactory, given: Filled) -> None:
    folder = tmp_path_factory.mktemp("doccano")
    write_doccano(folder / "doccano.jsonl", given.handout)
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name in ("anna", "bo@x.test"):
        rows = export(folder / "doccano.jsonl", given.answers.get(name, {}))
        lines = "".join(json.dumps(row, ensure_ascii=False).replace("/", "\\/") + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8", newline="\n")
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
        for file in (f"{name}.jsonl", f"{name}.json"):
            found |= answered(read_doccano(folder / file, annotator=doccano_annotator(file)), given.handout)
    assert found == given.answers


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


def test_the_file_given_back_untouched_answers_nothing(tmp_path: Path) -> None:
    handout = handout_of(NASTY, context="bo: related")
    write_doccano(tmp_path / "a.jsonl", handout)
    rows = read_doccano(tmp_path / "a.jsonl")
    assert [(row.item_id, row.text, row.label) for row in rows] == [(i.item_id, i.text, "") for i in handout.items]
    entries = [entry.values for entry in read_entries(tmp_path / "a.jsonl")]
    assert all(is_doccano(entry) and "id" not in entry for entry in entries)
    assert [entry["context"] for entry in entries[-2:]] == ["", "bo: related"]


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


def test_a_broken_line_is_refused_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": []}\n{"text": \n', encoding="utf-8")
    with pytest.raises(BatchError, match=r"a\.jsonl, row 2"):
        read_doccano(tmp_path / "a.jsonl")


def test_its_entries_are_known() -> None:
    assert all(is_doccano(entry.values) for entry in read_entries(FIXTURE))
