"""A filled file is looked through without taking anything, and comes into the inbox whole, under a name of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from annotation.batch import contents_of, write_batch
from annotation.checks import FilledFile
from annotation.inbox import BatchChecks, check_file, into_inbox
from annotation.label_set import LabelSet
from annotation.synthetic import fill_csv
from storage.lake.batches import find_batch
from storage.records import Batch
from storage.workspace import Workspace

LABELS = {"i1": "related", "i2": "not_related", "i3": "nonsense"}


@pytest.fixture
def filled(workspace: Workspace, label_set: LabelSet, reserve_batch: Callable[..., Batch], tmp_path: Path) -> Path:
    """A file of three rows, two of them with a label."""
    batch = reserve_batch(workspace, {"i1": "Floods", "i2": "Tea", "i3": "Cats"})
    folder = workspace.batches / batch.batch_id
    write_batch(folder, batch, contents_of(workspace.store(), batch), label_set)
    path = tmp_path / "anna.csv"
    path.write_bytes((folder / "batch.csv").read_bytes())
    fill_csv(path, LABELS, annotator="anna")
    return path


def test_a_file_is_checked_and_nothing_is_taken(workspace: Workspace, label_set: LabelSet, filled: Path) -> None:
    found = check_file(BatchChecks(workspace, label_set), FilledFile(filled))
    ((batch_id, answers),) = found.answers.items()
    assert {answer.item_id: answer.answer for answer in answers} == {"i1": "related", "i2": "not_related"}
    assert ["nonsense" in str(error) for error in found.errors] == [True]
    assert find_batch(workspace.store(), batch_id).n_answered == 0
    assert filled.is_file()


def test_what_cannot_be_read_is_said(workspace: Workspace, label_set: LabelSet, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("not a batch\n", encoding="utf-8")
    found = check_file(BatchChecks(workspace, label_set), FilledFile(other))
    assert found.unreadable
    assert not found.answers


def test_files_of_one_name_lie_side_by_side_in_the_inbox(workspace: Workspace, filled: Path) -> None:
    places = [into_inbox(workspace, filled) for _ in range(3)]
    assert [place.name for place in places] == ["anna.csv", "anna (2).csv", "anna (3).csv"]
    assert all(place.read_bytes() == filled.read_bytes() for place in places)
    assert filled.is_file()
    assert len(list(workspace.inbox.iterdir())) == 3, "nothing half copied is left"


def test_a_file_comes_into_the_inbox_where_the_file_system_has_no_links(
    workspace: Workspace, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*paths: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    assert [into_inbox(workspace, filled).name for _ in range(2)] == ["anna.csv", "anna (2).csv"]
