"""The labelled data set, as one file or as a directory: every label once, the same bytes for the same lake version."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from lake_rows import set_context

from annotation.label_set import LabelSet
from storage.errors import SourceError, StoreError
from storage.files.spreadsheets import neutralised
from storage.lake.annotations import ingest
from storage.records import Answer, Batch, Split
from storage.workspace import Workspace
from tasks.export import export


@pytest.fixture
def labelled(workspace: Workspace, reserve_batch: Callable[..., Batch], give_labels: Callable[..., None]) -> Workspace:
    """Six items for training, of which two are disputed and unsure, and two for evaluation."""
    batch = reserve_batch(workspace, {f"i{k}": f'text "{k}",\nline' for k in range(6)})
    given = [("i0", "related", "a"), ("i0", "related", "b"), ("i0", "not_related", "c"), ("i1", "not_related", "a")]
    given += [("i2", "related", "a"), ("i2", "not_related", "b"), ("i3", "unsure", "a"), ("i4", "related", "a")]
    ingest(workspace.store(), batch.batch_id, [Answer(*each) for each in given], "a.csv")
    held = reserve_batch(workspace, {"e1": "=Floods", "e2": "Tea"}, Split.EVALUATION)
    ingest(workspace.store(), held.batch_id, [Answer("e1", "related", "a"), Answer("e2", "not_related", "a")], "b.csv")
    return workspace


def test_every_item_with_a_label_is_there_with_how_many_agree(labelled: Workspace, label_set: LabelSet) -> None:
    set_context(labelled, {"text": "mine", "n": 7}, "item_id = 'i0'")
    found = export(labelled, label_set, labelled.root / "x.parquet")
    rows = {row["item_id"]: row for row in pq.read_table(labelled.root / "x.parquet").to_pylist()}
    assert {item_id: row["label"] for item_id, row in rows.items()} == {
        "i0": "related",
        "i1": "not_related",
        "i4": "related",
        "e1": "related",
        "e2": "not_related",
    }
    assert [(rows[key]["text_2"], rows[key]["n"]) for key in ("i0", "i1")] == [("mine", "7"), (None, None)]
    assert (rows["i0"]["n_answers"], rows["i0"]["n_agree"], rows["i0"]["batch_id"]) == (3, 2, "b0001-training")
    assert {row["guideline"] for row in rows.values()} == {label_set.digest}
    assert found.counts == {
        "training": {"not_related": 1, "related": 2},
        "evaluation": {"not_related": 1, "related": 1},
    }
    card = (labelled.root / "x.md").read_text(encoding="utf-8")
    assert re.search(r"\b7\b.*\b3\b", card), "answers, and annotators"
    assert f"version {found.lake_version}" in card


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_other_formats_say_the_same(labelled: Workspace, label_set: LabelSet, name: str) -> None:
    export(labelled, label_set, labelled.root / "x.parquet")
    export(labelled, label_set, labelled.root / name)
    expected = {row["item_id"]: row["text"] for row in pq.read_table(labelled.root / "x.parquet").to_pylist()}
    path = labelled.root / name
    if name.endswith("csv"):
        assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "for spreadsheets"
        expected = {item_id: neutralised(text) for item_id, text in expected.items()}
        options = pa_csv.ParseOptions(newlines_in_values=True)
        rows = pa_csv.read_csv(path, parse_options=options).to_pylist()
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {row["item_id"]: row["text"] for row in rows} == expected


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_directory_has_a_file_for_each_split_and_an_older_version_is_the_same_to_the_byte(
    labelled: Workspace, label_set: LabelSet, reserve_batch: Callable[..., Batch]
) -> None:
    folder = labelled.root / "data-set"
    found = export(labelled, label_set, folder)
    first = tree(folder)
    assert set(first) == {"README.md", "data/train.parquet", "data/test.parquet", "manifest.json"}
    train = pq.read_table(folder / "data" / "train.parquet")
    assert train.num_rows == 3
    assert "split" not in train.column_names
    batch = reserve_batch(labelled, {"late": "Fire"})
    ingest(labelled.store(), batch.batch_id, [Answer("late", "related", "a")], "c.csv")
    with pytest.raises(SourceError, match=re.escape(str(folder))):
        export(labelled, label_set, folder)
    assert tree(folder) == first
    export(labelled, label_set, folder, replace=True)
    assert pq.read_table(folder / "data" / "train.parquet").num_rows == 4
    export(labelled, label_set, folder, found.lake_version, replace=True)
    assert tree(folder) == first
    assert [path.name for path in labelled.root.glob(".data-set*")] == []


def test_a_directory_of_somebody_elses_is_never_replaced(labelled: Workspace, label_set: LabelSet) -> None:
    folder = labelled.root / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(SourceError, match=re.escape(str(folder))):
        export(labelled, label_set, folder, replace=True)
    assert (folder / "thesis.tex").is_file()


def test_labels_that_are_gone_are_left_out_and_counted_and_a_version_that_is_none_is_told(
    labelled: Workspace, label_set: LabelSet, three_labels: LabelSet
) -> None:
    found = export(labelled, three_labels, labelled.root / "x.parquet")
    assert (found.counts, found.left_out) == ({}, 5)
    for version in (0, 9999):
        with pytest.raises(StoreError, match=f" {version}") as raised:
            export(labelled, label_set, labelled.root / "x.parquet", version)
        assert f" 1 to {labelled.store().version()}" in raised.value.hint
    with pytest.raises(SourceError, match="parquet, csv, jsonl"):
        export(labelled, label_set, labelled.root / "x.docx")
