from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import SourceError
from storage.readers.opening import open_source


def test_the_content_and_not_the_suffix_decides_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("id\ttext\n1\tone\n", encoding="utf-16")
    assert open_source(path).description.startswith("CSV, tab, UTF-16, header")
    path.write_text('{"text": "one"}\n', encoding="utf-8")
    assert open_source(str(path)).description.startswith("JSON lines")
    pq.write_table(pa.table({"text": ["one"]}), path)
    assert open_source(path).description.startswith("Parquet")


def test_columns_can_be_given_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("one two,1\nthree,2\n", encoding="utf-8")
    (chunk,) = list(open_source(path, text_column=1, id_column=2).chunks())[:1]
    assert chunk.table["item_id"].to_pylist() == ["1", "2"]


def test_a_file_that_holds_no_texts_is_an_error_of_sources(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.csv"):
        with pytest.raises(SourceError):
            open_source(path)
