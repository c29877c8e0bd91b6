"""Filled files: found where annotators put them, and put away without ever overwriting anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from annotation.batch import sha256_of
from annotation.checks import FilledFile, RowError
from annotation.inbox import put_away, settled_files, waiting_files
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


def test_files_of_the_inbox_move_under_a_name_that_is_free(workspace: Workspace) -> None:
    for content in "abc":
        path = put(workspace.inbox / "batch.csv", content)
        assert put_away(FilledFile(path, in_inbox=True), [], workspace.inbox / "done")[1] is None
        assert not path.exists()
    done = workspace.inbox / "done"
    moved = {path.name: path.read_text(encoding="utf-8") for path in done.iterdir()}
    assert moved == {"batch.csv": "a", "batch-2.csv": "b", "batch-3.csv": "c"}


def test_errors_of_two_rejected_files_of_one_name_stand_beside_each(workspace: Workspace) -> None:
    rejected = workspace.inbox / "rejected"
    lists = [
        put_away(FilledFile(put(workspace.inbox / "batch.csv", who), in_inbox=True), [ERROR], rejected)[1]
        for who in "ab"
    ]
    assert lists == [rejected / "batch.csv.errors.csv", rejected / "batch-2.csv.errors.csv"]
    assert {path.name for path in rejected.iterdir()} == {"batch.csv", "batch-2.csv", *(each.name for each in lists)}
    assert (rejected / "batch-2.csv").read_text(encoding="utf-8") == "b"


def test_a_list_of_errors_that_somebody_is_mending_is_not_overwritten(workspace: Workspace) -> None:
    mending = put(workspace.inbox / "rejected" / "batch.csv.errors.csv", "half mended")
    file = FilledFile(put(workspace.inbox / "batch.csv"), in_inbox=True)
    _, listed = put_away(file, [ERROR], workspace.inbox / "rejected")
    assert listed.name == "batch-2.csv.errors.csv"
    assert mending.read_text(encoding="utf-8") == "half mended"


def test_a_file_that_another_ingest_put_away_leaves_no_trace(workspace: Workspace) -> None:
    gone = FilledFile(workspace.inbox / "batch.csv", in_inbox=True)
    for errors in ([], [ERROR]):
        assert put_away(gone, errors, workspace.inbox / "done") == (gone.path, None)
        assert list((workspace.inbox / "done").iterdir()) == []


def test_a_file_that_is_as_it_was_published_does_not_wait_and_once_filled_it_does(workspace: Workspace) -> None:
    folder = folder_of(workspace)
    hashes = {"batch.csv": sha256_of(folder / "batch.csv")}
    (folder / "manifest.json").write_text(json.dumps({"labels": [], "files": hashes}), encoding="utf-8")
    assert waiting_files(workspace) == []
    put(folder / "batch.csv", "filled")
    assert [file.path for file in waiting_files(workspace)] == [folder / "batch.csv"]


def test_what_goes_with_a_batch_and_what_is_half_copied_holds_no_answers(workspace: Workspace) -> None:
    beside = ("definition.txt", "label-studio-config.xml", "argilla-settings.json")
    for name in (*beside, "~$batch.xlsx", "a.crdownload", ".~lock.a.csv#", ".a.csv.part", ".DS_Store"):
        put(workspace.inbox / name)
    assert waiting_files(workspace) == []


def test_a_file_that_grows_is_left_and_one_that_does_not_is_taken(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, growing = put(workspace.inbox / "done.csv"), put(workspace.inbox / "growing.csv")
    gone = FilledFile(workspace.inbox / "gone.csv", in_inbox=True)
    in_batch = FilledFile(put(folder_of(workspace) / "batch.csv"), "b1")
    files = [FilledFile(done, in_inbox=True), FilledFile(growing, in_inbox=True), gone, in_batch]
    monkeypatch.setattr("annotation.inbox.time.sleep", lambda _: put(growing, "xx"))
    assert settled_files(files) == [files[0], gone, in_batch]
    monkeypatch.setattr("annotation.inbox.time.sleep", lambda _: None)
    assert settled_files(files) == files, "it stopped growing"


def test_old_files_are_not_waited_for(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    old = put(workspace.inbox / "old.csv")
    os.utime(old, (0, 0))
    monkeypatch.setattr("annotation.inbox.time.sleep", lambda _: pytest.fail("waited"))
    assert len(settled_files([FilledFile(old, in_inbox=True)])) == 1
