"""Filled files: found where annotators put them, and put away without ever overwriting anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotation.csv_file import read_csv, write_csv
from annotation.filled import RowError
from annotation.filled import FilledFile
from annotation.inbox import put_away, read_filled, waiting_files
from annotation.journal import Journal
from storage.errors import BatchError
from storage.records import Answer, BatchItem
from storage.text_hash import text_hash
from storage.workspace import Workspace

ERROR = RowError(2, "label", "?", "is no answer", {"text": "Floods", "label": "?", "item_id": "i1"})


def folder_of(workspace: Workspace, name: str = "b1", manifest: bool = True) -> Path:
    folder = workspace.batches / name
    folder.mkdir()
    for each in ["batch.csv", "definition.txt", *(["manifest.json"] if manifest else [])]:
        (folder / each).write_text(each, encoding="utf-8")
    return folder


def put(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_files_of_batches_and_inbox_wait_in_a_fixed_order(workspace: Workspace) -> None:
    second, first = folder_of(workspace, "b2"), folder_of(workspace, "b1")
    journal = put(first / "answers-anna.jsonl")
    dropped = [put(workspace.inbox / name) for name in ("b.csv", "a.csv")]
    assert waiting_files(workspace) == [
        FilledFile(journal, "b1"),
        FilledFile(first / "batch.csv", "b1"),
        FilledFile(second / "batch.csv", "b2"),
        FilledFile(dropped[1], in_inbox=True),
        FilledFile(dropped[0], in_inbox=True),
    ]


def test_a_folder_without_manifest_one_being_written_and_subfolders_are_passed_over(workspace: Workspace) -> None:
    folder_of(workspace, "b1", manifest=False)
    folder_of(workspace, ".b2.123.part")
    put(workspace.inbox / "done" / "a.csv")
    put(workspace.inbox / "rejected" / "b.csv")
    assert waiting_files(workspace) == []


def test_lock_files_and_half_copied_hidden_files_are_passed_over(workspace: Workspace) -> None:
    for name in (".~lock.a.csv#", "~$a.xlsx", ".a.csv.part", ".DS_Store"):
        put(workspace.inbox / name)
    assert waiting_files(workspace) == []


def test_a_workspace_without_the_folders_has_no_files(tmp_path: Path) -> None:
    assert waiting_files(Workspace(tmp_path / "none")) == []


def test_a_list_of_errors_waits_in_the_inbox_but_not_in_the_batch_where_we_wrote_it(workspace: Workspace) -> None:
    folder = folder_of(workspace)
    put(folder / "batch.csv.errors.csv")
    mended = put(workspace.inbox / "batch.csv.errors.csv")
    assert [file.path for file in waiting_files(workspace)] == [folder / "batch.csv", mended]


def test_a_named_file_is_known_by_where_it_lies(workspace: Workspace, tmp_path: Path) -> None:
    folder = folder_of(workspace)
    dropped, elsewhere = put(workspace.inbox / "a.csv"), put(tmp_path / "c.csv")
    done = put(workspace.inbox / "done" / "a.csv")
    named = waiting_files(workspace, [elsewhere, dropped, folder / "batch.csv", done])
    assert named == [
        FilledFile(elsewhere.resolve()),
        FilledFile(dropped.resolve(), in_inbox=True),
        FilledFile((folder / "batch.csv").resolve(), "b1"),
        FilledFile(done.resolve()),
    ]


def test_the_format_is_told_by_the_content(tmp_path: Path) -> None:
    answer = Answer("i1", "related", "anna", "why", 1.5)
    with Journal(tmp_path / "journal.csv") as journal:
        journal.append("b1", "h", answer)
    write_csv(tmp_path / "sheet.jsonl", "b1", [BatchItem("i1", "Floods", text_hash("Floods"))])
    (row,) = read_filled(FilledFile(tmp_path / "journal.csv"))
    assert (row.item_id, row.label, row.annotator, row.note, row.seconds) == ("i1", "related", "anna", "why", 1.5)
    assert (row.text, row.text_hash, row.batch_id, row.row) == (None, "h", "b1", 1)
    assert [row.text for row in read_filled(FilledFile(tmp_path / "sheet.jsonl"))] == ["Floods"]


def test_a_journal_that_windows_saved_with_a_bom_is_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append("b1", "h", Answer("i1", "related", "anna"))
    (tmp_path / "j.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "j.jsonl").read_bytes())
    assert [row.item_id for row in read_filled(FilledFile(tmp_path / "j.jsonl"))] == ["i1"]


def test_a_journal_left_without_an_answer_has_no_rows_and_is_no_error(tmp_path: Path) -> None:
    Journal(tmp_path / "answers-anna.jsonl").close()
    assert read_filled(FilledFile(tmp_path / "answers-anna.jsonl")) == []
    with pytest.raises(BatchError, match="is empty"):
        read_filled(FilledFile(put(tmp_path / "a.csv", "")))


def test_half_a_line_at_the_end_of_a_journal_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append("b1", "h", Answer("i1", "related", "anna"))
        journal.append("b1", "h", Answer("i2", "related", "anna"))
    path.write_bytes(path.read_bytes()[:-20])
    assert [row.item_id for row in read_filled(FilledFile(path))] == ["i1"]


def test_a_lone_surrogate_in_a_journal_becomes_what_the_lake_can_keep(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append("b1", "h", Answer("i1", "related", "anna", note="caf\udce9"))
    assert read_filled(FilledFile(tmp_path / "j.jsonl"))[0].note == "caf\ufffd"


def test_a_refused_row_of_a_journal_keeps_all_that_it_takes_to_ingest_it_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append("b1", "h", Answer("i1", "storm", "anna", note="why"))
    (row,) = read_filled(FilledFile(tmp_path / "j.jsonl"))
    assert row.cells == {
        "label": "storm",
        "note": "why",
        "annotator": "anna",
        "item_id": "i1",
        "batch_id": "b1",
        "text_hash": "h",
    }


@pytest.mark.parametrize("content", ['{"a": 1}', '{\n "a": 1\n}', json.dumps({"text": "x"}) + "\n{}"])
def test_json_that_is_no_journal_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(BatchError, match="row 1"):
        read_filled(FilledFile(put(tmp_path / "x.json", content)))


def test_files_of_the_inbox_move_under_a_name_that_is_free(workspace: Workspace) -> None:
    for content in "abc":
        path = put(workspace.inbox / "batch.csv", content)
        assert put_away(FilledFile(path, in_inbox=True), [], workspace.inbox / "done") is None
        assert not path.exists()
    done = workspace.inbox / "done"
    moved = {path.name: path.read_text(encoding="utf-8") for path in done.iterdir()}
    assert moved == {"batch.csv": "a", "batch-2.csv": "b", "batch-3.csv": "c"}


def test_errors_of_two_rejected_files_of_one_name_stand_beside_each(workspace: Workspace) -> None:
    rejected = workspace.inbox / "rejected"
    lists = [
        put_away(FilledFile(put(workspace.inbox / "batch.csv", who), in_inbox=True), [ERROR], rejected) for who in "ab"
    ]
    assert lists == [rejected / "batch.csv.errors.csv", rejected / "batch-2.csv.errors.csv"]
    assert [path.name for path in sorted(rejected.iterdir())] == [
        "batch-2.csv",
        "batch-2.csv.errors.csv",
        "batch.csv",
        "batch.csv.errors.csv",
    ]
    assert (rejected / "batch-2.csv").read_text(encoding="utf-8") == "b"


def test_a_list_of_errors_that_somebody_is_mending_is_not_overwritten(workspace: Workspace) -> None:
    mending = put(workspace.inbox / "rejected" / "batch.csv.errors.csv", "half mended")
    file = FilledFile(put(workspace.inbox / "batch.csv"), in_inbox=True)
    listed = put_away(file, [ERROR], workspace.inbox / "rejected")
    assert listed is not None
    assert listed.name == "batch-2.csv.errors.csv"
    assert mending.read_text(encoding="utf-8") == "half mended"


def test_a_file_of_a_batch_stays_and_its_errors_go_once_it_has_none(workspace: Workspace) -> None:
    folder = folder_of(workspace)
    file = FilledFile(folder / "batch.csv", "b1")
    listed = put_away(file, [ERROR], workspace.inbox / "rejected")
    assert listed == folder / "batch.csv.errors.csv"
    assert [row.text for row in read_csv(listed)] == ["Floods"]
    assert put_away(file, [], workspace.inbox / "done") is None
    assert not listed.exists()
    assert file.path.exists()
    assert list(workspace.inbox.iterdir()) == []


def test_a_file_that_another_ingest_put_away_leaves_no_trace(workspace: Workspace) -> None:
    gone = FilledFile(workspace.inbox / "batch.csv", in_inbox=True)
    for errors in ([], [ERROR]):
        assert put_away(gone, errors, workspace.inbox / "done") is None
        assert list((workspace.inbox / "done").iterdir()) == []
