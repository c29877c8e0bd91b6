"""Label Studio: what goes out is a project, and every annotation of its exports comes back as it was given."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from handouts import LABELS, NASTY, Filled, answered, filled, handout_of, known_items
from hypothesis import given

from annotation.checks import check_rows
from annotation.formats.json_entries import read_entries
from annotation.formats.label_studio import is_label_studio, label_studio_config, read_label_studio, write_label_studio
from annotation.label_set import Label
from storage.errors import BatchError

FIXTURES = Path(__file__).with_name("fixtures")


def exported(tasks: list[dict[str, Any]], given: Filled) -> list[dict[str, Any]]:
    """What Label Studio exports as JSON of imported tasks whose annotators have given these answers."""
    found: list[dict[str, Any]] = []
    for number, task in enumerate(tasks, start=1):
        annotations: list[dict[str, Any]] = []
        for email, answers in given.answers.items():
            if task["data"]["item_id"] not in answers:
                continue
            answer, note = answers[task["data"]["item_id"]]
            choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [answer]}}
            area = {"from_name": "note", "to_name": "text", "type": "textarea", "value": {"text": [note]}}
            annotations.append(
                {
                    "id": len(found) * 10 + len(annotations),
                    "completed_by": {"id": 1, "email": email, "first_name": "", "last_name": ""},
                    "result": ([] if answer == "skip" else [choice]) + ([area] if note else []),
                    "was_cancelled": answer == "skip",
                    "lead_time": 3.5,
                    "created_at": "2026-03-09T22:16:08.728353Z",
                    "updated_at": "2026-03-09T22:16:08.728378Z",
                }
            )
        found.append({"id": number, "annotations": annotations, "drafts": [], "predictions": [], **task})
    return found


def minimal(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same as JSON_MIN: an entry for each annotation that was not skipped, and for a task without any."""
    found = []
    for task in tasks:
        for annotation in task["annotations"] or [{"completed_by": {}}]:
            if annotation.get("was_cancelled"):
                continue
            entry = {**task["data"], "id": task["id"]}
            for result in annotation.get("result", []):
                (entry[result["from_name"]],) = result["value"].get("choices") or result["value"]["text"]
            entry |= {"annotator": annotation["completed_by"].get("email"), "annotation_id": annotation.get("id")}
            found.append(entry | {name: annotation.get(name) for name in ("created_at", "updated_at", "lead_time")})
    return found


@given(filled(["anna@example.test", "bo@example.test"]))
def test_answers_come_back_whatever_the_texts_are(tmp_path_factory: pytest.TempPathFactory, given: Filled) -> None:
    path = tmp_path_factory.mktemp("ls") / "label-studio.json"
    write_label_studio(path, given.handout)
    tasks = exported(json.loads(path.read_text(encoding="utf-8")), given)
    path.write_text(json.dumps(tasks, ensure_ascii=False, indent=2), encoding="utf-8")
    assert answered(read_label_studio(path), given.handout) == given.answers
    path.write_text(json.dumps(minimal(tasks)), encoding="utf-8")
    unskipped = {
        name: {item_id: answer for item_id, answer in answers.items() if answer[0] != "skip"}
        for name, answers in given.answers.items()
    }
    assert answered(read_label_studio(path), given.handout) == {name: some for name, some in unskipped.items() if some}


def test_the_file_given_back_untouched_answers_nothing(tmp_path: Path) -> None:
    handout = handout_of(NASTY)
    write_label_studio(tmp_path / "a.json", handout)
    rows = read_label_studio(tmp_path / "a.json")
    assert [(row.item_id, row.text, row.label) for row in rows] == [(i.item_id, i.text, "") for i in handout.items]


def test_the_export_is_read_as_documented() -> None:
    rows = read_label_studio(FIXTURES / "label-studio.json")
    found = [(row.row, row.item_id, row.annotator, row.label, row.note, row.seconds) for row in rows]
    assert found == [
        (1, "i0", "anna@example.test", "related", "clear, case", 4.288),
        (1, "i0", "5", "skip", "", None),
        (1, "i0", "6", "related, unsure", "", 2.0),
        (2, "i1", "", "", "", None),
        (3, "i1", "7", "", "", 1.5),
        (3, "i1", "8", "mood: related", "", 1.5),
    ]
    assert [row.annotated_at for row in rows[:2]] == [
        datetime(2026, 3, 10, 8, tzinfo=UTC),
        datetime(2026, 3, 9, 22, 20, tzinfo=UTC),
    ]
    answers, errors = check_rows(rows, known_items(), LABELS)
    assert [answer.answer for answer in answers] == ["related", "skip"]
    assert [error.value for error in errors] == ["related, unsure", "mood: related"]


def test_json_min_is_read_as_documented() -> None:
    rows = read_label_studio(FIXTURES / "label-studio-min.json")
    assert [(row.item_id, row.annotator, row.label, row.note, row.seconds) for row in rows] == [
        ("i0", "4", "related", "clear", 4.288),
        ("i0", "bo@example.test", "related, unsure", "two, lines", None),
        ("i1", "", "", "", None),
    ]
    assert [row.annotated_at for row in rows[::2]] == [datetime(2026, 3, 10, 8, tzinfo=UTC), None]


def test_two_annotations_of_one_person_are_a_history(tmp_path: Path) -> None:
    (item,) = known_items(["Floods hit"])
    data = {"text": item.text, "item_id": item.item_id, "batch_id": "b", "text_hash": item.text_hash}
    given = [
        {
            "completed_by": 3,
            "result": [{"from_name": "label", "type": "choices", "value": {"choices": [name]}}],
            "created_at": f"2026-01-0{day}T00:00:00Z",
        }
        for day, name in ((2, "related"), (1, "not_related"))
    ]
    (tmp_path / "a.json").write_text(json.dumps([{"data": data, "annotations": given}]), encoding="utf-8")
    answers, errors = check_rows(read_label_studio(tmp_path / "a.json"), [item], LABELS)
    assert not errors
    assert max(answers, key=lambda each: each.annotated_at or datetime.min).answer == "related"


def test_the_interface_offers_every_label_with_its_key_and_is_xml() -> None:
    labels = replace(LABELS, question="$text\x0b & <more>?", labels=(*LABELS.labels, Label("$5", "5")))
    handout = replace(handout_of(["a", "b"]), label_set=labels)
    root = ElementTree.fromstring(label_studio_config(handout))
    assert [(each.get("value", "").strip(), each.get("hotkey")) for each in root.iter("Choice")] == [
        *((label.name, label.key) for label in labels.labels),
        ("unsure", "u"),
    ]
    assert [each.get("value") for each in root.iter("Header")] == [" $text & <more>?", labels.definition]
    assert [each.get("value") for each in root.iter("Text")] == ["$text"]
    columns = [each.get("value", "") for each in root.iter() if each.get("value", "").startswith("$")]
    assert columns == ["$text"]


def test_answers_so_far_are_a_second_text(tmp_path: Path) -> None:
    handout = handout_of(["a", "b"], context="bo: related")
    root = ElementTree.fromstring(label_studio_config(handout))
    assert [each.get("value") for each in root.iter("Text")] == ["$text", "$context"]
    write_label_studio(tmp_path / "a.json", handout)
    tasks = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [task["data"]["context"] for task in tasks] == ["", "bo: related"]
    assert not any("predictions" in task for task in tasks)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ({"data": {}, "annotations": [7]}, "'annotations'"),
        ({"data": {}, "annotations": {"id": 1}}, "'annotations'"),
        ({"data": {}, "annotations": [{"result": "x"}]}, "'result'"),
        ({"data": {}, "annotations": [{"created_at": "soon"}]}, "'soon'"),
        ({"data": {}, "annotations": [{"lead_time": "long"}]}, "'long'"),
        ({"annotation_id": 1, "lead_time": {}}, "JSON object"),
    ],
)
def test_what_label_studio_does_not_write_is_refused(tmp_path: Path, entry: dict[str, Any], value: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"data": {}}, entry]), encoding="utf-8")
    with pytest.raises(BatchError) as error:
        read_label_studio(path)
    assert error.value.what.startswith(f"{path}, entry 2: ")
    assert value in error.value.what


def test_odd_values_are_no_answers_and_no_crash(tmp_path: Path) -> None:
    result = [{"type": "choices", "from_name": "label", "value": each} for each in (None, {"choices": [1, {}]})]
    entry = {"data": {"text": 7, "item_id": 12.0}, "annotations": [{"completed_by": [], "result": result}]}
    (tmp_path / "a.json").write_text(json.dumps([entry]), encoding="utf-8")
    (row,) = read_label_studio(tmp_path / "a.json", batch_id="b9")
    assert (row.text, row.item_id, row.batch_id, row.text_hash) == ("7", "12", "b9", None)
    assert row.label == ", 1, (a JSON object)"


def test_its_entries_are_known(tmp_path: Path) -> None:
    for name in ("label-studio.json", "label-studio-min.json"):
        assert all(is_label_studio(entry.values) for entry in read_entries(FIXTURES / name))
