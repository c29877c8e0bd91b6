from pathlib import Path

from storage.readers.lines import Dialect, read_records


def test_a_stray_quote_holds_back_no_more_than_a_million_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('0,"stray\n' + "1,row\n" * 300_000, encoding="utf-8", newline="")
    parts = list(read_records(path, Dialect("utf-8", ",", narrowest=2, widest=2), 1000))
    assert max(len(part.records) for part in parts) < 200_000
    assert sum(len(part.records) for part in parts) == 300_000
    assert [reject.row for part in parts for reject in part.rejects] == [1]
