"""Imports: each text once, each label in one split, every row that is not taken told."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from figures import figures
from lake_rows import contents

from storage.lake.importing import ImportReport, import_original, import_source
from storage.lake.items import count_items, count_pool
from storage.lake.schema import UNAVAILABLE, current_labels
from storage.lake.store import Store
from storage.readers.opening import open_source
from storage.readers.rows import EMPTY_TEXT
from storage.workspace import Workspace

LABELS = {"1": "related", "0": "not_related"}
FILES = {
    "unlabeled_data/unlabeled_data.csv": (
        "1,Flood warning\n2,FLOOD  warning\n3,Bush fire near town\n4,Minister resigns\n5,held out story\n"
        "6,pool only\n6,another text under 6\n7\n8,\n"
    ),
    "evaluation_data/related.csv": "10,Held out story,1\n11,twice in one file,1\n12,Twice in ONE file,1\n",
    "evaluation_data/not_related.csv": "20,held out and quiet,0\n21,held out STORY,0\n",
    "validation_data/not_related.csv": "30,held out and quiet,0\n31,for validation,0\n",
    "training_data/related.csv": "3,Bush fire near town,1,low confidence,0.625\n40,for validation,1\n41,late,0\n",
    "training_data/not_related.csv": "50,cat shows off,0\n20,an id of the evaluation,0\n",
}


def write_files(directory: Path) -> Path:
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8", newline="")
    return directory


def take(workspace: Workspace, directory: Path) -> ImportReport:
    rejects = workspace.reports / "rejects.csv"
    with workspace.scratch() as scratch:
        return import_original(workspace.store(), directory, (LABELS, "digest"), scratch, rejects, lambda _: None)


def rejected(report: ImportReport) -> list[list[str]]:
    assert report.rejects_file is not None
    with report.rejects_file.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def pool_texts(store: Store) -> list[str]:
    rows = store.rows(f"SELECT lower(text) FROM lake.items WHERE item_id NOT IN ({UNAVAILABLE}) ORDER BY 1")
    return [text for (text,) in rows]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_files(tmp_path / "original")


# The original's directory


def test_each_labelled_text_is_in_one_split_evaluation_first_then_validation_and_not_in_the_pool(
    workspace: Workspace, directory: Path
) -> None:
    report, store = take(workspace, directory), workspace.store()
    sql = f"SELECT lower(text), split, label FROM ({current_labels()}) JOIN lake.items USING (item_id) ORDER BY 1"
    assert store.rows(sql) == [
        ("bush fire near town", "training", "related"),
        ("cat shows off", "training", "not_related"),
        ("for validation", "validation", "not_related"),
        ("held out and quiet", "evaluation", "not_related"),
        ("held out story", "evaluation", "related"),
        ("twice in one file", "evaluation", "related"),
    ]
    assert report.labels == {"evaluation": 3, "validation": 1, "training": 2}
    assert pool_texts(store) == ["flood warning", "minister resigns", "pool only"]
    scores = store.rows("SELECT DISTINCT strategy, score FROM lake.batch_items ORDER BY 1")
    assert scores == [("low confidence", 0.625), ("original", None)]


def test_every_row_that_is_not_taken_is_told_with_its_file_row_value_and_reason(
    workspace: Workspace, directory: Path
) -> None:
    report = take(workspace, directory)
    header, *rows = rejected(report)
    assert header == ["file", "row", "value", "reason"]
    pool = str(directory / "unlabeled_data" / "unlabeled_data.csv")
    reasons = {(file, row, value): reason for file, row, value, reason in rows}
    values_in = {
        ("training_data/related.csv", "3", "41,late,0"): ("'1'", "'0'"),
        ("training_data/not_related.csv", "2", "an id of the evaluation"): (" 20 ", "held out and quiet"),
        ("evaluation_data/not_related.csv", "2", "held out STORY"): (" 1 ", "evaluation_data/related.csv, row 1"),
        ("validation_data/not_related.csv", "1", "held out and quiet"): (
            " 0 ",
            "evaluation_data/not_related.csv, row 1",
        ),
        ("training_data/related.csv", "2", "for validation"): (" 0 ", "validation_data/not_related.csv, row 2"),
        (pool, "7", "another text under 6"): (" 6 ", "pool only"),
        (pool, "8", "7"): (" 1", " 2"),
        (pool, "9", "8,"): (EMPTY_TEXT,),
    }
    assert reasons.keys() == values_in.keys()
    for place, values in values_in.items():
        assert all(value in reasons[place] for value in values), place
    assert report.n_rejected == 8


def test_the_report_counts_rows_items_and_repeats(workspace: Workspace, directory: Path) -> None:
    report = take(workspace, directory)
    assert (report.n_rows, report.n_new) == (21, count_items(workspace.store())) == (21, 9)
    assert report.n_duplicates == 18 - 9 - 2  # two rows have the id of another text
    assert sorted(map(figures, report.notes)) == [["1"], ["11", "6"], ["3"], ["7", "3", "3"]]


def test_importing_again_changes_nothing_and_rejects_the_same_rows(workspace: Workspace, directory: Path) -> None:
    first = take(workspace, directory)
    before, told = contents(workspace.store()), rejected(first)
    again = take(workspace, directory)
    assert contents(workspace.store()) == before
    assert (again.n_new, again.labels) == (0, {"evaluation": 0, "validation": 0, "training": 0})
    assert rejected(again) == told


def test_a_directory_without_a_pool_and_without_rejects_leaves_no_rejects_file(
    workspace: Workspace, tmp_path: Path
) -> None:
    workspace.make()
    (workspace.reports / "rejects.csv").write_text("of an earlier import", encoding="utf-8")
    path = tmp_path / "small" / "training_data" / "related.csv"
    path.parent.mkdir(parents=True)
    path.write_text("1,one,1\n", encoding="utf-8")
    report = take(workspace, tmp_path / "small")
    assert (report.n_rows, report.n_new, report.n_rejected, report.rejects_file) == (1, 1, 0, None)
    assert not (workspace.reports / "rejects.csv").exists()


def test_the_real_directory_gives_the_items_it_is_known_for(workspace: Workspace, real_data: Path) -> None:
    report = take(workspace, real_data)
    store = workspace.store()
    assert report.labels == {"evaluation": 1197, "validation": 0, "training": 813}
    assert count_pool(store) == 74_008
    assert count_items(store) == 74_008 + 1197 + 813 == report.n_new
    assert report.n_rows == report.n_new + report.n_duplicates + sum(
        "already stands" in row[3] for row in (rejected(report) if report.rejects_file else [])
    )
    held_out = "SELECT text_hash FROM lake.items JOIN lake.annotations USING (item_id)"
    pool = f"SELECT text_hash FROM lake.items WHERE item_id NOT IN ({UNAVAILABLE})"
    assert store.rows(f"SELECT count(*) FROM ({pool}) SEMI JOIN ({held_out}) USING (text_hash)") == [(0,)]
    assert take(workspace, real_data).n_new == 0
    assert (count_pool(store), count_items(store)) == (74_008, 76_018)


# One file


def take_file(workspace: Workspace, path: Path, advance: Callable[[int], None] = lambda _: None) -> ImportReport:
    with workspace.scratch() as scratch:
        rejects = workspace.reports / "rejects.csv"
        return import_source(workspace.store(), open_source(path), scratch, rejects, advance)


def test_a_file_is_taken_with_its_dates_and_its_bad_rows_told(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "head*lines [1]'s.csv"
    path.write_text("id,date,text\n1,20030219,one\n2,20030220,ONE\n3,,\n1,20030221,three\n", encoding="utf-8")
    steps: list[int] = []
    report = take_file(workspace, path, steps.append)
    assert (report.source, report.n_rows, report.n_new, report.n_duplicates) == (path.name, 4, 1, 1)
    rows = rejected(report)[1:]
    assert [row[:3] for row in rows] == [[str(path), "4", "3,,"], [str(path), "5", "three"]]
    assert rows[0][3] == EMPTY_TEXT
    assert all(value in rows[1][3] for value in (" 1 ", "one"))
    assert "comma" in report.description
    assert steps[-1] == path.stat().st_size
    rows = workspace.store().rows("SELECT item_id, text, published_at::VARCHAR, source FROM lake.items")
    assert rows == [("1", "one", "2003-02-19 00:00:00", path.name)]


def test_a_text_with_a_label_does_not_come_back_by_another_file(workspace: Workspace, directory: Path) -> None:
    take(workspace, directory)
    path = directory / "more.csv"
    path.write_text("id,text\n900,HELD out story\n901,quite new\n", encoding="utf-8")
    assert take_file(workspace, path).n_duplicates == 1
    assert pool_texts(workspace.store()) == ["flood warning", "minister resigns", "pool only", "quite new"]
