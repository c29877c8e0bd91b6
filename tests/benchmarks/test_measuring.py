"""The table of `make bench`, and the texts it measures on; nothing here is timed."""

import csv

from measuring import Column, Measured, table
from texts import made_texts


def test_the_table_shows_seconds_beside_their_floor_and_growth_between_the_last_two_sizes():
    small, large = Column(100_000), Column(1_000_000)
    small.take("", Measured({"floor": 0.5, "import": 2.0}, 100.0))
    large.take("", Measured({"floor": 4.0, "import": 16.0}, 150.0))
    large.take("theirs", "more than 60 s")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table([small, large], {"import": ["floor"]}).splitlines()
    ]
    assert rows[0] == ["", "100k: s", "x floor", "MB", "1M: s", "x floor", "MB", "100k to 1M: time", "memory"]
    assert rows[3] == ["import", "2.00", "4.0", "100", "16.00", "4.0", "150", "8.0", "1.5"]
    assert rows[4] == ["theirs", "", "", "", "more than 60 s", "", "", "", ""]


def test_made_texts_are_all_different_and_need_no_quotes(tmp_path):
    source = tmp_path / "headlines.csv"
    source.write_text('1,"floods, ""again"""\n2,calm\n', encoding="utf-8")
    made_texts(tmp_path / "texts.csv", 20_001, source)
    with (tmp_path / "texts.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "text"]
    assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == 20_001
    assert {len(row) for row in rows} == {2}
