"""Every tool's format: whatever the texts, answers come back; untouched there are none; what no tool writes is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fillers import PROGRAMS, Given
from handouts import NASTY, Filled, answered, filled, handout_of
from hypothesis import given
from test_recognisers import tools_of

from annotation.checks import FilledFile
from annotation.formats.detection import read_filled
from annotation.formats.json_entries import read_entries
from annotation.formats.registry import FORMATS
from storage.errors import BatchError

TOOLS = ("label-studio", "argilla", "doccano", "prodigy")
ROUND_TRIPS = sorted(name for name, program in PROGRAMS.items() if program.of in (*TOOLS, "original"))
ANNOTATION = {"value": "a", "user_id": "u"}


@pytest.mark.parametrize("name", ROUND_TRIPS)
@given(drawn=filled(), bare=filled(bare=True))
def test_answers_come_back_whatever_the_texts_are(
    tmp_path_factory: pytest.TempPathFactory, name: str, drawn: Filled, bare: Filled
) -> None:
    program, folder = PROGRAMS[name], tmp_path_factory.mktemp("tool")
    drawn = bare if program.of == "original" else drawn
    form = FORMATS[program.of]
    form.write(form.path(folder), drawn.handout)
    log = [Given(item_id, answer, answer, 0) for item_id, answer in drawn.answers.items()]
    program.fill(folder, folder / program.file, log)
    rows = read_filled(FilledFile(folder / program.file, drawn.handout.batch_id)).rows
    kept = {item_id: answer for item_id, answer in drawn.answers.items() if program.skips or answer != "skip"}
    assert answered(rows, drawn.handout).get(program.annotator, {}) == {each: (kept[each], "") for each in kept}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("context", "annotator"), [("", ""), ("bo: related", "anna")])
def test_the_file_given_back_untouched_answers_nothing(tmp_path: Path, tool: str, context: str, annotator: str) -> None:
    handout = handout_of(NASTY, context, annotator)
    FORMATS[tool].write(tmp_path / "a.json", handout)
    rows = FORMATS[tool].read(tmp_path / "a.json", "")
    assert [(row.item_id, row.text, row.label) for row in rows] == [(i.item_id, i.text, "") for i in handout.items]
    assert {row.annotator for row in rows} == {annotator}
    entries = [entry.values for entry in read_entries(tmp_path / "a.json")]
    assert [tools_of(entry) for entry in entries] == [[tool]] * len(entries)
    assert ("bo: related" in json.dumps(entries[-1])) == bool(context)


def nested(**more: object) -> dict[str, Any]:
    return {"id": "i0", "fields": {"text": "a"}, "status": "completed", "responses": {"label": [ANNOTATION | more]}}


@pytest.mark.parametrize(
    ("tool", "entry", "value"),
    [
        ("argilla", {"_server_id": "s", "label.responses": ["a"], "label.responses.users": []}, "label.responses"),
        ("argilla", {"_server_id": "s", "label.responses": {"a": 1}}, "label.responses"),
        ("argilla", {"fields": {}, "responses": ["a"]}, "'responses'"),
        ("argilla", {"fields": {}, "responses": {"label": ["a"]}}, "'label'"),
        ("argilla", nested(status="seen"), "seen"),
        ("argilla", nested(status={}), "status"),
        ("label-studio", {"data": {}, "annotations": [7]}, "'annotations'"),
        ("label-studio", {"data": {}, "annotations": {"id": 1}}, "'annotations'"),
        ("label-studio", {"data": {}, "annotations": [{"result": "x"}]}, "'result'"),
        ("label-studio", {"data": {}, "annotations": [{"created_at": "soon"}]}, "'soon'"),
        ("label-studio", {"data": {}, "annotations": [{"lead_time": "long"}]}, "'long'"),
        ("label-studio", {"annotation_id": 1, "lead_time": {}}, "JSON object"),
        ("prodigy", {"text": "x", "answer": "maybe"}, "'maybe'"),
        ("prodigy", {"text": "x", "answer": {}}, ""),
        ("prodigy", {"text": "x", "answer": "accept", "_timestamp": 10**40}, str(10**40)),
        ("prodigy", {"text": "x", "answer": "reject", "options": ["a"]}, "'options'"),
    ],
)
def test_what_a_tool_does_not_write_is_refused(tmp_path: Path, tool: str, entry: dict[str, Any], value: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.raises(BatchError) as error:
        FORMATS[tool].read(tmp_path / "a.json", "")
    assert error.value.what.startswith(f"{tmp_path / 'a.json'}, entry 1: ")
    assert value in error.value.what
