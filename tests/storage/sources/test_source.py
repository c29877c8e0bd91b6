import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.readers.opening import open_source
from storage.readers.rows import SCHEMA


def test_a_source_can_be_read_twice_and_in_chunks_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n" + "".join(f"{i},text {i}\n" for i in range(100)), encoding="utf-8")
    source = open_source(path)
    for rows in (1, 7, 99, 100, 101, 65_536):
        tables = [chunk.table for chunk in source.chunks(rows)]
        assert all(len(table) <= rows for table in tables)
        assert [row for table in tables for row in table["row"].to_pylist()] == list(range(2, 102))
        assert all(table.schema == SCHEMA for table in tables)


def test_a_chunk_of_no_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\nhello\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"\b1\b.*\b0\b"):
        open_source(path).chunks(0)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_bytes_read_only_grows_and_ends_at_the_size_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    line = '{{"id": {0}, "text": "text {0}"}}\n' if name.endswith("l") else "{0},text {0}\n"
    path.write_text("".join(line.format(i) for i in range(9000)), encoding="utf-8")
    source = open_source(path)
    read = [chunk.bytes_read for chunk in source.chunks(1000)]
    assert read == sorted(read)
    assert 0 < read[0] < source.size_bytes == read[-1] == path.stat().st_size


@pytest.mark.parametrize("count", [1, 2, 65_536])
def test_rows_that_are_no_record_come_back_in_their_place_with_their_values(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.csv"
    lines = [
        "id,text,,Text",
        "1, fire ,x,y",
        "",
        "2,short",
        '3,"flood" in town,x,y',
        "4,a,b,c,d",
        "5,caf\udce9,,",
        ",,,",
    ]
    path.write_bytes("\n".join([*lines, ",né in ée,,"]).encode("utf-8", "surrogateescape"))
    parts = list(open_source(path, text_column="2").all_rows(count))
    assert [row for part in parts for row in part.columns.to_pylist()] == [
        {"id": "1", "text": "fire ", "column 3": "x", "Text_2": "y"},
        {"id": "2", "text": "short", "column 3": None, "Text_2": None},
        {"id": "3", "text": '"flood" in town', "column 3": "x", "Text_2": "y"},
        {"id": "4", "text": "a", "column 3": "b", "Text_2": "c,d"},
        {"id": "5", "text": "caf?", "column 3": None, "Text_2": None},
        dict.fromkeys(["id", "text", "column 3", "Text_2"]),
        {"id": None, "text": "né in ée", "column 3": None, "Text_2": None},
    ]
    assert [row for part in parts for row in part.numbers.tolist()] == [2, 4, 5, 6, 7, 8, 9]
    assert [row for part in parts for row in part.ids.to_pylist()] == ["1", "2", "3", "4", "5", None, None]
    texts = [row for part in parts for row in part.texts.to_pylist()]
    assert texts == ["fire", None, None, None, None, None, "né in ée"]
    assert [(row is None) for part in parts for row in part.reasons.to_pylist()] == [text is not None for text in texts]


@pytest.mark.parametrize("as_array", [False, True])
def test_json_keeps_keys_beyond_the_sample_and_values_of_any_kind(tmp_path: Path, as_array: bool) -> None:
    objects: list[object] = [{"text": f"text {k}", "id": k} for k in range(2500)]
    objects += [{"text": "last", "tags": ["a", 1], "meta": {"b": None}, "on": True, "x": "\ud800"}, [1]]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(objects) if as_array else "\n".join(map(json.dumps, objects)), encoding="utf-8")
    *_, last = open_source(path).all_rows(1000)
    empty = dict.fromkeys(["text", "id", "tags", "meta", "on", "x"])
    assert last.columns.to_pylist()[-2:] == [
        {**empty, "text": "last", "tags": '["a", 1]', "meta": '{"b": null}', "on": "true", "x": "?"},
        empty,
    ]
    assert last.ids.to_pylist()[-3:] == ["2499", None, None]
    assert last.texts.to_pylist()[-2:] == ["last", None]


def test_parquet_keeps_its_types_also_of_columns_that_are_never_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([7, None], pa.int32()),
            "text": pa.array([b"fire", b"caf\xe9 x"], pa.binary()),
            "seen": pa.array([None, datetime(2026, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "place": pa.array([{"lat": 1.5}, None]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (rows,) = open_source(tmp_path / "a.parquet", text_column="text").all_rows()
    kept = ["id", "seen", "place"]
    assert rows.columns.select(kept).equals(table.select(kept))
    assert rows.columns["text"].to_pylist() == ["fire", "caf? x"]
    assert rows.ids.to_pylist() == ["7", None]
    assert rows.texts.to_pylist() == ["fire", None]
