from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import SourceError
from storage.readers.opening import open_source


def write(path: Path, columns: dict[str, pa.Array]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_rows_are_read_with_their_numbers_whatever_the_suffix(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {
        "id": pa.array([1, 2, 3]),
        "nested": pa.array([[1], [2], [3]]),
        "text": pa.array([" one", "two", "three"], pa.string()).cast(kind),
        "created_at": pa.array([datetime(2020, 1, 2)] * 3, pa.timestamp("ns", "UTC")),
    }
    source = open_source(write(tmp_path / "a.csv", columns))
    assert source.description == "Parquet, 3 rows; text 'text', id 'id', date 'created_at'"
    chunks = list(source.chunks(2))
    assert [chunk.table.num_rows for chunk in chunks] == [2, 1]
    rows = [row for chunk in chunks for row in chunk.table.to_pylist()]
    assert rows[0] == {"row": 1, "item_id": "1", "text": "one", "published_at": datetime(2020, 1, 2)}
    assert [row["row"] for row in rows] == [1, 2, 3]
    assert chunks[-1].bytes_read == source.size_bytes


def test_bad_rows_are_rejected_and_float_ids_lose_their_zero(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 4, [*pa.array(["one", "", "abc", "four"]).buffers()[:2], pa.py_buffer(b"one\xff\xfe\xfdfour")]
    )
    columns = {"id": pa.array([1.0, 2.0, 3.0, None]), "text": broken}
    (chunk,) = open_source(write(tmp_path / "a.parquet", columns)).chunks()
    assert chunk.table.to_pylist() == [{"row": 1, "item_id": "1", "text": "one", "published_at": None}]
    assert [(each.row, each.reason.split()[-1]) for each in chunk.rejects] == [
        (2, "empty"),
        (3, "encoding"),
        (4, "empty"),
    ]


def test_a_text_column_must_hold_strings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"text": pa.array([1, 2]), "words": pa.array(["a b", "c d"])})
    with pytest.raises(SourceError, match=r"'text' .*int64") as error:
        open_source(path)
    assert "--text-column words" in error.value.hint


def test_an_empty_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.parquet"):
        open_source(write(tmp_path / "a.parquet", {"text": pa.array([], pa.string())}))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(SourceError, match=r"b\.parquet"):
        open_source(tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"c\.parquet.*nested"):
        open_source(write(tmp_path / "c.parquet", {"nested": pa.array([[1]])}))
