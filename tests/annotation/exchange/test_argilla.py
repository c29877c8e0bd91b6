"""Argilla: records and settings go out, and every user's submitted response comes back, flat or nested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from handouts import LABELS, handout_of, known_items

from annotation.checks import check_rows
from annotation.formats.argilla import argilla_settings, read_argilla
from storage.errors import BatchError

FIXTURES = Path(__file__).with_name("fixtures")
ANNA, BO, DEE = (f"00000000-0000-0000-0000-00000000000{end}" for end in "abd")


def test_the_flat_export_is_read_as_documented() -> None:
    rows = read_argilla(FIXTURES / "argilla-flat.json")
    assert [(row.row, row.item_id, row.annotator, row.label, row.note) for row in rows] == [
        (1, "i0", ANNA, "related", "clear"),
        (1, "i0", BO, "", ""),
        (1, "i0", DEE, "skip", ""),
        (2, "i1", DEE, "skip", "no idea"),
    ]
    answers, errors = check_rows(rows, known_items(), LABELS)
    assert not errors
    assert [answer.answer for answer in answers] == ["related", "skip", "skip"]


def test_the_nested_export_is_read_as_documented() -> None:
    rows = read_argilla(FIXTURES / "argilla-nested.json", batch_id="b9")
    assert [(row.item_id, row.batch_id, row.annotator, row.label, row.note) for row in rows] == [
        ("i0", "b0001-training", ANNA, "related", "clear"),
        ("i1", "b9", "", "", ""),
    ]


def nested(status: str, *responses: dict[str, Any]) -> dict[str, Any]:
    return {"id": "i0", "fields": {"text": "a"}, "status": status, "responses": {"label": list(responses)}}


@pytest.mark.parametrize(
    "record",
    [
        nested("pending", {"value": "related", "user_id": ANNA}),
        nested("completed", {"value": "related", "user_id": ANNA}, {"value": "unsure", "user_id": BO}),
        {"id": "i0", "text": "a", "label.responses": ["related"], "label.responses.users": [ANNA],
         "label.responses.status": [None]},
    ],
)  # fmt: skip
def test_a_response_that_may_be_a_draft_is_refused_with_the_way_out(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"id": "x", "fields": {}}, record]), encoding="utf-8")
    with pytest.raises(BatchError) as error:
        read_argilla(tmp_path / "a.json")
    assert all(value in error.value.what for value in ("a.json, entry 2", "'i0'"))
    assert "to_list(flatten=True)" in error.value.hint


def test_a_status_in_a_nested_response_counts(tmp_path: Path) -> None:
    given = [{"value": "related", "user_id": user, "status": status} for user, status in
             ((ANNA, "submitted"), (BO, "draft"), (DEE, "discarded"))]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps([nested("completed", *given)]), encoding="utf-8")
    assert [row.label for row in read_argilla(tmp_path / "a.json")] == ["related", "", "skip"]


def test_two_labels_of_a_record_are_no_answer(tmp_path: Path) -> None:
    record = nested("completed", {"value": ["related", "unsure"], "user_id": ANNA})
    (tmp_path / "a.json").write_text(json.dumps([record]), encoding="utf-8")
    assert [row.label for row in read_argilla(tmp_path / "a.json")] == ["related, unsure"]


def test_settings_have_what_the_records_have_and_unsure() -> None:
    settings = json.loads(argilla_settings(handout_of(["a", "b"], context="bo: related", annotator="anna")))
    assert [(field["name"], field["required"]) for field in settings["fields"]] == [("text", True), ("context", False)]
    options = settings["questions"][0]["settings"]["options"]
    assert [option["value"] for option in options] == [*LABELS.names, "unsure"]
    assert [each["name"] for each in settings["metadata"]] == ["item_id", "batch_id", "text_hash", "annotator"]
    assert [field["name"] for field in json.loads(argilla_settings(handout_of(["a"])))["fields"]] == ["text"]
