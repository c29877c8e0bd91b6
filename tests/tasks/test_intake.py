"""The intake of files: claimed, isolated, put away as they were read, by rules of precedence that no clock changes."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from projects import project_of
from test_collect import (
    ALL,
    TAKEN,
    TEXTS,
    annotations,
    batch,
    collect,
    fill,
    inbox,
    labels_in,
    published,
    sheet,
    workspace,
)

import tasks.collect
from annotation.checks import FilledRow
from annotation.claims import CLAIMED, PUT_AWAY, alone_in, claim
from annotation.formats.journal import Journal, journal_path
from annotation.formats.registry import FORMATS
from annotation.inbox import BatchChecks, waiting_answers
from annotation.label_set import LabelSet
from flows.cli.annotating import annotate_batch, publish_formats
from flows.cli.status import status_of
from flows.ingest import check_ingest
from storage.errors import BatchError, StoreError
from storage.lake.batches import Draft, close_batch, reserve
from storage.lake.items import item_ids_of
from storage.lake.schema import current_labels, workspace_id
from storage.readers.opening import read_labelled
from storage.readers.spellings import text_hash
from storage.records import Answer, Batch, Proposal, Split
from storage.upkeep.backup import keep, restore
from storage.workspace import Workspace
from tasks.collect import JOURNAL, FileReport, collect_answers, files_to_collect
from tasks.config.settings import BatchConfig
from tasks.import_files import ReadOptions, import_file
from tasks.sample import publish_batches

__all__ = ["batch", "published", "sheet", "workspace"]  # fixtures


def label_of(workspace: Workspace, item_id: str) -> str | None:
    rows = workspace.store().rows(f"SELECT label FROM ({current_labels()}) WHERE item_id = ?", [item_id])
    return rows[0][0] if rows else None


def journal_line(batch: Batch, item_id: str = "i3", **values: object) -> str:
    line = {"batch_id": batch.batch_id, "item_id": item_id, "text_hash": text_hash(TEXTS[item_id])}
    line |= {"answer": "related", "note": "", "annotator": "anna", "annotated_at": "2026-01-02T03:04:05+00:00"}
    return json.dumps(line | values) + "\n"


IMPOSSIBLE: dict[str, dict[str, object]] = {
    "early": {"annotated_at": "0001-01-01T00:00:00+14:00"},
    "late": {"annotated_at": "9999-12-31T23:59:00-14:00"},
    "long": {"seconds": 10**400},
    "deep": {"seconds": json.loads("[" * 500 + "]" * 500)},
    "void": {"text_hash": None},
}


@pytest.mark.parametrize("in_batch", [True, False])
def test_a_value_that_cannot_be_is_an_error_of_its_file_and_row_and_all_other_files_go_on(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path, in_batch: bool
) -> None:
    place = sheet.parent if in_batch else workspace.inbox
    for name, line in IMPOSSIBLE.items():
        lines = journal_line(batch) + journal_line(batch, "i4", **line)
        (place / f"answers-{name}.jsonl").write_text(lines, encoding="utf-8")
    good = fill(sheet, ALL, workspace.inbox / "good.csv")
    reports = {Path(report.file).name: report for report in collect(workspace, label_set)}
    assert reports[good.name].n_new == 4
    for name in IMPOSSIBLE:
        (error,) = reports[f"answers-{name}.jsonl"].errors
        assert "row 2" in error
        assert CLAIMED not in error
    assert waiting_answers(workspace, batch.batch_id, label_set) == []


def test_whatever_a_reader_raises_is_an_error_of_its_file(
    workspace: Workspace, label_set: LabelSet, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sheet, ALL, workspace.inbox / "a.csv", annotator="anna")
    fill(sheet, ALL, workspace.inbox / "b.csv", annotator="ben")
    read = tasks.collect.check_file.__globals__["_checked"]

    def fails(checks: object, file: object, form: object) -> object:
        if "a.csv" in str(file):
            raise ZeroDivisionError("an unforeseen fault")
        return read(checks, file, form)

    monkeypatch.setattr("annotation.inbox._checked", fails)
    a, b = collect(workspace, label_set)
    assert (len(a.errors), a.place, b.n_new) == (1, "inbox/rejected/a.csv", 4)


@pytest.mark.parametrize("moment", ["read", "ingested"])
@pytest.mark.parametrize("in_batch", [True, False])
def test_a_file_that_changes_while_it_is_read_is_read_again_and_nothing_of_it_is_lost(
    workspace: Workspace, label_set: LabelSet, sheet: Path, moment: str, in_batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fill(sheet, {"i3": "1"}, None if in_batch else workspace.inbox / "anna.csv")
    claimed = path if in_batch else workspace.inbox / CLAIMED / "anna.csv"
    called = getattr(tasks.collect, "check_file" if moment == "read" else "ingest_files")

    def and_changes(*arguments: object) -> object:
        result = called(*arguments)
        fill(claimed, ALL)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(tasks.collect, called.__name__, and_changes)
        (report,) = collect(workspace, label_set)
    assert (report.n_new, report.errors) == (int(moment == "ingested"), [])
    assert path.exists()
    collect(workspace, label_set)
    assert labels_in(workspace) == TAKEN
    assert path.exists() == in_batch


def test_a_file_that_is_written_on_after_it_was_put_away_is_read_again(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    lines = fill(sheet, ALL, workspace.inbox / "stalled.csv").read_bytes().splitlines(keepends=True)
    (workspace.inbox / "stalled.csv").unlink()
    with (workspace.inbox / "stalled.csv").open("wb", buffering=0) as upload:
        upload.writelines(lines[:3])
        (first,) = collect(workspace, label_set)
        assert first.n_new == 2
        assert not files_to_collect(project_of(workspace, label_set))
        upload.writelines(lines[3:])
    assert files_to_collect(project_of(workspace, label_set))
    (second,) = collect(workspace, label_set)
    assert (second.n_new, second.n_known) == (len(ALL) - 2, 2)
    assert collect(workspace, label_set) == []


def test_a_file_that_is_saved_again_under_its_name_while_it_is_read_is_another_file(
    workspace: Workspace, label_set: LabelSet, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fill(sheet, {"i3": "1"}, workspace.inbox / "anna.csv")
    ingest_files = tasks.collect.ingest_files

    def and_saves(*arguments: object) -> object:
        fill(sheet, ALL, path)
        return ingest_files(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(tasks.collect, "ingest_files", and_saves)
        collect(workspace, label_set)
    assert inbox(workspace) == {"done": ["anna.csv"], "inbox": ["anna.csv"]}
    assert [report.n_new for report in collect(workspace, label_set)] == [3]


def test_a_file_that_a_crashed_ingest_claimed_waits_again(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    path = fill(sheet, ALL, workspace.inbox / "anna.csv")
    claim(workspace.inbox, path)
    assert check_ingest(project_of(workspace, label_set), [path])
    assert status_of(project_of(workspace, label_set)).inbox == 1
    fill(sheet, {"i3": "1"}, path, annotator="ben")
    assert [report.n_new for report in collect(workspace, label_set)] == [4, 1]
    assert inbox(workspace) == {"done": ["anna (2).csv", "anna.csv"]}


def test_the_journal_says_what_became_of_every_file(workspace: Workspace, label_set: LabelSet, sheet: Path) -> None:
    fill(sheet, ALL | {"i4": "?"}, workspace.inbox / "anna.csv", annotator="anna")
    collect(workspace, label_set)
    fill(sheet, {"i3": "0"}, workspace.inbox / "anna.csv", annotator="Anna ")
    collect(workspace, label_set)
    lines = (workspace.reports / JOURNAL).read_text(encoding="utf-8").splitlines()
    names = ("file", "n_rows", "n_new", "n_corrected", "n_known", "place")
    assert [tuple(json.loads(line)[name] for name in names) for line in lines] == [
        ("inbox/anna.csv", 4, 3, 0, 0, "inbox/rejected/anna.csv"),
        ("inbox/anna.csv", 4, 1, 1, 0, "inbox/done/anna.csv"),
    ]
    assert all(len(json.loads(line)["sha256"]) == 64 for line in lines)


def test_bytes_ingested_before_change_nothing_unless_asked_and_the_date_is_shown(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    def hand_in(name: str, label: str, note: str = "") -> FileReport:
        fill(sheet, {"i3": label}, workspace.inbox / name, annotator="anna", note=note)
        return collect(workspace, label_set)[-1]

    assert hand_in("a.csv", "1").n_new == 1
    assert hand_in("b.csv", "0").n_corrected == 1
    again = hand_in("old copy.csv", "1")
    assert (again.n_new, again.n_known, label_of(workspace, "i3")) == (0, 1, "not_related")
    assert again.known_since is not None
    assert f"{again.known_since:%Y-%m-%d}" in again.line()
    assert hand_in("c.csv", "1", note="sure").n_corrected == 1, "another file, the same answer"
    assert label_of(workspace, "i3") == "related"
    copy = fill(sheet, {"i3": "0"}, workspace.inbox / "b.csv", annotator="anna")
    (report,) = collect_answers(project_of(workspace, label_set), [copy], again=True)
    assert (report.n_corrected, label_of(workspace, "i3")) == (1, "not_related")


def test_in_an_archive_files_that_were_ingested_before_are_passed_over_in_either_order(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    def zipped(name: str, **labels: str) -> None:
        with zipfile.ZipFile(workspace.inbox / name, "w") as archive:
            for part, label in labels.items():
                items = {"i3": label} if part != "ben" else {"i4": label}
                archive.write(fill(sheet, items, workspace.root / f"{part}.csv", annotator=part), f"{part}.csv")

    zipped("week 1.zip", anna="1", eve="?")
    collect(workspace, label_set)
    fill(sheet, {"i3": "0"}, workspace.inbox / "corrected.csv", annotator="anna")
    collect(workspace, label_set)
    zipped("week 2.zip", anna="1", ben="1", eve="?")
    (report,) = collect(workspace, label_set)
    assert (report.n_new, report.n_corrected, len(report.notes)) == (1, 0, 1)
    assert (label_of(workspace, "i3"), label_of(workspace, "i4")) == ("not_related", "related")
    assert any("'?'" in error for error in report.errors), "what was refused is looked at again"
    fill(sheet, {"i4": "1"}, workspace.inbox / "ben.csv", annotator="ben")
    (report,) = collect(workspace, label_set)
    assert report.known_since is not None
    zipped("again.zip", anna="1")
    (report,) = collect_answers(project_of(workspace, label_set), [workspace.inbox / "again.zip"], again=True)
    assert (report.n_corrected, label_of(workspace, "i3")) == (1, "related")


def test_what_is_passed_over_in_the_inbox_is_named(
    workspace: Workspace, label_set: LabelSet, sheet: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (workspace.inbox / "anna").mkdir()
    fill(sheet, ALL, workspace.inbox / "anna" / "batch.csv")
    fill(sheet, ALL, workspace.inbox / "ben.csv.part")
    fill(sheet, ALL, workspace.inbox / "eve.csv")
    assert [report.file for report in collect(workspace, label_set)] == ["inbox/eve.csv"]
    named = [line.split(" ")[0] for line in status_of(project_of(workspace, label_set)).passed_over]
    assert named == ["inbox/anna", "inbox/ben.csv.part"]
    assert all(name in caplog.text for name in named)


def test_files_that_contradict_each_other_stay_and_are_named_until_one_is_corrected(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    fill(sheet, ALL, annotator="anna")
    one = fill(sheet, ALL | {"i3": "0"}, workspace.inbox / "one.csv", annotator="ANNA")
    fill(sheet, ALL, workspace.inbox / "two.csv", annotator="ben")
    for _ in range(2):
        reports = collect(workspace, label_set)
        named = [report for report in reports if report.errors]
        assert [report.file for report in named] == [f"batches/{sheet.parent.name}/batch.csv", "inbox/one.csv"]
        assert all(name in report.errors[0] for report in named for name in ("batch.csv", "one.csv", "i3", "anna"))
        assert {row[1] for row in annotations(workspace)} == {"ben"}
    one.unlink()
    assert [report.n_new for report in collect(workspace, label_set)] == [4]


@pytest.mark.parametrize("restored", [True, False])
@pytest.mark.parametrize("later", [True, False])
def test_an_answer_in_the_terminal_wins_over_a_file_that_was_handed_in_before_it(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path, later: bool, restored: bool, tmp_path: Path
) -> None:
    path = fill(sheet, {"i3": "1"}, workspace.inbox / "anna.csv", annotator="anna")
    saved = datetime.now(UTC) - timedelta(days=1)
    os.utime(path, (saved.timestamp(), saved.timestamp()))
    given = saved + timedelta(seconds=60 if later else -60)
    with Journal(sheet.with_name("answers-anna.jsonl")) as journal:
        journal.append(batch.batch_id, text_hash(TEXTS["i3"]), Answer("i3", "not_related", "anna", annotated_at=given))
    if restored:
        keep(workspace, workspace.store(), tmp_path / "kept")
        restore(tmp_path / "kept", tmp_path / "restored")
        workspace = Workspace(tmp_path / "restored")
        path = workspace.inbox / path.name
    errors = [error for report in collect(workspace, label_set) for error in report.errors]
    assert (label_of(workspace, "i3"), len(errors)) == (("not_related", 0) if later else (None, 2))
    assert path.exists() is not later


@pytest.mark.parametrize("terminal", ["neither", "earlier", "later"])
def test_files_of_two_batches_with_an_item_contradict_each_other_unless_the_later_answer_was_given_in_a_terminal(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path, terminal: str
) -> None:
    store, ids = workspace.store(), list(TEXTS)
    close_batch(store, batch.batch_id)
    draft = Draft(Split.TRAINING, ids, [Proposal(name, "random", None, 1) for name in ids], 7, store.version(), "")
    later = reserve(store, draft, beside_open=False)[0]
    publish_batches(project_of(workspace, label_set))
    given = datetime.now(UTC) - timedelta(hours=1)
    for one, value in ((batch, "1"), (later, "0")):
        folder = workspace.batches / one.batch_id
        if terminal == "later" or (terminal == "earlier" and one is batch):
            answer = Answer("i3", {"1": "related", "0": "not_related"}[value], "anna", annotated_at=given)
            with Journal(folder / "answers-anna.jsonl") as journal:
                journal.append(one.batch_id, text_hash(TEXTS["i3"]), answer)
        else:
            fill(folder / "batch.csv", {"i3": value}, annotator="anna")
    errors = [report for report in collect(workspace, label_set) if report.errors]
    assert len(errors) == (0 if terminal == "later" else 2)
    assert label_of(workspace, "i3") == ("not_related" if terminal == "later" else None)


def test_characters_that_cannot_be_stored_are_left_out_of_names_and_notes_and_a_long_name_is_an_error(
    workspace: Workspace, batch: Batch, label_set: LabelSet
) -> None:
    row = FilledRow(2, batch.batch_id, "i3", "1", text=TEXTS["i3"], note="a\0b\ufeff", annotator="an\0na\x1b\n x")
    answers, errors = BatchChecks(workspace, label_set).answers(
        batch.batch_id, [row, replace(row, annotator="x" * 201), replace(row, annotator="y" * 200)]
    )
    assert [(answer.annotator, answer.note) for answer in answers] == [("anna x", "ab"), ("y" * 200, "ab")]
    assert [error.column for error in errors] == ["annotator"]


def test_a_line_that_is_too_long_to_be_read_is_an_error_that_says_so(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    fill(sheet, {"284006": "1"}, note="a note")
    path = fill(sheet, {"i4": "1"}, workspace.inbox / "anna.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("a note", "x" * 200_000), encoding="utf-8")
    sheet.unlink()
    (report,) = collect(workspace, label_set)
    assert (report.n_new, len(report.errors)) == (1, 1)
    assert "100,000" in report.errors[0]


@pytest.mark.parametrize("seconds", [-1, -0.001, 1e300, float("-inf"), float("nan")])
def test_a_duration_that_cannot_be_is_left_out_of_an_answer(
    workspace: Workspace, batch: Batch, label_set: LabelSet, seconds: float
) -> None:
    row = FilledRow(2, batch.batch_id, "i3", "1", text=TEXTS["i3"], seconds=seconds)
    answers, errors = BatchChecks(workspace, label_set).answers(batch.batch_id, [row])
    assert ([(answer.answer, answer.seconds) for answer in answers], errors) == ([("related", None)], [])


@pytest.mark.parametrize("name", [CLAIMED, *PUT_AWAY])
def test_a_file_with_the_name_of_a_folder_of_the_inbox_is_named_and_nothing_is_ingested(
    workspace: Workspace, label_set: LabelSet, sheet: Path, name: str
) -> None:
    path = fill(sheet, ALL, workspace.inbox / "anna.csv")
    (workspace.inbox / name).touch()
    with pytest.raises(BatchError, match=name):
        collect(workspace, label_set)
    assert (path.is_file(), annotations(workspace)) == (True, [])


def test_a_time_ahead_of_the_clock_outranks_no_later_file_and_is_reported(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path
) -> None:
    (workspace.inbox / "phone.jsonl").write_text(
        journal_line(batch, annotated_at="2126-01-01T00:00:00+00:00"), encoding="utf-8"
    )
    (report,) = collect(workspace, label_set)
    assert (report.n_new, len(report.notes)) == (1, 1)
    fill(sheet, {"i3": "0"}, workspace.inbox / "corrected.csv", annotator="anna")
    collect(workspace, label_set)
    assert label_of(workspace, "i3") == "not_related"


def test_a_file_of_another_workspace_is_refused_in_every_format(
    label_set: LabelSet, reserve_batch: Callable[..., Batch], tmp_path: Path
) -> None:
    formats = [name for name in FORMATS if name not in ("original", "html")]

    def published(root: Path) -> tuple[Workspace, list[Path]]:
        made = Workspace(root)
        made.make()
        reserved, project = reserve_batch(made, TEXTS), project_of(made, label_set)
        publish_batches(project)
        return made, publish_formats(project, reserved.batch_id, formats)

    (here, own), (_, foreign) = published(tmp_path / "here"), published(tmp_path / "there")
    for mine, other in zip(own, foreign, strict=True):
        mine.replace(here.inbox / mine.name)
        other.replace(here.inbox / f"foreign-{other.name}")
    reports = {Path(report.file).name: report for report in collect(here, label_set)}
    for path in own:
        assert (reports[path.name].errors, len(reports[path.name].notes)) == ([], 1), "it is blank"
        assert len(reports[f"foreign-{path.name}"].errors) == 1
    names = sorted(path.name for path in own)
    assert inbox(here) == {"done": names, "rejected": [f"foreign-{name}" for name in names]}


def test_in_a_file_that_is_partly_of_another_workspace_every_foreign_row_is_refused(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    path = fill(sheet, ALL, workspace.inbox / "anna.csv")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    foreign = [line.replace(workspace_id(workspace.store()), "another") for line in lines[3:]]
    path.write_text("".join(lines[:3] + foreign), encoding="utf-8")
    (report,) = collect(workspace, label_set)
    assert (report.n_new, len(report.errors)) == (2, 2)
    assert report.errors_file is not None


def test_joined_files_repeat_their_header_and_a_hand_may_write_a_workspace_in_capitals(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    path = fill(sheet, ALL, workspace.inbox / "anna.csv")
    header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    ours = workspace_id(workspace.store())
    again = [header, *lines[:2], header.upper(), *(line.replace(ours, ours.upper()) for line in lines[2:])]
    path.write_text("".join(again), encoding="utf-8")
    (report,) = collect(workspace, label_set)
    assert (report.n_new, report.errors) == (len(ALL), [])


def test_cells_that_moved_between_columns_are_not_taken_for_those_of_another_workspace(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    path = fill(sheet, ALL, workspace.inbox / "anna.csv")
    moved = path.read_text(encoding="utf-8").replace(workspace_id(workspace.store()), "a" * 32)
    path.write_text(moved, encoding="utf-8")
    (report,) = collect(workspace, label_set)
    assert (report.n_new, len(report.errors)) == (0, len(ALL))
    assert not any("another workspace" in error for error in map(str, report.errors))


def test_answers_of_a_page_and_of_a_terminal_name_their_workspace(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path
) -> None:
    assert workspace_id(workspace.store()) in sheet.read_text(encoding="utf-8")
    (workspace.inbox / "page.jsonl").write_text(journal_line(batch, workspace_id="another"), encoding="utf-8")
    with Journal(sheet.with_name("answers-ben.jsonl"), "another") as journal:
        journal.append(batch.batch_id, text_hash(TEXTS["i3"]), Answer("i3", "related", "ben"))
    assert [len(report.errors) for report in collect(workspace, label_set)] == [1, 1]
    assert annotations(workspace) == []


def test_a_file_in_which_no_answer_is_recognized_is_refused_and_what_stands_there_is_said(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path
) -> None:
    header, *rows = fill(sheet, {}, workspace.inbox / "a.csv").read_text(encoding="utf-8").splitlines()
    lines = [f"{header};my answer", *(f"{row};yes" for row in rows)]
    (workspace.inbox / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    data = {"text": TEXTS["i3"], "item_id": "i3", "batch_id": batch.batch_id}
    old = [{"id": 1, "data": data, "completions": [{"id": 1, "result": []}]}]
    (workspace.inbox / "b.json").write_text(json.dumps(old), encoding="utf-8")
    minimal = [{**data, "id": 1, "annotation_id": 1, "sentiment": "related"}]
    (workspace.inbox / "c.json").write_text(json.dumps(minimal), encoding="utf-8")
    flat = [
        {
            **data,
            "sentiment.responses": ["yes"],
            "sentiment.responses.users": ["u"],
            "sentiment.responses.status": ["submitted"],
        }
    ]
    (workspace.inbox / "d.json").write_text(json.dumps(flat), encoding="utf-8")
    reports = collect(workspace, label_set)
    assert [len(report.errors) for report in reports] == [1, 1, 1, 1]
    for report, word in zip(reports, ("my answer", "completions", "sentiment", "sentiment"), strict=True):
        assert word in report.errors[0]
        assert report.place.startswith("inbox/rejected/")


def test_links_and_endless_notes_are_refused(workspace: Workspace, label_set: LabelSet, sheet: Path) -> None:
    outside = fill(sheet, ALL, workspace.root / "outside.csv")
    (workspace.inbox / "link.csv").symlink_to(outside)
    fill(sheet, {"i3": "1"}, workspace.inbox / "note.csv", note="x" * 10_001)
    link, note = collect(workspace, label_set)
    assert [len(report.errors) for report in (link, note)] == [1, 1]
    assert "note" in note.errors[0]
    assert (annotations(workspace), outside.exists()) == ([], True)


def test_one_ingest_at_a_time(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotation.claims.PATIENCE_S", 0.1)
    with alone_in(workspace), pytest.raises(BatchError), alone_in(workspace):
        pytest.fail("two at once")


def test_the_same_means_the_same_wherever_texts_labels_and_annotators_come_in(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_of(workspace, label_set)
    texts = [TEXTS["i3"], "\uff26IRE,\u200b and smoke", "  fire, \ufeffand\u00a0smoke"]
    odd = workspace.root / "odd.csv"
    with odd.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((text, label) for text, label in zip(texts, "yYＹ", strict=True))]
        )
    assert import_file(project, odd, ReadOptions(text_columns=("text",))).n_new == 0, "import"
    assert read_labelled(odd).table.select(["text", "label"]).to_pylist() == [{"text": texts[0], "label": "y"}], (
        "simulate"
    )
    assert set(item_ids_of(workspace.store(), pa.chunked_array([texts]))) == {"i3"}, "predict"
    fill(sheet, {"i3": "ＲELATED\u200b"}, workspace.inbox / "anna.csv", annotator="Anna")
    fill(sheet, {"i4": "１"}, workspace.inbox / "b.csv", annotator=" ＡNNA")
    assert [report.n_new for report in collect(workspace, label_set)] == [1, 1]
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n1\nq\n"))
    annotate_batch(project, batch.batch_id, "an\u200bna")
    assert journal_path(sheet.parent, "Anna").is_file(), "annotate"
    with pytest.raises(ValueError, match="twice"):
        BatchConfig(annotators=("Anna", "ａnna"))


def test_in_a_restored_or_copied_workspace_nothing_that_was_put_away_comes_back(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    fill(sheet, ALL, workspace.inbox / "a.csv")
    (report,) = collect(workspace, label_set)
    os.utime(workspace.root / report.place)
    with (workspace.reports / JOURNAL).open("ab") as journal:
        journal.write(b"\xff a damaged line\n")
    assert files_to_collect(project_of(workspace, label_set)) == []


def test_a_backup_keeps_a_file_that_a_killed_ingest_had_claimed_and_no_ingest_moves_files_under_it(
    workspace: Workspace, label_set: LabelSet, sheet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(workspace.inbox, fill(sheet, ALL, workspace.inbox / "a.csv"))
    with monkeypatch.context() as patch, alone_in(workspace):
        patch.setattr("storage.upkeep.backup.PATIENCE_S", 0.1)
        with pytest.raises(StoreError):
            keep(workspace, workspace.store(), tmp_path / "kept")
    claim(workspace.inbox, workspace.inbox / "a.csv")
    keep(workspace, workspace.store(), tmp_path / "kept")
    restore(tmp_path / "kept", tmp_path / "again")
    again = Workspace(tmp_path / "again")
    collect(again, label_set)
    assert labels_in(again) == TAKEN
    assert files_to_collect(project_of(again, label_set)) == []


def test_odd_files_of_the_inbox_are_named_as_they_are_and_put_away(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    (workspace.inbox / "link.csv").symlink_to("/etc/hostname")
    long = fill(sheet, {"i3": "no such label"}, workspace.inbox / f"{'x' * 251}.csv")
    reports = {Path(report.file).name: report for report in collect(workspace, label_set)}
    assert reports["link.csv"].place == "inbox/rejected/link.csv"
    assert not long.exists()
    assert Path(reports[long.name].errors_file or "").is_file()
