"""Which tool wrote an entry: exactly one, for everything that goes out and comes back; a journal's line is none's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from annotation.formats.argilla import is_argilla
from annotation.formats.doccano import is_doccano
from annotation.formats.journal import Journal
from annotation.formats.json_entries import read_entries
from annotation.formats.label_studio import is_label_studio
from annotation.formats.prodigy import is_prodigy
from storage.records import Answer

FIXTURES = Path(__file__).with_name("fixtures")
RECOGNISERS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "label-studio": is_label_studio,
    "argilla": is_argilla,
    "doccano": is_doccano,
    "prodigy": is_prodigy,
}


def tools_of(entry: Mapping[str, Any]) -> list[str]:
    return [name for name, recognised in RECOGNISERS.items() if recognised(entry)]


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json*")), ids=lambda path: path.name)
def test_every_entry_of_an_export_is_of_one_tool(path: Path) -> None:
    tool = next(name for name in RECOGNISERS if path.name.startswith(name))
    assert [tools_of(entry.values) for entry in read_entries(path)] == [[tool] for _ in read_entries(path)]


def test_a_journal_is_of_no_tool(tmp_path: Path) -> None:
    with Journal(tmp_path / "answers-anna.jsonl") as journal:
        journal.append("b1", "ab" * 16, Answer("i0", "accept", "anna", "note", 1.5, datetime(2026, 1, 2, tzinfo=UTC)))
    assert [tools_of(entry.values) for entry in read_entries(tmp_path / "answers-anna.jsonl")] == [[]]


@pytest.mark.parametrize(
    "entry", [{}, {"text": "a"}, {"text": "a", "label": "related"}, {"label": ["a"]}, {"data": "x"}]
)
def test_what_no_tool_writes_is_of_none(entry: dict[str, Any]) -> None:
    assert tools_of(json.loads(json.dumps(entry))) == []


def test_a_task_with_a_list_of_labels_is_prodigys_where_it_has_options_and_doccanos_else() -> None:
    entry = {"text": "a", "label": ["related"]}
    assert tools_of(entry) == ["doccano"]
    assert tools_of({**entry, "options": []}) == ["prodigy"]
