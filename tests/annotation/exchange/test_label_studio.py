"""Label Studio: what goes out is a project, and every annotation of its exports comes back as it was given."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from handouts import LABELS, handout_of, known_items

from annotation.checks import check_rows
from annotation.formats.label_studio import label_studio_config, read_label_studio
from annotation.label_set import Label

FIXTURES = Path(__file__).with_name("fixtures")


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
    adjudicated = ElementTree.fromstring(label_studio_config(handout_of(["a", "b"], context="bo: related")))
    assert [each.get("value") for each in adjudicated.iter("Text")] == ["$text", "$context"]
    columns = [each.get("value", "") for each in root.iter() if each.get("value", "").startswith("$")]
    assert columns == ["$text"]


def test_odd_values_are_no_answers_and_no_crash(tmp_path: Path) -> None:
    result = [{"type": "choices", "from_name": "label", "value": each} for each in (None, {"choices": [1, {}]})]
    entry = {"data": {"text": 7, "item_id": 12.0}, "annotations": [{"completed_by": [], "result": result}]}
    (tmp_path / "a.json").write_text(json.dumps([entry]), encoding="utf-8")
    (row,) = read_label_studio(tmp_path / "a.json", batch_id="b9")
    assert (row.text, row.item_id, row.batch_id, row.text_hash) == ("7", "12", "b9", None)
    assert row.label == ", 1, (a JSON object)"
