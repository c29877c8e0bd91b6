"""`pal import`: columns kept as context, several text columns, and labels that are in the file."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook
from projects import project_of

from annotation.label_set import Label, LabelSet
from storage.errors import SourceError
from storage.lake.annotations import ingest, label_counts
from storage.lake.batches import Draft, reserve
from storage.lake.codebook import NewChange, change_labels, forecast
from storage.lake.items import count_items
from storage.records import Answer, Proposal, Purpose, Split
from storage.workspace import Workspace
from tasks.change_items import erase_items, plan_of
from tasks.import_files import ReadOptions, import_file

SCREENING = Path(__file__).parents[3] / "shared" / "data" / "screening" / "Meijboom_2021.csv"
LABELS = LabelSet("s", "Included?", "It is.", (Label("included", "1", positive=True), Label("excluded", "0")))
HOSTILE = [
    "=1+1",
    '"); DROP TABLE items; --',
    "<b onclick='x'>&amp;</b>",
    "two\nlines",
    "tab\tand \\u0041 \\ \x07 z",
    "Zoë 🔥 \u202eright to left\u202c مرحبا",
    "x" * 10_000,
]
COLUMNS = ["id", "text", "URL", "a b", "date"]
ROWS = [[f"i{k}", f"Floods hit town {k}", value, "" if k else " ", "2026-01-02"] for k, value in enumerate(HOSTILE)]


def write(path: Path, rows: list[list[str]], columns: list[str] = COLUMNS) -> Path:
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(columns, zip(*rows, strict=True), strict=True))), path)
    else:
        workbook = Workbook()
        for row in [columns, *rows]:
            workbook.worksheets[0].append([cell.replace("\x07", "") for cell in row])
            for cell in workbook.worksheets[0][workbook.worksheets[0].max_row]:
                cell.data_type = "s"
        workbook.save(path)
    return path


def context(workspace: Workspace) -> dict[str, Any]:
    rows = workspace.store().rows("SELECT item_id, context FROM lake.items ORDER BY item_id")
    return {item_id: None if text is None else json.loads(text) for item_id, text in rows}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "xlsx"])
def test_the_other_columns_are_kept_whatever_they_hold(workspace: Workspace, tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", ROWS)
    assert import_file(project_of(workspace), path, ReadOptions()).layout[1].count("'") == 6
    for row in ROWS:
        kept = {name: cell.strip() for name, cell in context(workspace)[row[0]].items() if cell.strip()}
        assert kept == {"URL": row[2].replace("\x07", "" if suffix == "xlsx" else "\x07"), "date": row[4]}
    version = workspace.store().version()
    assert import_file(project_of(workspace), path, ReadOptions()).n_filled == 0
    assert workspace.store().rows("SELECT count(*) FROM lake.items") == [(len(ROWS),)]
    assert workspace.store().version() - version <= 1


def test_parquet_and_json_keep_values_of_any_kind(workspace: Workspace, tmp_path: Path) -> None:
    place = {"lat": 1.5, "of": ["a", None]}
    pq.write_table(pa.table({"text": ["one fire"], "n": [7], "place": [place]}), tmp_path / "a.parquet")
    lines = [{"text": f"text {k}"} for k in range(2100)] + [{"text": "a fire", "place": place, "n": float("nan")}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    for name in ("a.parquet", "a.jsonl"):
        import_file(project_of(workspace), tmp_path / name, ReadOptions())
    rows = workspace.store().rows("SELECT context->>'$.place.lat', context->>'n' FROM lake.items WHERE context <> ''")
    assert sorted(rows) == [("1.5", "7"), ("1.5", "NaN")]


def test_columns_may_be_chosen_and_are_filled_in_later(workspace: Workspace, tmp_path: Path) -> None:
    project, path = project_of(workspace), write(tmp_path / "a.csv", [*ROWS[:1], ["i9", "New FIRE", "u9", "x", ""]])
    assert import_file(project, path, ReadOptions(context=("none",))).n_new == 2
    assert context(workspace) == {"i0": None, "i9": None}
    with pytest.raises(SourceError, match="'url2'"):
        import_file(project, path, ReadOptions(context=("url2",)))
    assert import_file(project, path, ReadOptions(context=("url", "1"))).n_filled == 2
    assert context(workspace) == {"i0": {"URL": "=1+1", "id": "i0"}, "i9": {"URL": "u9", "id": "i9"}}
    swapped = [["i9", "new fire", "x", "other", "2026-03-04"], ["i8", "NEW fire", "y", "z", "2026-03-05"]]
    path = write(tmp_path / "b.csv", swapped, ["id", "text", "a b", "URL", "date"])
    assert [import_file(project, path, ReadOptions()).n_filled for _ in range(2)] == [1, 0]
    assert context(workspace)["i9"] == {"URL": "u9", "id": "i9", "a b": "x", "date": "2026-03-04"}


def test_labels_are_imported_once_and_whoever_answers_later_counts(workspace: Workspace, tmp_path: Path) -> None:
    project, store = project_of(workspace, LABELS), workspace.store()
    rows = [["a", "Fire one", " INCLUDED"], ["b", "fire ONE", "0"], ["c", "Fire two", "['excluded']"], ["d", "x y", ""]]
    path = write(tmp_path / "a.csv", rows, ["id", "text", "given"])
    options = ReadOptions(label_column="given", split="evaluation")
    report = import_file(project, path, options)
    assert (report.labels, report.n_rejected) == ({"evaluation": 2}, 1)
    assert "row 2" in report.rejects_file.read_text(encoding="utf-8-sig")
    assert label_counts(store)[Split.EVALUATION] == {"included": 1, "excluded": 1}
    assert import_file(project, path, options).labels == {"evaluation": 0}
    assert set(store.rows("SELECT annotator, note FROM lake.annotations")) == {("imported", "")}
    draft = Draft(Purpose.REVIEW, ["a"], [Proposal("a", "random", None, 1)], 0, 0, LABELS.digest)
    batch, _ = reserve(store, draft, beside_open=True)
    ingest(store, batch.batch_id, [Answer("a", "excluded", "anna")], "f")
    assert label_counts(store)[Split.EVALUATION] == {"excluded": 2}
    again = import_file(project, path, options)
    assert (again.labels, again.n_rejected) == ({"evaluation": 0}, 2), "the label in the lake counts, and is named"
    assert "'excluded' already" in again.rejects_file.read_text(encoding="utf-8-sig")


def test_an_imported_label_counts_where_the_label_was_retired_and_is_added_where_the_import_was_killed(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, store = project_of(workspace, LABELS), workspace.store()
    path = write(tmp_path / "a.csv", [["a", "Fire", "included"]], ["id", "text", "given"])
    options = ReadOptions(label_column="given", split="evaluation")
    monkeypatch.setattr("storage.lake.importing.import_labels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_file(project, path, options)
    monkeypatch.undo()
    assert (count_items(store), label_counts(store)[Split.EVALUATION]) == (1, {})
    assert import_file(project, path, options).labels == {"evaluation": 1}
    for kind, becomes in (("retire", {"included": None}), ("add", {})):
        change = NewChange(kind, becomes, () if becomes else ("included",), {"included": ""}, "me")
        change_labels(store, change, forecast(store, change))
    assert label_counts(store)[Split.EVALUATION] == {}
    training = ReadOptions(label_column="given")
    assert [import_file(project, path, training).labels for _ in range(2)] == [{"training": 1}, {"training": 0}]
    assert label_counts(store)[Split.EVALUATION] == {"included": 1}, "the split stays"


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_label_that_pal_toml_lacks_is_refused_with_its_place_and_nothing_is_taken(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.csv", [["a", "Fire one", "1"], ["b", "Fire two", "maybe"]], ["id", "text", "given"])
    with pytest.raises(SourceError) as caught:
        import_file(project_of(workspace, LABELS), path, ReadOptions(label_column="given"))
    assert all(value in caught.value.what for value in (str(path), "row 3", "'maybe'"))
    assert all(value in caught.value.hint for value in ("pal.toml", "included", "excluded"))
    assert workspace.store().rows("SELECT count(*) FROM lake.items") == [(0,)]


def test_labels_of_before_a_change_are_what_they_became(workspace: Workspace, tmp_path: Path) -> None:
    store = workspace.store()
    path = write(tmp_path / "a.csv", [["a", "Fire", "Old"], ["b", "Ice", "excluded"]], ["id", "text", "given"])
    for becomes in ("new", "included"):
        change = NewChange("rename", {"old" if becomes == "new" else "new": becomes}, (), {}, "me")
        change_labels(store, change, forecast(store, change))
    options = ReadOptions(label_column="given")
    assert import_file(project_of(workspace, LABELS), path, options).labels == {"training": 2}
    assert label_counts(store)[Split.TRAINING] == {"included": 1, "excluded": 1}
    erased = erase_items(project_of(workspace, LABELS), plan_of(project_of(workspace, LABELS), ["a"]))
    assert erased.erasure.batches == ("imported-training",)
    assert not list(workspace.batches.iterdir()), "imported labels have no files"
    change = NewChange("retire", {"included": None}, (), {}, "me")
    change_labels(store, change, forecast(store, change))
    left = LabelSet("s", "?", "", (Label("excluded", "0"), Label("other")))
    with pytest.raises(SourceError):
        import_file(project_of(workspace, left), path, options)


def test_ris_gives_title_and_abstract_as_the_text(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "a.ris"
    entry = "TY  - JOUR\r\nTI  - Floods {0}\r\nAB  - In towns\r\n  and fields\r\nAU  - A, B\r\nAU  - C\r\nXX  - y\r\n"
    path.write_text("\ufeff" + entry.format(1) + "ER  - \r\n\r\nnoise\r\n" + entry.format(2), encoding="utf-8")
    assert import_file(project_of(workspace), path, ReadOptions()).n_new == 2
    (text, kept), _ = workspace.store().rows("SELECT text, context FROM lake.items ORDER BY text")
    assert text == "Floods 1\n\nIn towns and fields"
    assert json.loads(kept) == {"type": "JOUR", "authors": "A, B; C", "XX": "y"}


def test_title_and_abstract_of_a_screening_set_with_its_labels(workspace: Workspace) -> None:
    if not SCREENING.is_file():
        pytest.skip(f"screening data are not at {SCREENING}")
    with SCREENING.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    options = ReadOptions(("title", "abstract"), label_column="label_included")
    report = import_file(project_of(workspace, LABELS), SCREENING, options)
    assert (report.n_rows, report.n_new + report.n_duplicates, report.n_rejected) == (len(rows), len(rows), 0)
    n_included = sum(row["label_included"] == "1" for row in rows)
    assert label_counts(workspace.store())[Split.TRAINING]["included"] == n_included
    assert report.lengths.scripts[0][0] == "LATIN"
    assert report.lengths.scripts[0][1] > 0.99
    assert report.lengths.longest == max(len(f"{row['title']}\n\n{row['abstract']}".strip()) for row in rows)
    other = import_file(project_of(workspace), SCREENING, ReadOptions(("title",), context=("none",)))
    assert "'abstract'" in other.layout[1]
