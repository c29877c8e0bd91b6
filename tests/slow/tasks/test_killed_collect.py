"""An ingest stage that is killed, or runs twice at once, takes each answer exactly once."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

from test_collect import ALL, TAKEN, TEXTS, annotations, batch, collect, fill, inbox, published, sheet, workspace

from annotation.formats.journal import Journal
from annotation.label_set import LabelSet
from storage.readers.spellings import text_hash
from storage.records import Answer
from storage.workspace import Workspace


def ready_to_collect(workspace: Workspace, sheet: Path) -> None:
    """Two annotators' answers: one filled a copy in the inbox, the other's journal lies in the batch."""
    fill(sheet, ALL | {"i3": "?"}, workspace.inbox / "anna.csv", annotator="anna")
    with Journal(sheet.with_name("answers-ben.jsonl")) as journal:
        for item_id, text in TEXTS.items():
            journal.append(sheet.parent.name, text_hash(text), Answer(item_id, "related", "ben"))


def assert_collected(workspace: Workspace, original: bytes) -> None:
    assert len(annotations(workspace)) == 7
    given = {(item_id, who): answer for item_id, who, answer, _ in annotations(workspace)}
    assert given == {(item_id, "ben"): "related" for item_id in TEXTS} | {
        (item_id, "anna"): answer for item_id, answer in TAKEN.items() if item_id != "i3"
    }
    assert inbox(workspace).keys() == {"rejected"}
    kept = list((workspace.inbox / "rejected").glob("anna*.csv"))
    assert original in [path.read_bytes() for path in kept if not path.name.endswith(".errors.csv")]
    lists = [path.read_text(encoding="utf-8") for path in kept if path.name.endswith(".errors.csv")]
    assert any("row 4" in text and "'?'" in text for text in lists)


def test_after_a_kill_at_any_line_the_next_run_takes_every_answer_exactly_once_and_puts_the_file_away(
    workspace: Workspace,
    label_set: LabelSet,
    sheet: Path,
    kill_at_lines: Callable[[str, list[Path]], None],
    tmp_path: Path,
) -> None:
    ready_to_collect(workspace, sheet)
    original = (workspace.inbox / "anna.csv").read_bytes()
    roots = [Path(shutil.copytree(workspace.root, tmp_path / f"copy{k}")) for k in range(9)]
    kill_at_lines("collect", roots)
    for root in roots:
        collect(Workspace(root), label_set)
        assert_collected(Workspace(root), original)
        assert not any(report.n_new for report in collect(Workspace(root), label_set))


def test_two_runs_at_once_take_every_answer_exactly_once(
    workspace: Workspace, sheet: Path, run_at_once: Callable[[str, Path], None]
) -> None:
    ready_to_collect(workspace, sheet)
    original = (workspace.inbox / "anna.csv").read_bytes()
    run_at_once("collect", workspace.root)
    assert_collected(workspace, original)
