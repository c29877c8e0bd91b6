"""Stage `collect`: every answer of every file into the lake, exactly once; what is wrong is told and nothing lost."""

from __future__ import annotations

import csv
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from projects import project_of

import tasks.collect
from annotation.checks import FilledFile
from annotation.formats.journal import Journal
from annotation.label_set import Label, LabelSet
from storage.errors import BatchError
from storage.readers.spellings import text_hash
from storage.records import Answer, Batch
from storage.workspace import Workspace
from tasks.collect import FileReport, collect_answers
from tasks.sample import publish_batches

TEXTS = {"284006": "Floods in Zürich", "00123": "=1+1", "i3": "Fire, and\nsmoke", "i4": "Cats"}
ALL = {"284006": "1", "00123": "0", "i3": "related", "i4": "unsure"}
TAKEN = {"284006": "related", "00123": "not_related", "i3": "related", "i4": "unsure"}
Reserve = Callable[..., Batch]


@pytest.fixture(scope="module")
def published(shared_workspace: Workspace, label_set: LabelSet, reserve_batch: Reserve) -> tuple[Path, Batch]:
    """A workspace with a batch of four items, published."""
    reserved = reserve_batch(shared_workspace, TEXTS)
    publish_batches(project_of(shared_workspace, label_set))
    shared_workspace.close()
    return shared_workspace.root, reserved


@pytest.fixture
def workspace(published: tuple[Path, Batch], tmp_path: Path) -> Workspace:
    """A copy of it."""
    return Workspace(shutil.copytree(published[0], tmp_path / "workspace"))


@pytest.fixture
def batch(published: tuple[Path, Batch]) -> Batch:
    """Its batch."""
    return published[1]


@pytest.fixture
def sheet(workspace: Workspace, batch: Batch) -> Path:
    """The file of the batch."""
    return workspace.batches / batch.batch_id / "batch.csv"


def fill(path: Path, labels: dict[str, str], to: Path | None = None, **columns: str) -> Path:
    """Fill in a file as a person with a spreadsheet does; into a copy where `to` is given."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file, delimiter=";" if ";item_id;" in path.read_text(encoding="utf-8") else ",")
    for row in rows:
        item_id = row[header.index("item_id")]
        if item_id in labels:
            for name, cell in {"label": labels[item_id], **columns}.items():
                row[header.index(name)] = cell
    to = to or path
    to.parent.mkdir(exist_ok=True)
    with to.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows([header, *rows])
    return to


def annotations(workspace: Workspace) -> list[tuple[str, ...]]:
    sql = "SELECT item_id, annotator, answer, note FROM lake.annotations ORDER BY ingested_at, annotated_at, item_id"
    return workspace.store().rows(sql)


def labels_in(workspace: Workspace) -> dict[str, str]:
    return {item_id: answer for item_id, _, answer, _ in annotations(workspace)}


def inbox(workspace: Workspace) -> dict[str, list[str]]:
    """What lies where in the inbox."""
    found: dict[str, list[str]] = {}
    for path in sorted(workspace.inbox.rglob("*")):
        if path.is_file():
            found.setdefault(path.parent.name, []).append(path.name)
    return found


def collect(workspace: Workspace, label_set: LabelSet, *files: Path) -> list[FileReport]:
    return collect_answers(project_of(workspace, label_set), files)


def test_a_file_filled_in_its_batch_is_taken_once(workspace: Workspace, label_set: LabelSet, sheet: Path) -> None:
    fill(sheet, ALL, annotator="anna", note="why")
    (report,) = collect(workspace, label_set)
    name = f"batches/{sheet.parent.name}/batch.csv"
    assert report == FileReport(name, n_new=4, completed=[sheet.parent.name])
    assert labels_in(workspace) == TAKEN
    assert {row[1::2] for row in annotations(workspace)} == {("anna", "why")}
    assert collect(workspace, label_set) == [], "an unchanged file is not read again"
    (again,) = collect(workspace, label_set, sheet)
    assert again == FileReport(name, n_known=4)
    assert len(annotations(workspace)) == 4


def test_good_rows_of_a_bad_file_are_taken_and_the_list_of_errors_once_mended_brings_the_rest(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    fill(sheet, ALL | {"00123": "relatd", "i4": "2"}, workspace.inbox / "anna.csv", annotator="anna")
    report = collect(workspace, label_set)[-1]
    assert (report.n_new, len(report.errors)) == (2, 2)
    assert all(value in report.errors[0] for value in ("row 3", "label", "'relatd'", "'related'"))
    assert labels_in(workspace) == {"284006": "related", "i3": "related"}
    assert inbox(workspace) == {"rejected": ["anna.csv", "anna.csv.errors.csv"]}
    assert report.errors_file == str(workspace.inbox / "rejected" / "anna.csv.errors.csv")
    errors = Path(report.errors_file)
    fill(errors, {"00123": "0"}, workspace.inbox / errors.name)
    report = collect(workspace, label_set)[-1]
    assert (report.n_new, len(report.errors), report.completed) == (1, 1, [])
    fill(Path(str(report.errors_file)), {"i4": "unsure"}, workspace.inbox / "mended.csv")
    report = collect(workspace, label_set)[-1]
    assert (report.n_new, report.errors, report.completed) == (1, [], [sheet.parent.name])
    assert labels_in(workspace) == TAKEN
    assert {row[1] for row in annotations(workspace)} == {"anna"}


def test_errors_beside_a_file_of_a_batch_are_removed_when_the_file_is_mended(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    errors = sheet.with_name("batch.csv.errors.csv")
    fill(sheet, ALL | {"i4": "?"})
    (report,) = collect(workspace, label_set)
    assert (report.errors_file, report.n_new) == (str(errors), 3)
    assert errors.exists()
    assert collect(workspace, label_set) == [], "told once"
    assert errors.exists()
    fill(sheet, {"i4": "skip"})
    (report,) = collect(workspace, label_set)
    assert (report.n_new, report.n_known, report.errors) == (1, 3, [])
    assert not errors.exists()


def test_an_unknown_batch_is_an_error_that_names_the_open_ones(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    fill(sheet, {"284006": "1"}, workspace.inbox / "a.csv", batch_id="b9999")
    a = collect(workspace, label_set)[-1]
    assert all(value in a.errors[0] for value in ("batch_id", "'b9999'", sheet.parent.name))
    assert annotations(workspace) == []
    assert inbox(workspace)["rejected"] == ["a.csv", "a.csv.errors.csv"]


def test_rows_that_name_no_batch_are_of_the_one_that_asked_about_their_item(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    lines = fill(sheet, ALL, workspace.inbox / "a.csv", batch_id="").read_text(encoding="utf-8").splitlines()
    lines.append("Nobody asked;1;;;x9;;")
    (workspace.inbox / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    report = collect(workspace, label_set)[-1]
    assert (report.n_new, len(report.errors)) == (4, 1)
    assert all(value in report.errors[0] for value in ("row 6", "batch_id", "b0001-training"))
    assert labels_in(workspace) == TAKEN


def test_an_archive_is_taken_part_by_part_and_a_bad_part_costs_only_itself(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path
) -> None:
    anna = fill(sheet, ALL, workspace.root / "anna.csv", annotator="anna")
    ben = fill(sheet, ALL | {"i3": "storm"}, workspace.root / "ben.csv", annotator="ben")
    with zipfile.ZipFile(workspace.inbox / "all.zip", "w") as archive:
        for path in (anna, ben):
            archive.write(path, f"team/{path.name}")
        archive.writestr("notes.txt", "thanks")
    report = collect(workspace, label_set)[-1]
    assert report.n_new == 7
    assert any(all(value in error for value in ("team/ben.csv, row 4", "'storm'")) for error in report.errors)
    assert any("all.zip, notes.txt" in error for error in report.errors)
    assert {row[1] for row in annotations(workspace)} == {"anna", "ben"}
    assert workspace.store().rows("SELECT DISTINCT source_file FROM lake.annotations") == [("inbox/all.zip",)]
    errors = Path(str(report.errors_file))
    fill(errors, {"i3": "0"}, workspace.inbox / errors.name)
    assert collect(workspace, label_set)[-1].n_new == 1


@pytest.mark.parametrize("annotator", ["anna", ""])
def test_two_parts_of_an_archive_that_contradict_each_other_are_errors_and_not_the_last_one_wins(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path, annotator: str
) -> None:
    first = fill(sheet, ALL, workspace.root / "first.csv", annotator=annotator)
    second = fill(sheet, ALL | {"i3": "0"}, workspace.root / "second.csv", annotator=annotator)
    with zipfile.ZipFile(workspace.inbox / "both.zip", "w") as archive:
        archive.write(first, "batch.csv")
        archive.write(second, "old/batch.csv")
    report = collect(workspace, label_set)[-1]
    assert (report.n_new, len(report.errors)) == (3, 2)
    for value in ("(batch.csv, row 4", "'related'", "old/batch.csv, row 4", "'not_related'"):
        assert value in report.errors[0]
    assert labels_in(workspace) == {item_id: label for item_id, label in TAKEN.items() if item_id != "i3"}


def test_a_page_in_its_batchs_folder_that_the_manifest_does_not_know_yet_is_no_fault(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    page = sheet.with_name("batch.html")
    page.write_text("<!doctype html><title>a page</title>", encoding="utf-8")
    assert [report.errors for report in collect(workspace, label_set)] == [[]]
    (workspace.inbox / "batch.html").write_bytes(page.read_bytes())
    assert "batch.html" in collect(workspace, label_set)[-1].errors[0]


def test_files_of_no_batch_format_are_rejected_with_the_reason_and_others_are_undisturbed(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    contents = {
        "a-picture.csv": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        "b-texts.csv": b"id,text\r\n1,Floods\r\n2,Fire\r\n",
        "c-empty.csv": b"",
        "d-book.xlsx": b"PK\x03\x04" + bytes(500),
        "e-other.json": b'{"a": 1}\n{"b": 2}\n',
    }
    for name, content in contents.items():
        (workspace.inbox / name).write_bytes(content)
    with zipfile.ZipFile(workspace.inbox / "f-bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("answers", b"0" * 500_000_000)
    contents["f-bomb.zip"] = (workspace.inbox / "f-bomb.zip").read_bytes()
    fill(sheet, ALL, workspace.inbox / "z-good.csv")
    reports = {Path(report.file).name: report for report in collect(workspace, label_set)}
    assert reports["z-good.csv"].n_new == 4
    reasons = ("PNG image", "not a batch file", "is empty", "damaged zip", "its first entry", "would unpack from")
    for name, says in zip(contents, reasons, strict=True):
        (told,) = reports[name].errors
        assert says in told
        assert "Hint: " in told
        assert (workspace.inbox / "rejected" / name).read_bytes() == contents[name]
    assert inbox(workspace) == {"done": ["z-good.csv"], "rejected": sorted(contents)}


def test_one_file_may_hold_rows_of_two_batches(
    workspace: Workspace, label_set: LabelSet, sheet: Path, reserve_batch: Reserve
) -> None:
    reserve_batch(workspace, {"j1": "Dogs"})
    (other,) = publish_batches(project_of(workspace, label_set))
    fill(sheet, ALL, workspace.inbox / "a.csv")
    more = fill(other / "batch.csv", {"j1": "0"}, workspace.inbox / "b.csv").read_text(encoding="utf-8")
    with (workspace.inbox / "a.csv").open("a", encoding="utf-8", newline="") as file:
        file.write(more.partition("\n")[2])
    (workspace.inbox / "b.csv").unlink()
    report = collect(workspace, label_set)[-1]
    assert (report.n_new, sorted(report.completed)) == (5, sorted([sheet.parent.name, other.name]))


def test_a_journal_is_taken_up_to_its_torn_line_and_the_rest_later(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path
) -> None:
    path = sheet.with_name("answers-anna.jsonl")
    Journal(path).close()
    assert not any(report.errors for report in collect(workspace, label_set)), "opened and left is no error"
    with Journal(path) as journal:
        for item_id, label in TAKEN.items():
            journal.append(batch.batch_id, text_hash(TEXTS[item_id]), Answer(item_id, label, "anna", seconds=2.0))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert [(report.n_new, report.errors) for report in collect(workspace, label_set)] == [(3, [])]
    path.write_bytes(whole)
    assert [(report.n_new, report.n_known) for report in collect(workspace, label_set)] == [(1, 3)]
    assert labels_in(workspace) == TAKEN


def test_a_label_added_to_pal_toml_later_lets_refused_answers_in(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    fill(sheet, ALL | {"i4": "storm"})
    assert len(collect(workspace, label_set)[0].errors) == 1
    more = replace(label_set, labels=(*label_set.labels, Label("storm", "2")))
    (report,) = collect(workspace, more)
    assert (report.n_new, report.n_known, report.errors) == (1, 3, [])
    assert labels_in(workspace)["i4"] == "storm"


def test_keys_swapped_in_pal_toml_do_not_turn_the_answers_of_an_old_batch_around(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    fill(sheet, {"284006": "1", "00123": "0"})
    collect(workspace, label_set)
    swapped = replace(label_set, labels=(Label("related", "0", positive=True), Label("not_related", "1")))
    fill(sheet, {"i3": "1"})
    (report,) = collect(workspace, swapped)
    assert (report.n_new, report.n_known, report.errors) == (1, 2, [])
    assert labels_in(workspace) == {"284006": "related", "00123": "not_related", "i3": "related"}


def test_a_file_from_elsewhere_stays_where_it_is_with_its_errors_beside_it(
    workspace: Workspace, label_set: LabelSet, sheet: Path, tmp_path: Path
) -> None:
    path = fill(sheet, ALL | {"i4": "?"}, tmp_path / "mail" / "anna.csv")
    (report,) = collect(workspace, label_set, path)
    assert report.n_new == 3
    assert sorted(each.name for each in path.parent.iterdir()) == ["anna.csv", "anna.csv.errors.csv"]
    assert inbox(workspace) == {}


def test_a_named_file_that_is_not_there_is_an_error_and_a_folder_is_told(
    workspace: Workspace, label_set: LabelSet
) -> None:
    with pytest.raises(BatchError, match=r"nowhere\.csv"):
        collect(workspace, label_set, workspace.inbox / "nowhere.csv")
    (report,) = collect(workspace, label_set, workspace.batches)
    assert str(workspace.batches) in report.errors[0]


def test_many_files_are_one_commit_and_what_brings_nothing_new_is_none(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    for who in ("anna", "ben", "cleo"):
        fill(sheet, ALL, workspace.inbox / f"{who}.csv", annotator=who)
    fill(sheet, ALL | {"i4": "?"}, annotator="dora")
    before = workspace.store().version()
    assert [report.n_new for report in collect(workspace, label_set)] == [3, 4, 4, 4]
    assert workspace.store().version() == before + 1
    assert collect(workspace, label_set) == []
    for who in ("anna", "ben"):
        fill(sheet, ALL, workspace.inbox / f"{who}.csv", annotator=who)
    assert [(report.n_new, report.n_known) for report in collect(workspace, label_set)] == [(0, 4), (0, 4)]
    assert workspace.store().version() == before + 1, "nothing was new"
    assert inbox(workspace).keys() == {"done"}


def test_the_file_that_completes_a_batch_is_the_one_that_says_so(
    workspace: Workspace, label_set: LabelSet, sheet: Path
) -> None:
    parts = ({"284006": "1"}, {"00123": "0", "i3": "1"}, {"i4": "skip"})
    files = [fill(sheet, part, workspace.root / f"{k}.csv") for k, part in enumerate(parts)]
    completed = [report.completed for report in collect(workspace, label_set, *files)]
    assert completed == [[], [], [sheet.parent.name]]
    (report,) = collect(workspace, label_set, fill(sheet, {"i3": "0"}, workspace.root / "corrected.csv"))
    assert (report.n_corrected, report.completed) == (1, [sheet.parent.name]), "it corrects a complete batch"


def test_the_list_of_errors_of_a_file_that_stays_is_there_before_its_answers_are(
    workspace: Workspace, label_set: LabelSet, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sheet, ALL | {"i4": "?"})

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tasks.collect, "ingest_files", crash)
        with pytest.raises(KeyboardInterrupt):
            collect(workspace, label_set)
    assert sheet.with_name("batch.csv.errors.csv").is_file()
    assert annotations(workspace) == []
    (report,) = collect(workspace, label_set)
    assert (report.n_new, len(report.errors)) == (3, 1)


def test_a_file_that_is_still_being_written_is_left_for_the_next_time(
    workspace: Workspace, label_set: LabelSet, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fill(sheet, ALL, workspace.root / "whole.csv").read_bytes()
    path = workspace.inbox / "anna.csv"
    path.write_bytes(whole[:100])
    monkeypatch.setattr("annotation.inbox.time.sleep", lambda _: path.write_bytes(whole))
    assert collect(workspace, label_set) == []
    assert inbox(workspace) == {"inbox": ["anna.csv"]}
    monkeypatch.setattr("annotation.inbox.time.sleep", lambda _: None)
    assert [(report.n_new, report.errors) for report in collect(workspace, label_set)] == [(4, [])]


def test_a_file_that_another_ingest_put_away_meanwhile_disturbs_nothing(
    workspace: Workspace, label_set: LabelSet, sheet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = FilledFile(fill(sheet, ALL, workspace.inbox / "b.csv"), in_inbox=True)
    gone = FilledFile(workspace.inbox / "a.csv", in_inbox=True)
    monkeypatch.setattr(tasks.collect, "waiting_files", lambda *_: [gone, good])
    assert [report.n_new for report in collect(workspace, label_set)] == [4]


def test_a_refused_line_of_a_journal_can_be_mended_in_the_list_of_errors(
    workspace: Workspace, label_set: LabelSet, batch: Batch, sheet: Path
) -> None:
    with Journal(sheet.with_name("answers-anna.jsonl")) as journal:
        journal.append(batch.batch_id, text_hash(TEXTS["i3"]), Answer("i3", "storm", "anna", note="why"))
    report = collect(workspace, label_set)[0]
    errors = Path(str(report.errors_file))
    fill(errors, {"i3": "related"}, workspace.inbox / errors.name)
    assert collect(workspace, label_set)[-1].errors == []
    assert annotations(workspace) == [("i3", "anna", "related", "why")]
