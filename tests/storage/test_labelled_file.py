"""Whatever a stranger's file calls its columns, the texts and the labels are found, or it is said what to type."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import SourceError
from storage.readers.labelled_file import read_labelled


def csv_of(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "head",
    [
        "text,label",
        "Headline,Category",
        "nr,Text,y",
        "label,message",
        "some words,kind of thing",
        "id,when,title,topic",
    ],
)
def test_columns_are_found_by_name_or_by_what_is_in_them(tmp_path: Path, head: str) -> None:
    names = head.split(",")

    def cell(name: str, k: int) -> str:
        if name in ("id", "nr", "when"):
            return str(k)
        return ("a", "b")[k % 2] if name in ("label", "Category", "y", "kind of thing", "topic") else f"a long text {k}"

    path = csv_of(tmp_path / "x.csv", head, *(",".join(cell(name, k) for name in names) for k in range(60)))
    found = read_labelled(path)
    assert found.column_names == ["text", "label"]
    assert found["text"].to_pylist()[:2] == ["a long text 0", "a long text 1"]
    assert set(found["label"].to_pylist()) == {"a", "b"}


def test_rows_without_a_text_or_a_label_are_left_out_and_a_text_counts_once(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "x.csv", "text,label", "one,a", ",b", "two,", "one,b", '"three, more", a ')
    assert read_labelled(path).to_pylist() == [{"text": "one", "label": "a"}, {"text": "three, more", "label": "a"}]


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "x.tsv"])
def test_other_formats_say_the_same_and_numbers_are_labels_too(tmp_path: Path, name: str) -> None:
    rows, path = [{"text": "one", "label": 1}, {"text": "two", "label": 0}], tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        csv_of(path, "text\tlabel", "one\t1", "two\t0")
    assert read_labelled(path)["label"].to_pylist() == ["1", "0"]


def test_what_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "x.csv", "words,p,q", *(f"a long text {k},{k % 2},{k % 3}" for k in range(60)))
    with pytest.raises(SourceError, match=r"x\.csv.*\b2\b") as raised:
        read_labelled(path)
    assert "--label-column p" in raised.value.hint
    assert set(read_labelled(path, label_column="q")["label"].to_pylist()) == {"0", "1", "2"}
    with pytest.raises(SourceError, match="'w'") as raised:
        read_labelled(path, text_column="w")
    assert "words, p, q" in raised.value.hint


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"x\.docx"):
        read_labelled(csv_of(tmp_path / "x.docx", "text"))
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match=r"x\.parquet"):
        read_labelled(tmp_path / "x.parquet")
