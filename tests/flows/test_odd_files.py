"""One table of odd files: import, simulate, predict --file and ingest read the same rows from each of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotation.checks import FilledFile
from annotation.formats.detection import read_filled
from storage.errors import PalError, SourceError
from storage.lake.importing import import_source
from storage.readers.opening import open_source, read_labelled
from storage.readers.spellings import text_hash
from storage.workspace import Workspace

TEXTS = ['Floods hit Québec, 3 "dead"', "Mayor opens school; 10,000 came", "A fire\tor | none", "plain words"]
LABELS = ["Yes", "no", "yes", "NO"]
Row = Sequence[str]
Write = Callable[[Path, list[Row]], Path]


def table(suffix: str = ".csv", encoding: str = "utf-8", above: str = "", **dialect: object) -> Write:
    """A writer of delimited text, as another program writes it."""
    dialect = {"lineterminator": "\r\n", **dialect}

    def write(stem: Path, rows: list[Row]) -> Path:
        text = io.StringIO(newline="")
        csv.writer(text, **dialect).writerows(rows)  # type: ignore[arg-type]
        path = stem.with_suffix(suffix)
        path.write_bytes((above + text.getvalue()).encode(encoding))
        return path

    return write


def mixed_ends(stem: Path, rows: list[Row]) -> Path:
    path = table(quoting=csv.QUOTE_ALL)(stem, rows)
    first, second, third, *others = path.read_bytes().split(b"\r\n")
    path.write_bytes(first + b"\r\n" + second + b"\n" + third + b"\r" + b"\n".join(others))
    return path


def spaced(stem: Path, rows: list[Row]) -> Path:
    """Blank rows, spaces after the delimiter and around names, more values than names."""
    path = table(quoting=csv.QUOTE_ALL)(stem, [[f" {name.upper()} " for name in rows[0]], *rows[1:]])
    content = path.read_text(encoding="utf-8").replace('","', '", "')
    path.write_text("\n \n" + content.replace("\n", "\n\n") + ",,\n", encoding="utf-8", newline="")
    return path


def workbook(stem: Path, rows: list[Row], above: int = 0) -> Path:
    made = openpyxl.Workbook()
    for row in [["Export of today"], *[[]] * (above - 1)][: above or 0] + rows:
        made.worksheets[0].append(row)
    made.create_sheet("empty")
    made.save(stem.with_suffix(".xlsx"))
    return stem.with_suffix(".xlsx")


def objects(rows: list[Row]) -> list[dict[str, str]]:
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def json_lines(encoding: str) -> Write:
    def write(stem: Path, rows: list[Row]) -> Path:
        lines = "".join(json.dumps(each, ensure_ascii=False) + "\n\n" for each in objects(rows))
        stem.with_suffix(".json").write_text(lines, encoding=encoding)
        return stem.with_suffix(".json")

    return write


def json_array(stem: Path, rows: list[Row]) -> Path:
    stem.with_suffix(".txt").write_text(json.dumps(objects(rows), indent=2), encoding="utf-8-sig")
    return stem.with_suffix(".txt")


def parquet(kind: pa.DataType) -> Write:
    def write(stem: Path, rows: list[Row]) -> Path:
        columns = {name: pa.array(column).cast(kind) for name, *column in zip(*rows, strict=True)}
        pq.write_table(pa.table(columns), stem)
        return stem

    return write


BACKSLASH = {"quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": "\\"}
TABLES: dict[str, Write] = {
    "comma": table(),
    "semicolon, LF": table(delimiter=";", lineterminator="\n"),
    "tab, Mac line ends": table(".tsv", delimiter="\t", lineterminator="\r"),
    "bar in .txt": table(".txt", delimiter="|"),
    "comma in .txt": table(".txt"),
    "BOM": table(encoding="utf-8-sig"),
    "UTF-16 of Excel": table(".txt", "utf-16", delimiter="\t"),
    "UTF-16 without BOM": table(".csv", "utf-16-be", delimiter=";"),
    "UTF-16 of little ends": table(".csv", "utf-16-le"),
    "Windows-1252": table(encoding="cp1252", delimiter=";"),
    "all quoted": table(quoting=csv.QUOTE_ALL),
    "backslashes": table(**BACKSLASH),
    "mixed line ends": mixed_ends,
    "blank rows and spaces": spaced,
    "sep=": table(delimiter=";", above="sep=;\r\n"),
    "title": table(above="Headlines of 2026\r\n\r\n"),
    "title with commas": table(delimiter=";", above="Headlines, by Anna, 2026\r\n"),
    "title with empty cells": table(above="Headlines,,\r\n,,\r\n"),
    "workbook": workbook,
    "workbook with a title": lambda stem, rows: workbook(stem, rows, above=2),
}
OBJECTS: dict[str, Write] = {
    "JSON lines": json_lines("utf-8"),
    "JSON lines with BOM": json_lines("utf-8-sig"),
    "JSON lines in UTF-16": json_lines("utf-16"),
    "JSON array": json_array,
    "Parquet": parquet(pa.string()),
    "Parquet of bytes": parquet(pa.large_binary()),
}


@pytest.mark.parametrize("name", [*TABLES, *OBJECTS])
def test_import_predict_and_simulate_read_the_same_rows(shared_workspace: Workspace, tmp_path: Path, name: str) -> None:
    rows = [[f"i{n}", text, label] for n, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))]
    lake = shared_workspace  # all files hold the same texts
    path = (TABLES | OBJECTS)[name](tmp_path / "odd", [["id", "text", "label"], *rows])
    source = open_source(path)
    with lake.scratch() as scratch:
        report = import_source(lake.store(), source, scratch, tmp_path / "rejects.csv", lambda _: None)
    assert (report.n_rows, report.n_rejected, report.n_new + report.n_duplicates) == (4, 0, 4)
    items = lake.store().rows("SELECT item_id, text FROM lake.items ORDER BY item_id")
    assert items == [(f"i{n}", text) for n, text in enumerate(TEXTS)]
    read = [row for part in source.all_rows() for row in zip(part.ids.to_pylist(), part.texts.to_pylist(), strict=True)]
    assert [(item_id.strip(), text) for item_id, text in read if text is not None] == items
    labelled = read_labelled(path)
    assert labelled.table["text"].to_pylist() == TEXTS
    assert labelled.table["label"].to_pylist() == ["Yes", "no", "Yes", "no"]
    assert [list(row.values())[:2] for row in source.layout.sample] == [
        [f"i{n}", " ".join(text.split())] for n, text in enumerate(TEXTS[:3])
    ]
    assert source.layout.label_column.casefold() == "label"


@pytest.mark.parametrize("name", TABLES)
def test_ingest_reads_the_same_answers(tmp_path: Path, name: str) -> None:
    header = ["text", "label", "note", "annotator", "item_id", "batch_id", "text_hash"]
    rows = [
        [text, label, "", "anna", f"i{n}", "b0001-training", text_hash(text)]
        for n, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]
    path = TABLES[name](tmp_path / "odd", [header, *rows])
    read = read_filled(FilledFile(path)).rows
    assert [(row.item_id, row.text, row.label) for row in read] == [(row[4], row[0], row[1]) for row in rows]
    assert {(row.batch_id, row.annotator) for row in read} == {("b0001-training", "anna")}
    assert all(text_hash(row.text or "") == row.text_hash for row in read)


DOUBTFUL: dict[str, Write] = {
    "two columns of one name": lambda stem, rows: table()(stem, [["text", "Text", "label"], *rows]),
    "two columns of texts": lambda stem, rows: table()(stem, [["title", "body", "label"], *rows]),
    "two such columns in a workbook": lambda stem, rows: workbook(stem, [["text", "Text", "label"], *rows]),
    "two such columns in Parquet": lambda stem, rows: parquet(pa.string())(stem, [["title", "body", "label"], *rows]),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_doubtful_is_refused_with_the_option_that_settles_it(tmp_path: Path, name: str) -> None:
    rows = [[text, f"more of {text}", label] for text, label in zip(TEXTS, LABELS, strict=True)]
    path = DOUBTFUL[name](tmp_path / "odd", rows)
    for read in (open_source, read_labelled):
        with pytest.raises(SourceError) as caught:
            read(path)
        assert str(path) in caught.value.what
        assert "--text-column" in caught.value.hint
    assert read_labelled(path, text_column="2").table["text"].to_pylist() == [row[1] for row in rows]


def test_one_notion_of_the_same_text_and_the_same_label(tmp_path: Path) -> None:
    lines = ["text,label", "One,1", "two,0.0", "ONE ,0", "three,1.0", "four,[]", "five,", ",1", "six,['0']"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    found = read_labelled(tmp_path / "a.csv")
    assert [(row["text"], row["label"]) for row in found.table.to_pylist()] == [
        ("One", "1"),
        ("two", "0"),
        ("three", "1"),
        ("six", "0"),
    ]
    assert len(found.notes) == 1
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a b", "label": []}\n{"text": "c d", "label": ["no"]}\n{"text": "e f", "label": true}\n'
    )
    assert read_labelled(tmp_path / "a.jsonl").table["label"].to_pylist() == ["no", "true"]


@pytest.mark.parametrize(
    "row", ["flood,yes,checked", '"flood" in town,yes', "caf\udce9 burns,yes"], ids=["ragged", "misquoted", "bytes"]
)
def test_a_simulation_on_a_part_of_the_rows_is_refused(tmp_path: Path, row: str) -> None:
    lines = ["text,label", *(f"Überschwemmung {n},{'yes' if n % 2 else 'no'}" for n in range(300)), row]
    path = tmp_path / "a.csv"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    assert len(read_labelled(path).notes) == 1
    path.write_bytes("\n".join([*lines, *[row] * 4]).encode("utf-8", "surrogateescape"))
    with pytest.raises(PalError) as caught:
        read_labelled(path)
    assert "row 302" in str(caught.value)
