from pathlib import Path

import pytest

from storage.errors import SourceError
from storage.readers.lines import MISQUOTED
from storage.readers.original_directory import LABELLED, open_original_pool, read_original
from storage.readers.rows import EMPTY_ID, EMPTY_TEXT


def write(directory: Path, name: str, content: str | bytes) -> None:
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_rows_of_two_to_five_values_are_read_with_all_they_hold(tmp_path: Path) -> None:
    write(
        tmp_path,
        "training_data/related.csv",
        '1,two\r\n\r\n2,"three, no more",1\r\n3,four,,random\r\n4,five,1,low confidence,0.75\r\n5,six,1,,much\r\n',
    )
    labelled = read_original(tmp_path).labelled
    assert labelled.schema == LABELLED
    rows = labelled.to_pylist()
    assert [(row["item_id"], row["text"], row["strategy"], row["confidence"], row["row"]) for row in rows] == [
        ("1", "two", None, None, 1),
        ("2", "three, no more", None, None, 3),
        ("3", "four", "random", None, 4),
        ("4", "five", "low confidence", 0.75, 5),
        ("5", "six", None, None, 6),
    ]
    assert {(row["split"], row["label"], row["file"]) for row in rows} == {
        ("training", "1", "training_data/related.csv")
    }


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ("9,against,1", ["'0'", "'1'"]),
        ("9,nonsense,maybe", ["'0'", "'maybe'"]),
        ("9", ["1", "2"]),
        ("9,a,0,b,c,d", ["6"]),
        (",no id,0", [EMPTY_ID]),
        ("9,,0", [EMPTY_TEXT]),
        ('9,"open', [MISQUOTED]),
    ],
)
def test_one_bad_row_is_the_only_reject(tmp_path: Path, row: str, values: list[str]) -> None:
    write(tmp_path, "validation_data/not_related.csv", f"1,one,0\n{row}\n3,three,0\n")
    files = read_original(tmp_path)
    assert files.labelled["item_id"].to_pylist() == ["1", "3"]
    assert [(each.file, each.row) for each in files.rejects] == [("validation_data/not_related.csv", 2)]
    assert all(value in files.rejects[0].reason for value in values)


@pytest.mark.parametrize(
    "content", ["\ufeff1;a, b;1\r\n2;c, d;1\r\n", "1\ta, b\t1\n2\tc, d\t1\n", '1,"a, b",1\n2,"c, d"']
)
def test_bom_semicolons_and_tabs_are_read(tmp_path: Path, content: str) -> None:
    write(tmp_path, "evaluation_data/related.csv", content)
    files = read_original(tmp_path)
    assert files.labelled["text"].to_pylist() == ["a, b", "c, d"]
    assert (files.rejects, files.pool) == ([], None)


def test_empty_files_are_fine_and_an_empty_pool_is_none(tmp_path: Path) -> None:
    for name in ("unlabeled_data/unlabeled_data.csv", "training_data/related.csv"):
        write(tmp_path, name, "")
    write(tmp_path, "training_data/not_related.csv", "\ufeff\r\n")
    files = read_original(tmp_path)
    assert (files.pool, files.labelled.num_rows, files.rejects) == (None, 0, [])


def test_a_directory_without_any_of_the_files_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="unlabeled_data/unlabeled_data"):
        read_original(tmp_path)
    with pytest.raises(SourceError, match="gone"):
        read_original(tmp_path / "gone")


def test_the_pool_has_no_header_may_have_more_columns_and_a_cut_last_line(tmp_path: Path) -> None:
    write(tmp_path, "unlabeled_data/unlabeled_data.csv", "id,text\n7,one,,\n8,two\n9")
    pool = read_original(tmp_path).pool
    assert pool is not None
    source = open_original_pool(pool)
    assert source.description.startswith("pool of the original scripts, comma, UTF-8, no header")
    (chunk,) = list(source.chunks())[:1]
    assert chunk.table.select(["item_id", "text"]).to_pylist() == [
        {"item_id": "id", "text": "text"},
        {"item_id": "7", "text": "one"},
        {"item_id": "8", "text": "two"},
    ]
    assert [(each.row, each.value) for each in chunk.rejects] == [(4, "9")]
