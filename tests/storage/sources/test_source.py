from pathlib import Path

import pytest

from storage.readers.opening import open_source
from storage.readers.source import SCHEMA


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
