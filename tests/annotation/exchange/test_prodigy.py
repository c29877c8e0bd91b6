"""Prodigy: tasks for its choice interface go out, and every decision of `db-out` comes back as it was taken."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from handouts import LABELS, known_items

from annotation.checks import check_rows
from annotation.formats.prodigy import read_prodigy

FIXTURE = Path(__file__).with_name("fixtures") / "prodigy.jsonl"


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


def test_of_three_labels_a_rejected_one_leaves_no_answer(tmp_path: Path) -> None:
    options = [{"id": name, "text": name} for name in ("a", "b", "c", "unsure")]
    task = {"text": "x", "label": "a", "options": options, "answer": "reject"}
    (tmp_path / "a.jsonl").write_text(json.dumps(task), encoding="utf-8")
    assert [row.label for row in read_prodigy(tmp_path / "a.jsonl")] == ["reject: a"]


def test_odd_values_are_no_crash(tmp_path: Path) -> None:
    task = {"text": None, "meta": "seen", "answer": "accept", "accept": 3, "_annotator_id": 7, "item_id": "i0"}
    (tmp_path / "a.jsonl").write_text(json.dumps(task), encoding="utf-8")
    (row,) = read_prodigy(tmp_path / "a.jsonl", batch_id="b9")
    assert (row.text, row.label, row.annotator, row.item_id, row.batch_id) == (None, "3", "7", "i0", "b9")
