from pathlib import Path

import pytest

from storage.readers.lines import MISQUOTED, Dialect, parse_lines, read_records

COMMA = Dialect("utf-8", ",", narrowest=2, widest=2)


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def test_an_unfinished_record_is_left_for_later_until_the_file_ends() -> None:
    text = lines('1,one\n2,"two\nthree\n')
    records, starts, faults, used = parse_lines(COMMA, text, final=False)
    assert (records, starts.tolist(), faults, used) == ([["1", "one"]], [0], [], 1)
    records, starts, faults, used = parse_lines(COMMA, text, final=True)
    assert (records, starts.tolist(), faults, used) == ([["1", "one"], ["three"]], [0, 2], [(1, MISQUOTED)], 3)


def test_a_quote_that_runs_into_another_row_and_closes_there_costs_one_row() -> None:
    records, starts, faults, _ = parse_lines(COMMA, lines('1,"stray\n2,two\n3,"",three\n4,four\n'), final=True)
    assert faults[0] == (0, MISQUOTED)
    assert [records[i] for i, start in enumerate(starts) if start in (1, 3)] == [["2", "two"], ["4", "four"]]


def test_a_stray_quote_holds_back_no_more_than_a_million_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('0,"stray\n' + "1,row\n" * 300_000, encoding="utf-8", newline="")
    parts = list(read_records(path, COMMA, 1000))
    assert max(len(part.records) for part in parts) < 200_000
    assert sum(len(part.records) for part in parts) == 300_000
    assert [reject.row for part in parts for reject in part.rejects] == [1]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_the_row_is_the_line_a_record_starts_on(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\n1,"one\r\n\r\ntwo"\n2,two\r3,"\n"\n')
    rows = [row for part in read_records(path, COMMA, count) for row in part.rows.tolist()]
    assert rows == [2, 5, 6]
