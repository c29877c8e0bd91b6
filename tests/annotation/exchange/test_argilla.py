"""Argilla: records and settings go out, and every user's submitted response comes back, flat or nested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from handouts import LABELS, NASTY, Filled, answered, filled, handout_of, known_items
from hypothesis import given

from annotation.checks import check_rows
from annotation.formats.argilla import argilla_settings, is_argilla, read_argilla, write_argilla
from annotation.formats.json_entries import read_entries
from storage.errors import BatchError

FIXTURES = Path(__file__).with_name("fixtures")
ANNA, BO, DEE = (f"00000000-0000-0000-0000-00000000000{end}" for end in "abd")


def exported_flat(records: list[dict[str, Any]], given: Filled) -> list[dict[str, Any]]:
    """`dataset.records.to_list(flatten=True)`: every record has every key that any has."""
    found = []
    for record in records:
        entry = {"id": record["id"], "status": "completed", "_server_id": "s", **record["fields"], **record["metadata"]}
        for user, answers in given.answers.items():
            answer, note = answers.get(record["id"], ("", ""))
            status = "discarded" if answer == "skip" else "submitted"
            values = {"label": None if answer == "skip" else answer, "note": note}
            for question in [name for name, value in values.items() if answer and (value or name == "label")]:
                for part, value in (("", values[question]), (".users", user), (".status", status)):
                    entry.setdefault(f"{question}.responses{part}", []).append(value)
        found.append(entry)
    keys = {key for entry in found for key in entry}
    return [{**dict.fromkeys(keys), **entry} for entry in found]


def exported_nested(records: list[dict[str, Any]], given: Filled) -> list[dict[str, Any]]:
    """`dataset.records.to_json` of records with one response at most, all of them submitted."""
    found = []
    for record in records:
        responses: dict[str, Any] = {}
        for user, answers in given.answers.items():
            answer, note = answers.get(record["id"], ("", ""))
            values = {"label": answer, "note": note}
            responses |= {name: [{"value": value, "user_id": user}] for name, value in values.items() if value}
        status = "completed" if responses else "pending"
        found.append(
            {**record, "suggestions": {}, "responses": responses, "vectors": {}, "status": status, "_server_id": "s"}
        )
    return found


@given(filled([ANNA, BO]))
def test_answers_come_back_flat(tmp_path_factory: pytest.TempPathFactory, given: Filled) -> None:
    path = tmp_path_factory.mktemp("argilla") / "argilla.json"
    write_argilla(path, given.handout)
    records = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(exported_flat(records, given), ensure_ascii=False), encoding="utf-8")
    assert answered(read_argilla(path), given.handout) == given.answers


@given(filled([ANNA]))
def test_answers_of_one_user_come_back_nested(tmp_path_factory: pytest.TempPathFactory, given: Filled) -> None:
    path = tmp_path_factory.mktemp("argilla") / "argilla.json"
    write_argilla(path, given.handout)
    records = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(exported_nested(records, given)), encoding="utf-8")
    assert answered(read_argilla(path), given.handout) == given.answers


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


@pytest.mark.parametrize(
    ("record", "value"),
    [
        ({"_server_id": "s", "label.responses": ["a"], "label.responses.users": []}, "label.responses"),
        ({"_server_id": "s", "label.responses": {"a": 1}}, "label.responses"),
        ({"fields": {}, "responses": ["a"]}, "'responses'"),
        ({"fields": {}, "responses": {"label": ["a"]}}, "'label'"),
        (nested("completed", {"value": "a", "user_id": ANNA, "status": "seen"}), "seen"),
        (nested("completed", {"value": "a", "user_id": ANNA, "status": {}}), "status"),
    ],
)
def test_what_argilla_does_not_write_is_refused(tmp_path: Path, record: dict[str, Any], value: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([record]), encoding="utf-8")
    with pytest.raises(BatchError) as error:
        read_argilla(tmp_path / "a.json")
    assert error.value.what.startswith(f"{tmp_path / 'a.json'}, entry 1: ")
    assert value in error.value.what


def test_two_labels_of_a_record_are_no_answer(tmp_path: Path) -> None:
    record = nested("completed", {"value": ["related", "unsure"], "user_id": ANNA})
    (tmp_path / "a.json").write_text(json.dumps([record]), encoding="utf-8")
    assert [row.label for row in read_argilla(tmp_path / "a.json")] == ["related, unsure"]


def test_the_file_given_back_untouched_answers_nothing(tmp_path: Path) -> None:
    handout = handout_of(NASTY, context="bo: related", annotator="anna")
    write_argilla(tmp_path / "a.json", handout)
    rows = read_argilla(tmp_path / "a.json")
    assert [(row.item_id, row.text, row.label) for row in rows] == [(i.item_id, i.text, "") for i in handout.items]
    assert {row.annotator for row in rows} == {"anna"}
    entries = [entry.values for entry in read_entries(tmp_path / "a.json")]
    assert all(is_argilla(entry) and "suggestions" not in entry for entry in entries)
    assert entries[-1]["fields"]["context"] == "bo: related"


def test_settings_have_what_the_records_have_and_unsure() -> None:
    settings = json.loads(argilla_settings(handout_of(["a", "b"], context="bo: related", annotator="anna")))
    assert [(field["name"], field["required"]) for field in settings["fields"]] == [("text", True), ("context", False)]
    options = settings["questions"][0]["settings"]["options"]
    assert [option["value"] for option in options] == [*LABELS.names, "unsure"]
    assert [each["name"] for each in settings["metadata"]] == ["item_id", "batch_id", "text_hash", "annotator"]
    assert [field["name"] for field in json.loads(argilla_settings(handout_of(["a"])))["fields"]] == ["text"]


def test_its_entries_are_known() -> None:
    for name in ("argilla-flat.json", "argilla-nested.json"):
        assert all(is_argilla(entry.values) for entry in read_entries(FIXTURES / name))
