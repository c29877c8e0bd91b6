"""A person at the terminal: lost files come back, what is answered is not asked again, what cannot be is told."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from annotation.batch import read_manifest
from annotation.synthetic import fill_csv
from flows.cli.annotating import annotate_batch
from storage.errors import BatchError
from storage.lake.annotations import LabelledItem, import_labelled, ingest
from storage.lake.batches import Draft, close_batch, reserve
from storage.records import Answer, Assignment, Batch, Proposal, Purpose, Split
from tasks.config.template import DISASTER
from tasks.project import Project

TEXTS = {"i1": "Floods", "i2": "Fair", "i3": "Fire"}
Type = Callable[[str], None]


@pytest.fixture
def batch(project: Project, reserve_batch: Callable[..., Batch]) -> Batch:
    """Three items, out with annotators, whose files are not written yet."""
    return reserve_batch(project.workspace, TEXTS)


@pytest.fixture
def type_lines(monkeypatch: pytest.MonkeyPatch) -> Type:
    """What comes through a pipe to stdin, a key a line."""
    return lambda lines: monkeypatch.setattr("sys.stdin", io.StringIO(lines))


def journal(project: Project, batch: Batch, annotator: str) -> list[tuple[str, str]]:
    path = project.workspace.batches / batch.batch_id / f"answers-{annotator}.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["item_id"], line["answer"]) for line in lines]


def test_a_batch_whose_folder_was_deleted_is_written_again(project: Project, batch: Batch, type_lines: Type) -> None:
    folder = project.workspace.batches / batch.batch_id
    for _ in range(2):
        type_lines("1\n")
        tally = annotate_batch(project, batch.batch_id, "anna")
        assert (tally.answered, tally.total, tally.finished) == (1, 3, False)
        assert [item["item_id"] for item in read_manifest(folder)["items"]] == list(TEXTS)
        assert (folder / "batch.csv").is_file()
        assert journal(project, batch, "anna") == [("i1", "related")]
        shutil.rmtree(folder)


def test_answers_in_the_file_or_in_another_journal_are_not_asked_again(
    project: Project, batch: Batch, type_lines: Type
) -> None:
    type_lines("")
    annotate_batch(project, None, "anna")
    fill_csv(project.workspace.batches / batch.batch_id / "batch.csv", {"i2": "not_related"})
    type_lines("1\n")
    annotate_batch(project, None, "anna")
    assert journal(project, batch, "anna") == [("i1", "related")]
    type_lines("1\n")
    tally = annotate_batch(project, None, "bert")
    assert journal(project, batch, "bert") == [("i3", "related")]
    assert (tally.finished, tally.by_answer) == (True, {"related": 2, "not_related": 1})


def test_an_imported_batch_has_no_files_to_answer(project: Project, batch: Batch) -> None:
    store = project.workspace.store()
    close_batch(store, batch.batch_id)
    labelled = [LabelledItem("i1", "related", "random", None)]
    import_labelled(store, "start", Split.TRAINING, labelled, DISASTER.digest, "test")
    with pytest.raises(BatchError) as raised:
        annotate_batch(project, "start", "anna")
    assert " start " in raised.value.what, "the batch"
    assert "pal status" in raised.value.hint
    assert not (project.workspace.batches / "start").exists()


def test_without_a_batch_the_oldest_open_one_is_asked_and_without_any_that_is_told(
    project: Project, batch: Batch, reserve_batch: Callable[..., Batch], type_lines: Type
) -> None:
    second = reserve_batch(project.workspace, {"i4": "Hail"})
    type_lines("")
    annotate_batch(project, None, "anna")
    assert [path.name for path in Path(project.workspace.batches).iterdir()] == [batch.batch_id]
    for each in (batch, second):
        close_batch(project.workspace.store(), each.batch_id)
    with pytest.raises(BatchError) as raised:
        annotate_batch(project, None, "anna")
    assert "pal next" in raised.value.hint
    with pytest.raises(BatchError, match="'b9'"):
        annotate_batch(project, "b9", "anna")


@pytest.fixture
def shared(project: Project, batch: Batch) -> Batch:
    """A batch of i1 and i2: anna is asked about i2, the settled i3 and i1; ben about i1."""
    store = project.workspace.store()
    ingest(store, batch.batch_id, [Answer("i3", "related", "dora")], "f")
    close_batch(store, batch.batch_id)
    asked = [Assignment("i2", "anna"), Assignment("i3", "anna", gold=True), Assignment("i1", "anna")]
    asked.append(Assignment("i1", "ben"))
    proposals = [Proposal(item_id, "random", None, 1) for item_id in ("i1", "i2")]
    draft = Draft(Purpose.TRAINING, ["i1", "i2"], proposals, 0, store.version(), "d", assignments=asked)
    return reserve(store, draft, beside_open=False)[0]


def test_each_is_asked_what_is_assigned_to_them_in_their_order_gold_unmarked(
    project: Project, shared: Batch, type_lines: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    type_lines("1\n0\n1\n")
    tally = annotate_batch(project, shared.batch_id, "anna")
    assert (tally.answered, tally.total, tally.finished) == (3, 3, True)
    assert journal(project, shared, "anna") == [("i2", "related"), ("i3", "not_related"), ("i1", "related")]
    assert "gold" not in capsys.readouterr().out.lower()
    ingest(project.workspace.store(), shared.batch_id, [Answer("i1", "related", "anna")], "f")
    type_lines("0\n")
    assert annotate_batch(project, shared.batch_id, "ben").finished, "anna's answers are not his"
    assert journal(project, shared, "ben") == [("i1", "not_related")]
    type_lines("1\n")
    assert annotate_batch(project, shared.batch_id, "ben").answered == 1
    assert journal(project, shared, "ben") == [("i1", "not_related")], "not asked twice"


def test_who_is_asked_about_nothing_is_told_who_is(project: Project, shared: Batch, type_lines: Type) -> None:
    type_lines("1\n")
    with pytest.raises(BatchError) as raised:
        annotate_batch(project, shared.batch_id, "cleo")
    assert all(value in raised.value.what for value in (shared.batch_id, "'cleo'"))
    assert "--annotator anna | ben" in raised.value.hint
    assert not list((project.workspace.batches / shared.batch_id).glob("answers-*"))


def test_an_adjudicator_sees_the_answers_so_far(
    project: Project, batch: Batch, type_lines: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    store = project.workspace.store()
    given = [Answer("i1", "related", "anna"), Answer("i1", "not_related", "ben", "no town")]
    ingest(store, batch.batch_id, given, "f")
    close_batch(store, batch.batch_id)
    draft = Draft(Purpose.ADJUDICATION, ["i1"], [Proposal("i1", "disputed", None, 1)], 0, store.version(), "d")
    again, _ = reserve(store, draft, beside_open=False)
    type_lines("1\n")
    assert annotate_batch(project, None, "zoe").finished
    assert "anna: related; ben: not_related (no town)" in capsys.readouterr().out
    assert journal(project, again, "zoe") == [("i1", "related")]
