"""A prediction's file: what its suffix stands for, and parts that become one file whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import SourceError
from storage.lake.outgoing import FILE_FORMATS, format_of_file, join_parts


@pytest.mark.parametrize("form", FILE_FORMATS)
def test_a_suffix_stands_for_its_format_in_any_case(form: str) -> None:
    assert format_of_file(Path(f"a.b.{form.upper()}")) == form


@pytest.mark.parametrize("name", ["all", "all.xlsx"])
def test_another_suffix_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(SourceError, match="parquet, csv, jsonl") as raised:
        format_of_file(Path(name))
    assert "all.parquet" in raised.value.hint


def test_parts_are_joined_in_their_order_under_any_name(tmp_path: Path) -> None:
    parts = [tmp_path / f"{k}.parquet" for k in range(3)]
    for k, part in enumerate(parts):
        pq.write_table(pa.table({"n": list(range(10 * k, 10 * k + 10))}), part)
    output = tmp_path / "it's all.parquet"
    output.write_bytes(b"old")
    join_parts(parts, output, "parquet")
    assert pq.read_table(output)["n"].to_pylist() == list(range(30))


def test_a_file_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    output = tmp_path / "all.csv"
    output.write_bytes(b"old")
    with pytest.raises(Exception, match=r"gone\.parquet"):
        join_parts([tmp_path / "gone.parquet"], output, "csv")
    assert [path.name for path in tmp_path.iterdir()] == ["all.csv"]
    assert output.read_bytes() == b"old"
