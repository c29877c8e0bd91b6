"""A tool's JSON, strictly: every entry with its place, and whatever is broken is said with it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from handouts import handout_of
from hypothesis import given
from hypothesis import strategies as st

from annotation.formats.json_entries import Entry, cell, chosen, outgoing, read_entries, write_lines, write_list
from storage.errors import BatchError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=5)


def saved(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BatchError) as error:
        list(read_entries(path))
    return error.value.what


@given(objects)
def test_what_is_written_is_read_with_its_rows(tmp_path_factory: pytest.TempPathFactory, found: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("json")
    for write, name in ((write_list, "a.json"), (write_lines, "a.jsonl")):
        write(folder / name, found)
        entries = list(read_entries(folder / name))
        assert [entry.values for entry in entries] == found
        assert [entry.row for entry in entries] == list(range(1, len(found) + 1))
        assert (folder / name).read_bytes().isascii()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_read_in_any_layout_and_encoding(tmp_path: Path, encoding: str, indent: int | None) -> None:
    text = "\r\n " + json.dumps([{"text": "Zoë 🔥"}, {"text": "b\u2028c"}], ensure_ascii=False, indent=indent) + "\n\n"
    entries = list(read_entries(saved(tmp_path / "a.json", text.encode(encoding))))
    assert [(entry.row, entry.values["text"]) for entry in entries] == [(1, "Zoë 🔥"), (2, "b\u2028c")]


def test_lines_end_with_line_feeds_only_and_blank_ones_count(tmp_path: Path) -> None:
    text = '{"text": "a\u2028b"}\r\n\r\n  {"text": "c\u0085d"}\n'
    entries = list(read_entries(saved(tmp_path / "a.jsonl", text)))
    assert [(entry.row, entry.values["text"]) for entry in entries] == [(1, "a\u2028b"), (3, "c\u0085d")]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_an_empty_file_has_no_entries(tmp_path: Path, name: str) -> None:
    assert list(read_entries(saved(tmp_path / name, b""))) == []
    assert list(read_entries(saved(tmp_path / name, b"[ ]"))) == []


@pytest.mark.parametrize(
    ("content", "place", "value"),
    [
        ('{"a": 1}\n{"a": \n{"a": 3}\n', "row 2", ""),
        ('{"a": 1}\n{"a": "torn', "row 2", ""),
        ('{"a": 1} {"a": 2}\n', "row 1", ""),
        ('{"a": 1}\n[2]\n', "row 2", ""),
        ('[{"a": 1}, 7]', "entry 2", ""),
        ('[{"a": 1}, {"a": nope}]', "entry 2", ""),
        ('[{"a": 1} {"a": 2}]', "entry 1", ""),
        ('[{"a": 1},', "entry 2", ""),
        ('[{"a": 1}', "entry 1", ""),
        ('[{"a": 1}] and more', "", ""),
        ('[{"a": NaN}]', "entry 1", "NaN"),
        ('{"a": -Infinity}', "row 1", "-Infinity"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "row 1", "'c'"),
        ('{"a": ' + "9" * 5000 + "}", "row 1", ""),
        ('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", "row 1", ""),
        ("[" + '{"a":' * 200_000, "entry 1", ""),
        ("label,item_id\n", "row 1", ""),
    ],
)
def test_what_is_broken_is_refused_with_its_place(tmp_path: Path, content: str, place: str, value: str) -> None:
    path = saved(tmp_path / "a.json", content)
    told = refusal(path)
    assert told.startswith(f"{path}, {place}" if place else str(path))
    assert value in told


def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "none.json", tmp_path, saved(tmp_path / "a.json", b"PK\x03\x04 and so on")):
        assert str(path) in refusal(path)
    monkeypatch.setattr("annotation.formats.json_entries.MAX_BYTES", 10)
    assert "12 bytes" in refusal(saved(tmp_path / "b.json", b'[{"a": 123}]'))


def test_good_entries_come_before_the_broken_one(tmp_path: Path) -> None:
    entries = read_entries(saved(tmp_path / "a.jsonl", '{"a": 1}\n{\n'))
    assert next(entries).values == {"a": 1}
    with pytest.raises(BatchError):
        next(entries)


def test_values_become_cells_and_several_choices_no_answer() -> None:
    odd: list[object] = ["a", None, 7, 7.0, 0.5, True, {}, [], 10**400, float("inf")]
    shown = [cell(value) for value in odd]
    assert shown == ["a", "", "7", "7", "0.5", "true", "(a JSON object)", "(a JSON list)", "1" + "0" * 400, ""]
    assert cell("a\ud800b") == "a\ufffdb"
    assert [chosen(value) for value in ("a", ["a"], ["a", "b"], [], None, 3)] == ["a", "a", "a, b", "", "", "3"]


@pytest.mark.parametrize(
    ("value", "when"),
    [
        (None, None),
        ("2026-01-02T03:04:05.5Z", datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+02:00", datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC)),
        (1767323045, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_times_are_utc_where_no_zone_is_named(
    value: object, when: datetime | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        monkeypatch.setenv("TZ", "Australia/Sydney")
        if hasattr(time, "tzset"):  # not on Windows
            time.tzset()
        assert Entry(1, "a.json, row 1", {}).time(value) == when
    finally:
        monkeypatch.undo()
        if hasattr(time, "tzset"):
            time.tzset()


@pytest.mark.parametrize(
    "value", ["yesterday", "", 10**30, 1e300, float("nan"), True, [1], "0001-01-01T00:00:00+09:00"]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(BatchError, match=r"a\.json, row 1"):
        Entry(1, "a.json, row 1", {}).time(value)


def test_seconds_are_numbers() -> None:
    entry = Entry(1, "a.json, row 1", {})
    assert [entry.seconds(value) for value in (None, 3, 0.25)] == [None, 3.0, 0.25]
    odd: list[object] = ["3", 10**400, float("inf"), False, {}]
    for value in odd:
        with pytest.raises(BatchError, match=r"a\.json, row 1"):
            entry.seconds(value)


def test_an_entry_without_text_or_hash_says_so_and_the_tools_annotator_counts_first() -> None:
    entry = Entry(4, "a.json, row 4", {})
    row = entry.row_of({"item_id": 7, "annotator": "anna"}, "b1", "related")
    assert (row.row, row.item_id, row.batch_id, row.text, row.text_hash) == (4, "7", "b1", None, None)
    assert (row.annotator, entry.row_of({"annotator": "anna"}, "b1", "x", annotator="bo").annotator) == ("anna", "bo")
    assert entry.row_of({"batch_id": "b2", "text": 5}, "b1", "x").cells["batch_id"] == "b2"
    assert entry.row_of({"text": "\ud800"}, "b1", "x").text == "\ufffd"


def test_every_item_has_the_same_keys() -> None:
    plain, adjudicated = handout_of(["a", "b"], annotator="anna"), handout_of(["a", "b"], context="bo: related")
    assert [shown for _, shown, _ in outgoing(plain)] == [{}, {}]
    assert [shown for _, shown, _ in outgoing(adjudicated)] == [{"context": ""}, {"context": "bo: related"}]
    assert [list(sent) for _, _, sent in outgoing(plain)] == [["item_id", "batch_id", "text_hash", "annotator"]] * 2
    assert [list(sent) for _, _, sent in outgoing(adjudicated)] == [["item_id", "batch_id", "text_hash"]] * 2
