"""The simulated annotator fills in what a person would, and nothing else."""

from __future__ import annotations

from pathlib import Path

from annotation.formats.csv_file import read_csv, write_csv
from annotation.label_set import Handout
from annotation.synthetic import fill_csv
from storage.readers.spellings import text_hash
from storage.records import BatchItem
from tasks.config.template import DISASTER

TEXTS = {"i1": "Floods, again", "=2": "=1+1", "-3": "two\nlines", "i4": "Zoë 🔥"}
LABELS = {"i1": "related", "=2": "not_related", "-3": "related", "elsewhere": "related"}


def batch(folder: Path) -> Path:
    path = folder / "batch.csv"
    items = [BatchItem(item_id, text, text_hash(text)) for item_id, text in TEXTS.items()]
    write_csv(path, Handout("b1", DISASTER, items))
    return path


def test_every_item_with_a_known_label_is_filled_in_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    path = batch(tmp_path)
    assert fill_csv(path, LABELS) == 3
    rows = read_csv(path)
    assert [(row.item_id, row.label, row.annotator) for row in rows] == [
        ("i1", "related", "oracle"),
        ("=2", "not_related", "oracle"),
        ("-3", "related", "oracle"),
        ("i4", "", ""),
    ]
    assert [row.text for row in rows] == list(TEXTS.values())
    assert [path.name for path in tmp_path.iterdir()] == ["batch.csv"]


def test_only_the_first_ones_are_filled_in_where_so_asked(tmp_path: Path) -> None:
    path = batch(tmp_path)
    assert fill_csv(path, LABELS, annotator="anna", most=2) == 2
    assert [row.label for row in read_csv(path)] == ["related", "not_related", "", ""]
    assert [row.annotator for row in read_csv(path)] == ["anna", "anna", "", ""]
    assert fill_csv(path, {}) == fill_csv(path, LABELS, most=0) == 0


def test_a_label_that_a_spreadsheet_would_run_is_made_harmless(tmp_path: Path) -> None:
    path = batch(tmp_path)
    fill_csv(path, {"i1": "-1"}, annotator="@anna")
    assert "'-1" in path.read_text(encoding="utf-8-sig")
    assert (read_csv(path)[0].label, read_csv(path)[0].annotator) == ("-1", "@anna")
