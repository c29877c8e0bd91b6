"""Argilla's own SDK reads our file, two people answer in it, and what it writes is read."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from annotation_tools import answers_to, nasty_handout, program
from handouts import answered

from annotation.formats.argilla import argilla_settings, read_argilla, write_argilla

ARGILLA = """
import json, sys, uuid
from argilla._api._client import APIClient
APIClient._validate_connection = lambda self: None  # no server: only what the SDK itself reads and writes
import argilla as rg
from argilla.records._io import GenericIO, JsonIO
rg.Argilla(api_url="http://127.0.0.1:1", api_key="none.none")
folder, given = sys.argv[1], json.load(open(f"{sys.argv[1]}/given.json", encoding="utf-8"))
settings = rg.Settings.from_json(f"{folder}/settings.json")
settings.validate()
assert [option["value"] for option in settings.serialize()["questions"][0]["settings"]["options"]][-1] == "unsure"
records = JsonIO._records_from_json(f"{folder}/argilla.json")
for record in records:
    assert set(record.metadata) == {each.name for each in settings.metadata}
    assert set(record.fields.to_dict()) == {each.name for each in settings.fields}
    for user, answers in given.items():
        answer, note = answers.get(record.id, ("", ""))
        status = "discarded" if answer == "skip" else "submitted"
        for question, value in (("label", None if answer == "skip" else answer), ("note", note or None)):
            if answer and (value or question == "label"):
                record.responses.add(rg.Response(question, value, user_id=uuid.UUID(user), status=status))
json.dump(GenericIO.to_list(records, flatten=True), open(f"{folder}/flat.json", "w"))
JsonIO.to_json(records, f"{folder}/nested.json")
"""


def test_argillas_sdk_gives_back_what_two_people_answered(tmp_path: Path) -> None:
    python, handout = program("argilla", "python"), nasty_handout()
    given = answers_to(handout, *(f"00000000-0000-0000-0000-00000000000{end}" for end in "ab"))
    write_argilla(tmp_path / "argilla.json", handout)
    (tmp_path / "settings.json").write_text(argilla_settings(handout), encoding="utf-8")
    (tmp_path / "given.json").write_text(json.dumps(given), encoding="utf-8")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "ARGILLA_ENABLE_TELEMETRY": "0",
    }
    ran = subprocess.run([python, "-c", ARGILLA, tmp_path], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert answered(read_argilla(tmp_path / "flat.json"), handout) == given
    (anna, answers), _ = given.items()
    unskipped = {item_id: each for item_id, each in answers.items() if each[0] != "skip"}
    nested = json.loads((tmp_path / "nested.json").read_text(encoding="utf-8"))
    for record in nested:  # as the server says of records that one response completes
        ours = {
            question: [each for each in responses if each["user_id"] == anna]
            for question, responses in record["responses"].items()
        }
        record["responses"] = ours if record["id"] in unskipped else {}
        record["status"] = "completed" if record["responses"] else "pending"
    (tmp_path / "nested.json").write_text(json.dumps(nested), encoding="utf-8")
    assert answered(read_argilla(tmp_path / "nested.json"), handout) == {anna: unskipped}
